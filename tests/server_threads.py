"""How many connections a server has, watched from the server itself while something else goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from asyncdb.testing import DatabaseServer


@dataclass
class Seen:
    """What the watcher has seen so far."""

    most: int = 0
    samples: int = 0
    at_most: list[tuple[int, str, str | None]] = field(default_factory=list)
    """The number, the command and the state of each connection when there were most, for who reads a failure."""


_LEAVING = 0.5
"""Seconds for which a busy server may list a connection that its client has closed, beside the one that replaces it."""


@contextmanager
def watched_threads(server: DatabaseServer, *, database: str | None = None) -> Iterator[Seen]:
    """Asks all the time for the connections to ``database``, or to any; a server that restarts is asked again.

    A connection counts once it has been there for ``_LEAVING`` seconds.
    """
    seen, over = Seen(), threading.Event()
    since: dict[int, float] = {}

    def watch() -> None:
        nonlocal since
        while not over.wait(0.02):
            try:
                listed = [c for c in server.connections() if database in (None, c.database)]
            except Exception:  # it is being restarted
                over.wait(0.1)
                continue
            now = time.monotonic()
            since = {c.id: since.get(c.id, now) for c in listed}
            stayed = [(c.id, c.command, c.state) for c in listed if now - since[c.id] >= _LEAVING]
            seen.samples += 1
            if len(stayed) > seen.most:
                seen.most, seen.at_most = len(stayed), stayed

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
