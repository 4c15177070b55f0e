"""A ``Database`` on the caller's own connection: sessions and blocks inside the caller's transaction."""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncEngine

from asyncdb import Database, Session
from asyncdb.config import DatabaseConfig, IsolationLevel
from asyncdb.drivers.physical import check_owner, physical
from asyncdb.drivers.statements import Kind
from asyncdb.session import Hook
from asyncdb.transaction import Atomic, AtomicSession, Lent, innermost, lend, take_back

from ..errors import DurableNested
from ..wrappers.base import awaited
from .caller import Caller
from .dialects import engine_on
from .following import Following, FollowingSession
from .joined_link import JoinedLink

__all__ = ["JoinedDatabase", "is_joined"]


class JoinedSession(AtomicSession):
    """The session of a block inside the caller's transaction; its hooks wait for the caller's commit."""

    sync_session_class = FollowingSession
    link: JoinedLink
    following: Following

    def on_commit(self, hook: Hook, *, robust: bool = False) -> None:
        if not callable(hook):
            raise TypeError("on_commit() takes a function without arguments")
        self.link.wrapper.on_commit(awaited(hook), robust)


def is_joined(block: Any) -> bool:
    """Whether this block, which somebody is in, is part of a caller's transaction."""
    return isinstance(block, Lent) and isinstance(block.session, JoinedSession)


class JoinedAtomic(Atomic):
    """A block of Django's on the caller's connection, and the session in it."""

    session_class = JoinedSession

    def __init__(self, database: JoinedDatabase, **options: Any) -> None:
        super().__init__(database.engine, database.config.alias, **options)
        self._database = database
        self._lent: Lent | None = None

    async def __aenter__(self) -> Session:
        outermost = innermost(self._engine) is None
        session: Any = await super().__aenter__()
        if outermost:
            try:
                await session.run_sync(self._begin, session)
                await session.link.follow(session.following)
                self._lend(session)
            except BaseException as err:
                await super().__aexit__(type(err), err, err.__traceback__)
                raise
        return cast("Session", session)

    async def _nested(self, outer: Any) -> Any:
        if self._durable:
            raise DurableNested(f"atomic(durable=True) on {self._alias!r} cannot be nested within another atomic block")
        return await super()._nested(outer)

    def _lend(self, session: Session) -> None:
        """Makes it the block that :class:`asyncdb.Database`'s verbs find, who look for one of the pool's."""
        task = asyncio.current_task()
        self._lent = Lent(
            self._database.of_the_pool, session, partial(check_owner, self._alias, task), self._database.atomic
        )
        lend(self._lent)

    def _begin(self, sync: Any, session: JoinedSession) -> None:
        """Begins now, not before the session's first statement: one of Django's may come earlier. In a greenlet."""
        link: JoinedLink = physical(sync.connection().connection)
        link.durable = self._durable
        link.strict = True
        session.link = link
        try:
            link.before(Kind.CONTROL)
        except RuntimeError as err:
            raise DurableNested(str(err)) from None
        finally:
            link.durable = False
        session.following = Following(sync, link)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lent is not None:
            take_back(self._lent)
        if kind is None and self._block is not None:
            self._spoil_what_failed(self._block.session)
        await super().__aexit__(kind, error, traceback)

    def _spoil_what_failed(self, session: Any) -> None:
        """An error that somebody caught without a savepoint is the block's, as on the pool."""
        if not session.sync_session.is_active:
            session.spoil("a flush of its session failed")
        elif session.link.has_failed and session.spoiled is None:
            session.spoil("a statement of its session failed")


class JoinedDatabase(Database):
    """See :class:`asyncdb.Database`; it opens no connection."""

    def __init__(self, config: DatabaseConfig, caller: Caller, of_the_pool: AsyncEngine) -> None:
        super().__init__(config)
        self.caller = caller
        self.of_the_pool = of_the_pool

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
        self.require_isolation(isolation)
        return JoinedAtomic(self, isolation=isolation, read_only=read_only, savepoint=savepoint, durable=durable)

    async def close(self, *, timeout: float = 5.0) -> None:
        """Rolls back what somebody left open; waits for nobody."""
        self.abandon()
