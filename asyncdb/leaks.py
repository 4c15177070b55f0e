"""Finds who keeps a connection: each one is reported once, with the place that took it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextvars import Context
from dataclasses import dataclass
from types import FrameType
from typing import Any

from .config import DatabaseConfig
from .greenlets import frames_of_the_caller
from .statistics import PoolCounts

log = logging.getLogger("asyncdb.pool")

_OURS = frozenset({"asyncdb", "django_bridge", "sqlalchemy", "django", "asgiref", "asyncio", "contextlib"})
_PLACES = 3
_SHORTEST_LOOK = 0.02


@dataclass(slots=True)
class _Held:
    """A connection that is checked out, and what was seen of it."""

    since: float
    task: str
    places: tuple[tuple[str, int, str], ...]
    reported: bool = False
    reported_idle: bool = False
    idle_since: float | None = None
    asked_at: float = 0.0

    def __str__(self) -> str:
        places = " < ".join(f"{file}:{line} in {name}" for file, line, name in self.places)
        return f"taken by task {self.task!r} at {places or 'a place inside of the libraries'}"


class LeakFinder:
    """Looks after the connections of one pool that are checked out, while there are any."""

    @staticmethod
    def wanted(config: DatabaseConfig) -> bool:
        """Whether the configuration asks for one."""
        return config.leak_after is not None or config.held_idle_after is not None

    def __init__(self, config: DatabaseConfig, counts: PoolCounts) -> None:
        self._alias = config.alias
        self._after, self._idle_after = config.leak_after, config.held_idle_after
        self._counts = counts
        self._held: dict[Any, _Held] = {}
        self._timer: asyncio.TimerHandle | None = None
        shortest = min(limit for limit in (self._after, self._idle_after) if limit is not None)
        self._every = max(shortest / 4, _SHORTEST_LOOK)

    def took(self, record: Any, holder: asyncio.Task[Any] | None) -> None:
        """Notes who takes the connection of ``record``. In a greenlet."""
        name = holder.get_name() if holder is not None else "none"
        self._held[record] = _Held(time.monotonic(), name, tuple(_places()))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every, self._look, context=Context())

    def gave_back(self, record: Any) -> None:
        """Forgets it."""
        held = self._held.pop(record, None)
        if held is not None and held.reported:
            log.warning("%r: a connection came back after %.1f s, %s", self._alias, time.monotonic() - held.since, held)
        if not self._held and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = time.monotonic()
        for record, held in self._held.items():
            if self._after is not None and not held.reported and now - held.since >= self._after:
                held.reported = True
                self._counts.leaks += 1
                log.warning(
                    "%r: a connection is held for %.1f s (leak_after %g s), %s",
                    self._alias, now - held.since, self._after, held,
                )  # fmt: skip
            if self._idle_after is not None and not held.reported_idle and record.dbapi_connection is not None:
                self._look_whether_idle(record.dbapi_connection, held, now, self._idle_after)
        self._timer = asyncio.get_running_loop().call_later(self._every, self._look, context=Context())

    def _look_whether_idle(self, link: Any, held: _Held, now: float, limit: float) -> None:
        if link.waits_for_reply or link.asked_at != held.asked_at or held.idle_since is None:
            held.asked_at, held.idle_since = link.asked_at, None if link.waits_for_reply else now
        elif now - held.idle_since >= limit:
            held.reported_idle = True
            log.warning(
                "%r: a connection is held for %.1f s in which nothing was asked of it (held_idle_after %g s), %s: "
                "await other things outside of the block",
                self._alias, now - held.idle_since, limit, held,
            )  # fmt: skip


def _places() -> Iterator[tuple[str, int, str]]:
    """The innermost places of the caller's own code."""
    found = 0
    for frame in frames_of_the_caller():
        if not _is_a_librarys(frame):
            yield frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
            found += 1
            if found == _PLACES:
                return


def _is_a_librarys(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _OURS
