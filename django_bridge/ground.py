"""Where a block stands: on the connection of a scope, or, for what is joined, on one of Django's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from django.db import connections
from sqlalchemy.ext.asyncio import AsyncEngine

from asyncdb import Database
from asyncdb.drivers.physical import PhysicalConnection, TransactionOptions

from .connections import spare_wrappers
from .scopes import Scope, enter, inherited, leave, usable
from .shared import SharedTransaction
from .wrappers.base import EAGER

__all__ = ["Ground", "InScope"]

T = TypeVar("T")


class Ground(Protocol):
    """Where a block stands: the connection of the ORM, and the place where it may be used."""

    wrapper: Any
    engine: AsyncEngine
    """The one of the session on the connection."""

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` where the connection may be used."""

    def require_task(self) -> None:
        """Raises in a task that may not use it."""

    def link(self) -> PhysicalConnection:
        """The connection, as SQLAlchemy has it. Where it may be used, as all that follows."""

    def begin(self, atomic: Any, options: TransactionOptions) -> None:
        """Enters Django's block; the outermost one begins with ``options``."""

    def shares(self, shared: SharedTransaction) -> None:
        """Called when a session has come to take part."""

    def cut_short(self) -> None:
        """Ends what a cancelled caller has left running."""

    def abandon(self, shared: SharedTransaction) -> None:
        """Rolls everything back from whatever task, without waiting."""

    async def over(self) -> None:
        """Called when the transaction is over, before its hooks run, which may begin others."""

    async def leave(self) -> None:
        """Called when the block is over, however it ended."""


class InScope:
    """The scope of this task, or one that is made for the block."""

    _made: Scope | None = None
    _token: Any = None

    def __init__(self, database: Database, alias: str) -> None:
        self.engine = database.engine
        self._scope = usable() or self._open_scope()
        try:
            self.wrapper: Any = connections[alias]
        except BaseException:
            self._close_scope()
            raise
        self.require_task = self._scope.require_task
        self.cut_short = self._scope.cut_short

    def _open_scope(self) -> Scope:
        made = self._made = Scope(asyncio.current_task(), asyncio.get_running_loop())
        there = inherited()
        if isinstance(there, Scope):
            made.view_of = there
        self._token = enter(made)
        return made

    def _close_scope(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            try:
                made.close()
                spare_wrappers(made)
            finally:
                leave(self._token)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        return await self._scope.run(function, args, {})

    def link(self) -> PhysicalConnection:
        link: PhysicalConnection = self.wrapper.taken()
        return link

    def begin(self, atomic: Any, options: TransactionOptions) -> None:
        self.wrapper.begins_with = options
        try:
            atomic.__enter__()
        finally:
            self.wrapper.begins_with = EAGER

    def shares(self, shared: SharedTransaction) -> None:
        """The wrapper asks it before each statement."""

    def abandon(self, shared: SharedTransaction) -> None:
        self.wrapper.abandon("its atomic() block was left in another task")
        shared.close()

    async def over(self) -> None:
        """Nobody has been kept waiting."""

    async def leave(self) -> None:
        self._close_scope()
