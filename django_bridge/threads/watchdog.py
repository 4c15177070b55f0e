"""A bound for calls of drivers that have none: when the time is over, the socket is shut down, and the call fails.

One thread looks after all of them; it is started when the first call is bounded, and ends when none was for a while.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asyncdb.drivers.sockets import shut_down

__all__ = ["within"]

_LINGER: Final = 5.0
"""Seconds that the thread waits for a further call: pings and resets come in crowds."""


class _Watchdog:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._watched: dict[int, tuple[float, int]] = {}
        self._numbers = itertools.count()
        self._runs = False

    def watch(self, fileno: int, seconds: float) -> int:
        number = next(self._numbers)
        ends = time.monotonic() + seconds
        with self._lock:
            soonest = min((end for end, _ in self._watched.values()), default=float("inf"))
            self._watched[number] = (ends, fileno)
            starts, self._runs = not self._runs, True
        if starts:
            threading.Thread(target=self._run, name="django_bridge watchdog", daemon=True).start()
        elif ends < soonest:
            self._changed.set()
        return number

    def leave(self, number: int) -> None:
        """Under the lock, so that the file descriptor is not shut down when another connection has its number."""
        with self._lock:
            self._watched.pop(number, None)

    def _run(self) -> None:
        last = time.monotonic()
        while True:
            self._changed.clear()
            with self._lock:
                now = time.monotonic()
                for number, (ends, fileno) in list(self._watched.items()):
                    if ends <= now:
                        del self._watched[number]
                        shut_down(fileno)
                if self._watched:
                    last = now
                    soonest = min(ends for ends, _ in self._watched.values())
                elif now - last >= _LINGER:
                    self._runs = False
                    return
                else:
                    soonest = last + _LINGER
            self._changed.wait(max(soonest - now, 0.0))


_watchdog = _Watchdog()


@contextmanager
def within(seconds: float, fileno: int | None) -> Iterator[None]:
    """Shuts the socket down if the block has not ended within ``seconds``; does nothing where there is no socket."""
    if fileno is None or fileno < 0:
        yield
        return
    watchdog = _watchdog
    number = watchdog.watch(fileno, seconds)
    try:
        yield
    finally:
        watchdog.leave(number)


def begin_anew_after_fork() -> None:
    """The thread stayed with the parent."""
    global _watchdog  # noqa: PLW0603  (one of each process)
    _watchdog = _Watchdog()
