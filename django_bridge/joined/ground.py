"""A block on Django's own connection: entered, left and shared in the thread that owns it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Token
from typing import Any, TypeVar

from django.db import Error
from sqlalchemy.ext.asyncio import AsyncEngine

from asyncdb.config import DatabaseConfig
from asyncdb.drivers.physical import TransactionOptions, check_owner

from ..lending import visible
from ..loops import on_the_loop
from ..shared import SharedTransaction
from ..wrappers.shares import shared_by
from .caller import Caller
from .joined_link import BlockLink, WaitingOwner
from .link import RolledBack
from .turns import Turn

__all__ = ["OnDjango"]

T = TypeVar("T")


class OnDjango:
    """One block's use of a caller's connection."""

    _turn: Turn | None = None
    _seen: Token[Any] | None = None
    _listener: _BeforeTheOrm | None = None
    _atomic: Any = None

    def __init__(self, caller: Caller, engine: AsyncEngine, config: DatabaseConfig) -> None:
        self.wrapper = shared_by(caller.wrapper)
        self.engine = engine
        self._caller = caller
        self._owner = WaitingOwner(asyncio.current_task())
        self._link = BlockLink(self.wrapper, config, caller.place)

    async def wait(self) -> OnDjango:
        """Waits until no other task has a block open on the connection, and lets the loop see it."""
        self._turn = await self._caller.turns.take(self._link, self._owner, self._end)
        self._seen = visible.set({**(visible.get() or {}), self.wrapper.alias: self.wrapper})
        return self

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        return await self._caller.place.call(function, *args)

    def require_task(self) -> None:
        if on_the_loop():  # else it is the thread that owns the connection
            check_owner(self.wrapper.alias, self._owner)

    def link(self) -> BlockLink:
        return self._link

    def begin(self, atomic: Any, options: TransactionOptions) -> None:
        self.wrapper.ensure_connection()
        self._atomic = atomic
        if self._turn is not None:
            self._turn.begins = atomic
        self._link.enter(atomic, options)

    def shares(self, shared: SharedTransaction) -> None:
        self._listener = _BeforeTheOrm(self._link, shared)
        self.wrapper.execute_wrappers.append(self._listener)

    def cut_short(self) -> None:
        """What a cancelled caller has begun in the thread comes to its end there before anything else runs."""

    def abandon(self, shared: SharedTransaction) -> None:
        self._caller.place.soon(self._end, then=_nothing)

    async def over(self) -> None:
        await self.leave()

    async def leave(self) -> None:
        seen, self._seen = self._seen, None
        if seen is not None:
            with suppress(ValueError):  # left in another context than it was entered in
                visible.reset(seen)
        turn, self._turn = self._turn, None
        if turn is not None:
            await self._caller.turns.give_back(turn)

    def _end(self) -> None:
        """Rolls back what is still open, as where the task was cancelled; after a good end there is nothing."""
        while self._atomic is not None and self._atomic in self.wrapper.atomic_blocks:
            self.wrapper.atomic_blocks[-1].__exit__(RolledBack, RolledBack(), None)
        if self._listener is not None:
            if self._listener in self.wrapper.execute_wrappers:
                self.wrapper.execute_wrappers.remove(self._listener)
            if self.wrapper.shared is self._listener.shared:
                self._listener.shared.close()
        self._link.allow_writing()


class _BeforeTheOrm:
    """What Django calls around each of its statements: the session writes what it has changed first."""

    def __init__(self, link: BlockLink, shared: SharedTransaction) -> None:
        self._link = link
        self.shared = shared

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
        over = self.shared.wrapper.shared is not self.shared  # hooks run while the block is being left
        if not over and not self._link.speaking and isinstance(sql, str):
            self.shared.before(sql)
        try:
            return execute(sql, params, many, context)
        except Error as err:
            if not over and self._link.ends_transaction(err):
                self.shared.failed("the server rolled it back (deadlock)", err)
            raise


def _nothing() -> None:
    """Nobody waits for it."""
