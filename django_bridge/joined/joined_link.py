"""The link of async code: it asks the caller's thread, and begins a block of Django's where SQLAlchemy wants one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from asyncdb.config import DatabaseConfig
from asyncdb.drivers.physical import Begun, PhysicalConnection
from asyncdb.drivers.statements import Kind
from asyncdb.errors import TransactionPoisoned
from asyncdb.greenlets import await_, in_greenlet
from asyncdb.listening import unheard

from .link import Link
from .places import Place
from .turns import Turn, Turns

__all__ = ["JoinedLink"]

T = TypeVar("T")


class JoinedLink(Link):
    """SQLAlchemy's connection for one session of a task."""

    _turn: Turn | None = None
    durable = False
    """Whether the next block refuses to be nested, but in a test's own."""

    def __init__(self, wrapper: Any, config: DatabaseConfig, place: Place, turns: Turns) -> None:
        super().__init__(wrapper, config)
        self._place = place
        self._turns = turns

    def ask(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` in the caller's thread; directly where a statement of Django's there made us flush."""
        if not in_greenlet():
            return function(*args)
        try:
            return await_(self._place.call(function, *args))
        except Exception:
            raise
        except BaseException:
            self.doom = "cancelled amid a statement"
            raise

    def before(self, kind: Kind) -> None:
        self.kind = kind
        if self._turn is not None and self._turn.lost:
            self.poison = "the block around it was rolled back"
        if not in_greenlet():  # a flush on behalf of a statement of Django's, in a block that has begun
            self.require_usable()
            return
        if self._turn is None:
            await_(self._turns.wait())
        PhysicalConnection.before(self, kind)

    def want_transaction(self) -> None:
        PhysicalConnection.want_transaction(self)

    def needs_begin(self, kind: Kind) -> bool:
        return kind is not Kind.READ

    async def _begin_now(self) -> None:
        try:
            with unheard():  # on the pool it is a BEGIN
                self._turn = await self._turns.begin(self, self.options, durable=self.durable)
        except Exception:
            raise
        except BaseException:
            self.doom = "cancelled while it began"
            raise
        self.begun = Begun.SENT

    def end(self, sql: str) -> None:
        PhysicalConnection.end(self, sql)

    def _say(self, sql: str) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            if turn.lost and sql == "COMMIT":
                raise TransactionPoisoned(
                    f"the transaction on {self.config.alias!r} was not committed: the block around it was rolled back"
                )
            with unheard():
                await_(self._turns.end(turn, failed=sql != "COMMIT"))

    def savepoint(self, name: str) -> None:
        turn: Turn = await_(self._turns.begin(self))
        self._blocks[name] = turn

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
