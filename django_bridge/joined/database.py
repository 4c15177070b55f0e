"""A ``Database`` on the caller's own connection: sessions and blocks inside the caller's transaction."""

from __future__ import annotations

from types import TracebackType
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncEngine

from asyncdb import Database, Session
from asyncdb.config import DatabaseConfig, IsolationLevel
from asyncdb.drivers.physical import physical
from asyncdb.drivers.statements import Kind
from asyncdb.errors import TransactionMisuse
from asyncdb.session import Hook
from asyncdb.transaction import Atomic, AtomicSession, innermost

from ..errors import DurableNested
from ..wrappers.base import awaited
from .caller import Caller
from .dialects import engine_on
from .following import Following, FollowingSession
from .joined_link import JoinedLink

__all__ = ["JoinedDatabase"]


class JoinedSession(AtomicSession):
    """The session of a block inside the caller's transaction; its hooks wait for the caller's commit."""

    sync_session_class = FollowingSession
    link: JoinedLink
    following: Following

    def on_commit(self, hook: Hook, *, robust: bool = False) -> None:
        if not callable(hook):
            raise TypeError("on_commit() takes a function without arguments")
        self.link.wrapper.on_commit(awaited(hook), robust)


class JoinedAtomic(Atomic):
    """A block of Django's on the caller's connection, and the session in it."""

    session_class = JoinedSession

    def __init__(self, caller: Caller, engine: AsyncEngine, alias: str, **options: Any) -> None:
        super().__init__(engine, alias, **options)
        self._caller = caller
        self._following: Following | None = None

    async def __aenter__(self) -> Session:
        outermost = innermost(self._engine) is None
        session: Any = await super().__aenter__()
        if outermost:
            try:
                await session.run_sync(self._begin, session)
                await self._caller.place.call(self._following.begin)  # type: ignore[union-attr]  # just made
            except BaseException as err:
                await super().__aexit__(type(err), err, err.__traceback__)
                raise
        return cast("Session", session)

    def _begin(self, sync: Any, session: JoinedSession) -> None:
        """Begins now, not before the session's first statement: one of Django's may come earlier. In a greenlet."""
        link: JoinedLink = physical(sync.connection().connection)
        link.durable = self._durable
        session.link = link
        try:
            link.before(Kind.CONTROL)
        except RuntimeError as err:
            raise DurableNested(str(err)) from None
        finally:
            link.durable = False
        self._following = session.following = Following(sync, link)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._following is not None:
            await self._caller.place.call(self._following.end)
        await super().__aexit__(kind, error, traceback)


class JoinedDatabase(Database):
    """See :class:`asyncdb.Database`; it opens no connection."""

    def __init__(self, config: DatabaseConfig, caller: Caller) -> None:
        super().__init__(config)
        self.caller = caller

    def _make_engine(self) -> AsyncEngine:
        caller, config = self.caller, self.config
        return engine_on(caller.wrapper, config, lambda: JoinedLink(caller.wrapper, config, caller.place, caller.turns))

    def atomic(
        self,
        *,
        isolation: IsolationLevel | None = None,
        read_only: bool = False,
        savepoint: bool = True,
        durable: bool = False,
    ) -> JoinedAtomic:
        if isolation is not None or read_only:
            raise TransactionMisuse(
                f"isolation and read_only on {self.config.alias!r} were chosen where the caller's transaction began, "
                "which this block joins: leave them out, or test it in a TransactionTestCase, which joins nothing",
            )
        return JoinedAtomic(
            self.caller,
            self.engine,
            self.config.alias,
            isolation=None,
            read_only=False,
            savepoint=savepoint,
            durable=durable,
        )

    async def close(self, *, timeout: float = 5.0) -> None:
        """Rolls back what somebody left open; waits for nobody."""
        self.abandon()
