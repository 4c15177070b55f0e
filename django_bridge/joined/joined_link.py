"""The link of async code: it asks the caller's thread, and begins a block of Django's where SQLAlchemy wants one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from asyncdb.config import DatabaseConfig
from asyncdb.drivers.physical import Begun, PhysicalConnection
from asyncdb.drivers.statements import Kind
from asyncdb.errors import TransactionMisuse, TransactionPoisoned
from asyncdb.greenlets import await_, in_greenlet
from asyncdb.listening import unheard

from .following import Following
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

    async def follow(self, following: Following) -> None:
        """Has ``following`` called around Django's statements until the block that is open ends, however it does."""
        turn = self._turn
        assert turn is not None, "no block is open"
        turn.following = following
        await self._place.call(following.begin)

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
        if kind is Kind.BOUNDARY:
            raise TransactionMisuse(
                f"the transaction on {self.config.alias!r} is that of the sync code beneath: use session.commit() and "
                "rollback(), which are about a savepoint there",
            )
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
                self._turn = await self._turns.begin(self, self._place, self.options, durable=self.durable)
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
                self._end_turn(turn, failed=sql != "COMMIT")

    def _end_turn(self, turn: Turn, *, failed: bool) -> None:
        if in_greenlet():
            await_(self._turns.end(turn, failed=failed))
        else:  # a flush on behalf of a statement of Django's failed
            self._turns.end_here(turn, failed=failed)

    def savepoint(self, name: str) -> None:
        self.before(Kind.CONTROL)  # it stands in a block, which begins first
        turn: Turn = await_(self._turns.begin(self, self._place))
        self._blocks[name] = turn

    def release(self, name: str) -> None:
        self._end_turn(self._blocks.pop(name), failed=False)

    def roll_back_to(self, name: str) -> None:
        self._end_turn(self._blocks.pop(name), failed=True)

    def abort(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            self._turns.abandon(turn)
        for inner in reversed(list(self._blocks.values())):
            self._turns.abandon(inner)
        self._blocks.clear()
