"""The links of async code: they ask the thread that owns the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import OperationalError

from asyncdb.config import DatabaseConfig
from asyncdb.drivers.physical import Begun, Owner, PhysicalConnection
from asyncdb.drivers.statements import Kind
from asyncdb.errors import TransactionMisuse, TransactionPoisoned
from asyncdb.greenlets import await_, in_greenlet
from asyncdb.listening import unheard

from ..ownership import acts_for
from .link import Link
from .places import Place
from .turns import Turn, Turns

__all__ = ["BlockLink", "JoinedLink", "WaitingOwner"]

T = TypeVar("T")


class WaitingOwner(Owner):
    """A task, and whoever acts for it while it waits for a thread."""

    __slots__ = ()

    def admits(self, task: asyncio.Task[Any] | None) -> bool:
        return task is self.task or (self.task is not None and acts_for(self.task, task))


class _Asking(Link):
    """What asks from the loop."""

    def __init__(self, wrapper: Any, config: DatabaseConfig, place: Place) -> None:
        super().__init__(wrapper, config)
        self._place = place

    def ask(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` in the caller's thread; directly where this is it, for a statement of Django's."""
        if not in_greenlet():
            return function(*args)
        try:
            return await_(self._place.call(function, *args))
        except Exception:
            raise
        except BaseException:
            self.doom = "cancelled amid a statement"
            raise


class BlockLink(_Asking):
    """SQLAlchemy's connection for the session of a block, whose transaction is the block's."""

    def before(self, kind: Kind) -> None:
        if self.keeper is not None:
            self.keeper.admit(kind)
        self.require_usable()
        if kind is Kind.BOUNDARY:
            self.refuse_boundary()


class JoinedLink(_Asking):
    """SQLAlchemy's connection for one session of a task; its transaction is a block of Django's."""

    _turn: Turn | None = None

    def __init__(self, wrapper: Any, config: DatabaseConfig, place: Place, turns: Turns) -> None:
        super().__init__(wrapper, config, place)
        self._turns = turns

    def before(self, kind: Kind) -> None:
        self.kind = kind
        if kind is Kind.BOUNDARY:
            raise TransactionMisuse(
                f"the transaction on {self.config.alias!r} is that of the sync code beneath: use session.commit() and "
                "rollback(), which are about a savepoint there",
            )
        if self._turn is None:
            await_(self._turns.wait())
        elif self._turn.lost:
            self.poison = "the block around it was rolled back"
        PhysicalConnection.before(self, kind)

    def want_transaction(self) -> None:
        PhysicalConnection.want_transaction(self)

    def needs_begin(self, kind: Kind) -> bool:
        return kind is not Kind.READ

    async def _begin_now(self) -> None:
        try:
            with unheard():  # on the pool it is a BEGIN
                self._turn = await self._turns.begin(self, self.options)
        except Exception:
            raise
        except BaseException:
            self.doom = "cancelled while it began"
            raise
        self.begun = Begun.SENT

    def end(self, sql: str) -> None:
        PhysicalConnection.end(self, sql)

    def commit_now(self) -> None:
        """Ends Django's block, which says by itself what became of it: no reply is waited for here."""
        self._say("COMMIT")

    def _say(self, sql: str) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            if turn.lost and sql == "COMMIT":
                raise TransactionPoisoned(
                    f"the transaction on {self.config.alias!r} was not committed: the block around it was rolled back"
                )
            with unheard():
                await_(self._turns.end(turn, failed=sql != "COMMIT"))

    async def prove_alive(self, *, within: float) -> None:
        async with asyncio.timeout(within):
            if not await self._place.call(self.wrapper.is_usable):
                raise OperationalError(f"the caller's connection {self.config.alias!r} does not answer")

    def savepoint(self, name: str) -> None:
        self.before(Kind.CONTROL)  # it stands in a block, which begins first
        self._blocks[name] = await_(self._turns.begin(self))

    def release(self, name: str) -> None:
        await_(self._turns.end(self._blocks.pop(name), failed=False))

    def roll_back_to(self, name: str) -> None:
        await_(self._turns.end(self._blocks.pop(name), failed=True))

    def abort(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            self._turns.abandon(turn)
        for inner in reversed(list(self._blocks.values())):
            self._turns.abandon(inner)
        self._blocks.clear()
