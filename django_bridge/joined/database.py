"""A ``Database`` on Django's own connection: sessions and blocks inside the caller's transaction."""

from __future__ import annotations

import asyncio
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from asyncdb import Database
from asyncdb.config import IsolationLevel

from ..block import Block
from .caller import Caller
from .dialects import engine_on
from .ground import OnDjango
from .joined_link import JoinedLink

__all__ = ["JoinedDatabase"]


class JoinedDatabase(Database):
    """See :class:`asyncdb.Database`; it opens no connection."""

    def __init__(self, of_the_pool: Database, caller: Caller) -> None:
        super().__init__(of_the_pool.config)
        self._of_the_pool = of_the_pool
        self._caller = caller

    def _make_engine(self) -> AsyncEngine:
        caller, config = self._caller, self.config
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
            self._of_the_pool,
            self.config.alias,
            self._ground,
            isolation=isolation,
            read_only=read_only,
            savepoint=savepoint,
            durable=durable,
        )

    async def _ground(self) -> OnDjango:
        return await OnDjango(self._caller, self.engine, self.config).wait()

    async def close(self, *, timeout: float = 5.0) -> None:
        """Rolls back what somebody left open; waits for nobody."""
        self._caller.turns.abandon_all(asyncio.get_running_loop())
        self.abandon()
