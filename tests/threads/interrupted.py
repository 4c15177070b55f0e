"""A process whose main thread is interrupted at any line, as Celery's soft time limit does it: ``… NAME_OF_A_FILE``.

Prints how often, and whether the pool's one place and its lock are there afterwards. In a process of its own, for what
is raised by a signal may fall into whatever runs.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import threading
import time
from typing import Any

import django
from django.conf import settings


class TooLong(BaseException):
    """What the signal raises."""


def raises(*_: Any) -> None:
    met.append(None)
    raise TooLong


def ask() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


met: list[None] = []
"""One for each interruption, counted where it is raised."""


def interrupted(ends: float) -> None:
    """Asks, and lets go, until then, or until it is interrupted where nothing is caught."""
    from django.db import close_old_connections

    while time.monotonic() < ends:
        with contextlib.suppress(TooLong):
            signal.setitimer(signal.ITIMER_REAL, random.random() * 0.004 + 0.0001, 0.05)
            while time.monotonic() < ends:  # one that falls into a finalizer is heard by nobody
                ask()
        with contextlib.suppress(Exception, TooLong):
            close_old_connections()


def main() -> None:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
        ASYNC_DB={"default": {"thread_pool": True, "thread_pool_size": 1, "thread_pool_timeout": 5.0}},
        INSTALLED_APPS=["django_bridge"],
    )
    django.setup()
    from django.db import connection

    sys.unraisablehook = lambda _: None
    signal.signal(signal.SIGALRM, raises)
    ends = time.monotonic() + 3.0
    while time.monotonic() < ends:
        with contextlib.suppress(TooLong):
            interrupted(ends)
    for _ in range(3):  # the last of them may come before it is ignored
        with contextlib.suppress(TooLong):
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    connection.close()
    answered: list[bool] = []

    def another() -> None:
        ask()
        connection.close()
        answered.append(True)

    thread = threading.Thread(target=another, daemon=True)
    thread.start()
    thread.join(10)
    print("often" if len(met) > 50 else f"{len(met)} times", "the place is there" if answered else "the place is lost")


if __name__ == "__main__":
    main()
