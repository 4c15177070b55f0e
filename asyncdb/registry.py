"""One ``Database`` per (alias, event loop, process), closed with its loop.

A loop that ends as ``asyncio.run`` and ``async_to_sync`` end it closes its databases by itself: they hang on an
asynchronous generator, and those are shut down with the loop. A loop that was closed otherwise is swept at the next
call. A fork leaves the parent's connections alone: the child keeps them untouched and starts with none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from .database import Database
from .errors import NoEventLoop


@dataclass(eq=False)
class _Loop:
    """The databases of one event loop, and the generator that closes them."""

    loop: asyncio.AbstractEventLoop
    databases: dict[str, Database] = field(default_factory=dict)
    guard: AsyncGenerator[None, None] | None = None


_lock = threading.Lock()
_loops: dict[int, _Loop] = {}
_of_the_parent: list[object] = []
"""What a fork inherited: kept, so that no finalizer closes a socket that the parent still uses."""


def get(alias: str, build: Callable[[], Database]) -> Database:
    """Returns the database of ``alias`` for the running loop, and builds it with ``build`` if there is none.

    - **errors**: ``NoEventLoop`` where no asyncio loop runs.
    """
    entry = _entry_of_running_loop()
    database = entry.databases.get(alias)
    if database is None or database.closed:
        database = entry.databases[alias] = build()
    return database


def _entry_of_running_loop() -> _Loop:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise NoEventLoop(
            "no asyncio event loop runs here: call from async code under asyncio (trio is not supported), "
            "or use the synchronous ORM",
        ) from None
    entry = _loops.get(id(loop))
    if entry is not None and entry.loop is loop:
        return entry
    with _lock:
        _sweep()
        entry = _loops[id(loop)] = _Loop(loop)
    entry.guard = _close_with_loop(entry)
    with contextlib.suppress(StopIteration):
        entry.guard.asend(None).send(None)  # runs to the yield, which tells the loop of the generator
    return entry


async def _close_with_loop(entry: _Loop) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await _close(entry)


async def _close(entry: _Loop, *, timeout: float = 5.0) -> None:
    with _lock:
        if _loops.get(id(entry.loop)) is entry:
            del _loops[id(entry.loop)]
    databases = list(entry.databases.values())
    entry.databases.clear()
    await asyncio.gather(*(database.close(timeout=timeout) for database in databases))


def _sweep() -> None:
    """Forgets loops that are closed, and closes the sockets that they left behind."""
    for key, entry in list(_loops.items()):
        if entry.loop.is_closed():
            del _loops[key]
            for database in list(entry.databases.values()):
                database.abandon()


async def close_all(*, timeout: float = 5.0) -> None:
    """Closes every database of the running loop, side by side, within ``timeout`` seconds.

    - **cancel**: closes what is left by force.
    """
    entry = _loops.get(id(asyncio.get_running_loop()))
    if entry is None:
        return
    guard = entry.guard
    await _close(entry, timeout=timeout)
    if guard is not None:
        await guard.aclose()


def forget(alias: str) -> list[Database]:
    """Lets the next :func:`get` of ``alias`` build anew, on every loop; returns what was forgotten, for closing."""
    with _lock:
        _sweep()
        entries = list(_loops.values())
    return [database for entry in entries if (database := entry.databases.pop(alias, None)) is not None]


def databases() -> list[Database]:
    """Every open database of this process, whatever its loop."""
    with _lock:
        _sweep()
        # Copies: each loop adds its own without the lock, in its thread.
        return [database for entry in list(_loops.values()) for database in list(entry.databases.values())]


def _start_anew_after_fork() -> None:
    global _lock  # noqa: PLW0603  (another thread of the parent may have held it)
    _lock = threading.Lock()
    _of_the_parent.append(dict(_loops))
    _loops.clear()


os.register_at_fork(after_in_child=_start_anew_after_fork)
