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
    raise TooLong


def ask() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def interrupted(seconds: float) -> int:
    """Asks for so many seconds; returns how often it was interrupted."""
    from django.db import close_old_connections

    ends, met = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.random() * 0.004 + 0.0001, 0.05)
            while time.monotonic() < ends:  # one that falls into a finalizer is heard by nobody
                ask()
        except TooLong:
            met += 1
        with contextlib.suppress(Exception, TooLong):
            close_old_connections()
    return met


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
    met = 0
    with contextlib.suppress(TooLong):
        met = interrupted(3.0)
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
    print("often" if met > 50 else f"{met} times", "the place is there" if answered else "the place is lost")


if __name__ == "__main__":
    main()
