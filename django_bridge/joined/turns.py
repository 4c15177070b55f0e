"""Who may open a block of Django's on a connection that several tasks share: one after the other, innermost first.

Savepoints of one connection are a stack. A task opens one on top of its own, or of those of the tasks that it
descends from; else it waits until they are over. A block that ends below others is left when they have been; one that
fails takes those above it along.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from asyncdb.drivers.physical import Owner, TransactionOptions, check_owner
from asyncdb.errors import TransactionMisuse

from .link import Link, RolledBack
from .places import Place

__all__ = ["Turn", "Turns", "busy", "somebody_has_a_turn"]

T = TypeVar("T")

_mine: ContextVar[tuple[Turn, ...]] = ContextVar("django_bridge_turns", default=())
"""The turns of this task and of those that it descends from."""
_busy: set[Turns] = set()
"""Those with an open block, so that who need not wait asks nothing else."""


def somebody_has_a_turn() -> bool:
    """Whether there is any block at all that a call might have to wait for."""
    return bool(_busy)


def busy() -> list[Turns]:
    """The stacks of connections on which a block is open."""
    return list(_busy)


class Turn:
    """One block of Django's, while it is open."""

    ended = False
    """Whether its user has done with it, successfully."""
    lost = False
    """Whether it was rolled back along with one below it."""
    over = False
    block: Any = None
    begins: Any = None
    """The block of Django's that somebody else enters and leaves."""
    tidy: Callable[[], None] | None = None
    """What ends that one, if nobody has."""

    def __init__(self, link: Link, owner: Owner | None = None) -> None:
        self.link = link
        self.loop = asyncio.get_running_loop()
        self.owner = owner
        """The one task that may use it, where that is so."""


class Turns:
    """The stack of one connection."""

    def __init__(self, place: Place, alias: str, patience: float) -> None:
        self.place = place
        self._alias = alias
        self._patience = patience
        """Seconds that a task waits for its turn."""
        self._stack: list[Turn] = []
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self, *, as_owner: bool = False) -> None:
        """Waits until the innermost block is this task's or that of one it descends from, or there is none.

        - **errors**: ``TransactionMisuse`` after as long as a checkout may wait (``pool_timeout``); ``as_owner``
          ``TransactionOwnedByTask`` in a block of a task that this one descends from.
        """
        until = time.monotonic() + self._patience
        while self._stack:
            innermost = self._stack[-1]
            if any(turn.link is innermost.link for turn in _mine.get()):
                if as_owner and innermost.owner is not None:
                    check_owner(self._alias, innermost.owner)
                return
            woken = asyncio.get_running_loop().create_future()
            self._waiting.add(woken)
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await woken
            except TimeoutError:
                raise TransactionMisuse(
                    f"another task had a block open on {self._alias!r} for {self._patience:g} s (pool_timeout), and "
                    "tasks that share the caller's connection take turns: await what it waits for outside of its block",
                ) from None
            finally:
                self._waiting.discard(woken)

    async def take(self, link: Link, owner: Owner, tidy: Callable[[], None]) -> Turn:
        """Takes the turn for a block that somebody else enters and leaves; ``tidy`` ends it if nobody has."""
        await self.wait(as_owner=True)
        turn = Turn(link, owner)
        turn.tidy = tidy
        self._push(turn)
        _mine.set((*(other for other in _mine.get() if not other.over), turn))
        return turn

    async def give_back(self, turn: Turn) -> None:
        """Ends such a turn; what is left above it went with its block."""
        try:
            await self.place.call(self._leave, turn, False)  # noqa: FBT003
        except asyncio.CancelledError:
            self.place.soon(self._leave, turn, False, then=self._wake)  # noqa: FBT003
            raise
        finally:
            self._wake()

    def abandon_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Rolls back what tasks of a loop that ends have left open."""
        for turn in reversed(self._stack):
            if turn.loop is loop:
                self.abandon(turn)

    def has_begun(self, wrapper: Any) -> bool:
        """Whether the outermost block of Django's connection is one of these."""
        blocks = wrapper.atomic_blocks
        return bool(blocks) and any(turn.begins is blocks[0] or turn.block is blocks[0] for turn in self._stack)

    async def begin(self, link: Link, options: TransactionOptions | None = None) -> Turn:
        """Opens a block of Django's when it is this task's turn."""
        await self.wait()
        turn = Turn(link)
        self._push(turn)
        try:
            await self.place.call(self._enter, turn, options)
        except BaseException:
            self.abandon(turn)
            raise
        _mine.set((*(other for other in _mine.get() if not other.over), turn))
        return turn

    async def end(self, turn: Turn, *, failed: bool) -> None:
        """Ends a block, or has it end with those above it."""
        try:
            await self.place.call(self._leave, turn, failed)
        except asyncio.CancelledError:
            self.abandon(turn)  # the call may have been dropped; if it was not, this does nothing
            raise
        finally:
            self._wake()

    def abandon(self, turn: Turn) -> None:
        """Rolls a block back without waiting, from whatever state its task was cancelled in."""
        self.place.soon(self._leave, turn, True, then=self._wake)  # noqa: FBT003

    # -- where the connection is ---------------------------------------------------------------------------------

    def _enter(self, turn: Turn, options: TransactionOptions | None) -> None:
        if turn in self._stack:
            turn.block = turn.link.enter_block(options)

    def _leave(self, turn: Turn, failed: bool) -> None:  # noqa: FBT001
        if turn not in self._stack:
            return
        if turn.tidy is not None:
            turn.tidy()
        if not failed and turn.block is not None and self._stack[-1] is not turn:
            turn.ended = True
            return
        while self._stack[-1] is not turn:
            self._stack[-1].lost = True
            self._leave_innermost(failed=True)
        try:
            self._leave_innermost(failed=failed)
        finally:
            while self._stack and self._stack[-1].ended:
                self._leave_innermost(failed=False)

    def _leave_innermost(self, *, failed: bool) -> None:
        turn = self._stack[-1]
        self._forget(turn)
        if turn.block is not None and turn.block in turn.link.wrapper.atomic_blocks:
            turn.link.leave_block(turn.block, RolledBack() if failed else None)

    def _push(self, turn: Turn) -> None:
        self._stack.append(turn)
        _busy.add(self)

    def _forget(self, turn: Turn) -> None:
        turn.over = True
        if turn in self._stack:
            self._stack.remove(turn)
            _busy.discard(self)
            if self._stack:  # asked afterwards: another thread may have opened one
                _busy.add(self)

    def _wake(self) -> None:
        for woken in list(self._waiting):
            loop = woken.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_set, woken)


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
