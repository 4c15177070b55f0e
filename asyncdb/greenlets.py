"""The only import of SQLAlchemy's greenlet internals, and ``greenlet_spawn`` on greenlets that are used again.

To make a greenlet costs more than to run most of what a request runs in it: its first frames need a page of memory
from the operating system. So one whose function has returned waits for the next function of its thread.

Read in SQLAlchemy 2.1.9 (``sqlalchemy/util/concurrency.py``: ``await_`` switches to the parent of whatever greenlet
says that it is a provider) and greenlet 3.5; ``tests/unit/test_upstream.py`` fails by name when one of them goes away.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import FrameType
from typing import Any, Final, TypeVar

from greenlet import getcurrent, greenlet
from sqlalchemy.util.concurrency import await_, in_greenlet

__all__ = ["await_", "frames_of_the_caller", "greenlet_spawn", "in_greenlet", "spawned"]

T = TypeVar("T")

_MOST_IDLE: Final = 64
"""Greenlets that wait in one thread at most; each keeps some 20 kB, and the peak of a busy loop is soon over."""


class _Worker(greenlet):
    """A greenlet that runs one function after another. One that a function leaves by an exception ends with it."""

    __sqlalchemy_greenlet_provider__ = True

    busy = False
    result: Any = None
    """What the function returned: here, because the frame of a greenlet that waits would keep it alive."""

    def run(self) -> None:
        # The function comes by a switch, also the first: a greenlet keeps the arguments of ``run`` for all its life.
        while True:
            function, args, kwargs = self.parent.switch()  # type: ignore[union-attr]  # it runs: it has a parent
            self.result = function(*args, **kwargs)
            function = args = kwargs = None
            self.busy = False


class _Idle(threading.local):
    """The greenlets of this thread that wait for a function: a greenlet cannot change its thread."""

    def __init__(self) -> None:
        self.workers: list[_Worker] = []


_idle = _Idle()


def _started() -> _Worker:
    worker = _Worker()
    worker.switch()
    return worker


async def greenlet_spawn(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Runs a sync function in a greenlet, in which it waits by ``await_``.

    - **cancel**: raised in the function where it waits.
    """
    return await spawned(function, args, kwargs)


async def spawned(function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> T:
    """The same for arguments that are packed already."""
    here: Any = getcurrent()
    idle = _idle.workers
    worker = idle.pop() if idle else _started()
    worker.parent = here
    worker.gr_context = here.gr_context
    worker.busy = True
    awaited: Awaitable[Any] = worker.switch(function, args, kwargs)
    while worker.busy:
        try:
            value = await awaited
        except BaseException:
            awaited = worker.throw(*sys.exc_info())
        else:
            awaited = worker.switch(value)
    result, worker.result = worker.result, None
    worker.gr_context = None  # it would keep alive whatever the task's context holds
    if len(idle) < _MOST_IDLE:
        idle.append(worker)
    return result  # type: ignore[no-any-return]  # what the function returned


def frames_of_the_caller() -> Iterator[FrameType]:
    """The frames beneath, innermost first: of this greenlet, then of the one that waits for it, and so on."""
    frame: FrameType | None = sys._getframe(1)
    here: Any = getcurrent()
    while frame is not None:
        yield frame
        frame = frame.f_back
        if frame is None and (here := here.parent) is not None:
            frame = here.gr_frame
