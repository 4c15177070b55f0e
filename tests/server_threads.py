"""How many connections a server has, watched from the server itself while something else goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from asyncdb.testing import DatabaseServer


@dataclass
class Seen:
    """What the watcher has seen so far."""

    most: int = 0
    samples: int = 0


@contextmanager
def watched_threads(server: DatabaseServer, *, database: str | None = None) -> Iterator[Seen]:
    """Asks all the time for the connections to ``database``, or to any; a server that restarts is asked again."""
    seen, over = Seen(), threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            try:
                now = sum(database in (None, connection.database) for connection in server.connections())
            except Exception:  # it is being restarted
                over.wait(0.1)
                continue
            seen.most, seen.samples = max(seen.most, now), seen.samples + 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
