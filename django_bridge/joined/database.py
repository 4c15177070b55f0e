"""A ``Database`` on Django's own connection: sessions and blocks inside the caller's transaction.

There are as many as connections of Django's, and under ASGI those come and go with the threads of the requests: so each
hangs on its caller, and the registry has one thing for all of them, which ends with the loop what is left.
"""

from __future__ import annotations

import asyncio
from functools import partial
from weakref import WeakSet

from sqlalchemy.ext.asyncio import AsyncEngine

from asyncdb import Database
from asyncdb.config import IsolationLevel

from ..block import Block
from .caller import Caller
from .dialects import engine_on
from .ground import OnDjango
from .joined_link import JoinedLink

__all__ = ["JoinedDatabase", "JoinedDatabases"]


class JoinedDatabase(Database):
    """See :class:`asyncdb.Database`; it opens no connection."""

    def __init__(self, of_the_pool: Database, caller: Caller) -> None:
        super().__init__(of_the_pool.config)
        self.of_the_pool = of_the_pool
        self.caller = caller

    def _make_engine(self) -> AsyncEngine:
        caller, config = self.caller, self.config
        return engine_on(
            caller.wrapper, config, partial(JoinedLink, caller.wrapper, config, caller.place, caller.turns)
        )

    def atomic(
        self,
        *,
        isolation: IsolationLevel | None = None,
        read_only: bool = False,
        savepoint: bool = True,
        durable: bool = False,
    ) -> Block:
        return Block(
            self.of_the_pool,
            self.config.alias,
            self._ground,
            isolation=isolation,
            read_only=read_only,
            savepoint=savepoint,
            durable=durable,
        )

    async def _ground(self) -> OnDjango:
        return await OnDjango(self.caller, self.engine, self.config).wait()

    async def close(self, *, timeout: float = 5.0) -> None:
        """Rolls back what somebody left open; waits for nobody."""
        self.caller.turns.abandon_all(asyncio.get_running_loop())
        self.abandon()


class JoinedDatabases(Database):
    """Those of one alias on one event loop."""

    def __init__(self, of_the_pool: Database) -> None:
        super().__init__(of_the_pool.config)
        self._each: WeakSet[JoinedDatabase] = WeakSet()

    def of(self, caller: Caller, of_the_pool: Database) -> JoinedDatabase:
        """The one of ``caller``; another one where settings have changed, and with them that ``of_the_pool``."""
        found: JoinedDatabase | None = caller.joined.get(self)
        if found is None or found.of_the_pool is not of_the_pool:
            found = caller.joined[self] = JoinedDatabase(of_the_pool, caller)
            self._each.add(found)
        return found

    def _taken(self) -> list[JoinedDatabase]:
        """Takes them from their callers, whose connections may outlive the loop."""
        self.closed = True
        every = list(self._each)
        for one in every:
            one.caller.joined.pop(self, None)
        return every

    async def close(self, *, timeout: float = 5.0) -> None:
        for one in self._taken():
            await one.close(timeout=timeout)

    def retire(self) -> None:
        for one in self._taken():
            one.retire()

    def abandon(self) -> None:
        for one in self._taken():
            one.abandon()
