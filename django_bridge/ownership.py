"""Which task or thread acts for which: told from who waits for whom, at this moment.

``sync_to_async`` makes a task wait for a thread, and ``async_to_sync`` in that thread makes it wait for a new task.
While a task waits so, what it waits for may act in its place; nothing else may. asgiref hands both ends of such a
wait one and the same list (``task_context``), by which they are recognised.

Read in asgiref 3.13 (``sync.py``: ``SyncToAsync.__call__``, ``thread_handler``, ``threadlocal``,
``AsyncToSync.main_wrap``, ``executors``; ``local.py``: ``_CVar``). The way of the waits is told by ``cr_await`` and its
kin (Python manual, ``inspect``).
"""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync

__all__ = [
    "Errand",
    "acts_for",
    "at_the_end_of_its_errand",
    "at_the_end_of_its_outermost_errand",
    "errand_of_this_thread",
    "errand_to_its_end",
    "has_sync_caller",
    "is_in_a_thread_of_many_requests",
    "is_the_thread_of_its_context",
    "loop_of_this_thread",
    "runs_for",
    "waiter_for",
]

Errand = list[Any]
"""One call of ``sync_to_async``, by asgiref's list of the tasks that its thread waits for."""

_CALL = SyncToAsync.__call__.__code__
_SUSPENDED = (CoroutineType, AsyncGeneratorType, GeneratorType)
_executors: Any = AsyncToSync.executors
try:
    _in_this_context: Callable[[], object] = functools.partial(_executors._storage._data.get, None)
    """What asgiref keeps of ``executors`` in this context: mostly nothing, of which it makes an error each time."""
except AttributeError:  # an asgiref that keeps it elsewhere is asked itself
    _in_this_context = object


def errand_of_this_thread() -> Errand | None:
    """The call of ``sync_to_async`` that this thread works on; None in any other thread."""
    return getattr(SyncToAsync.threadlocal, "task_context", None)


def loop_of_this_thread() -> asyncio.AbstractEventLoop | None:
    """The loop whose task waits for this thread."""
    return getattr(SyncToAsync.threadlocal, "main_event_loop", None)


_ends = threading.local()
"""Of the call that a thread works on: ``due``, what is called when it ends; ``sensitive``, whether it is
thread-sensitive; ``last``, what is called when the outermost one ends, by whose it is."""


def at_the_end_of_its_errand(function: Callable[[], object]) -> None:
    """Has ``function`` called, in this thread, when the call of ``sync_to_async`` that it works on ends."""
    _ends.due.append(function)


def is_in_a_thread_of_many_requests() -> bool:
    """Whether this thread works on a call of ``sync_to_async`` outside of any request's own ``ThreadSensitiveContext``.

    Such a thread, asgiref's one for all tasks, or one of an executor, never hears of a request's end. One that waits by
    ``async_to_sync`` for what called is none: it goes on with its own work.
    """
    return (
        errand_of_this_thread() is not None
        and SyncToAsync.thread_sensitive_context.get(None) is None
        and (_in_this_context() is None or getattr(_executors, "current", None) is None)
    )


def is_the_thread_of_its_context() -> bool:
    """Whether this thread is the one to which its task sends what is thread-sensitive, as Django's own code is."""
    return getattr(_ends, "sensitive", False)


def at_the_end_of_its_outermost_errand(whose: object, function: Callable[[], object]) -> None:
    """Has ``function`` called, once for each ``whose``, when the outermost call of ``sync_to_async`` here ends."""
    last: dict[int, Callable[[], object]] | None = getattr(_ends, "last", None)
    if last is not None:
        last[id(whose)] = function


def errand_to_its_end(handler: Callable[..., Any]) -> Callable[..., Any]:
    """``SyncToAsync.thread_handler`` that leaves its thread as it found it, and says when it ends.

    asgiref's leaves the list of its call behind. A thread that runs another call while it waits by ``async_to_sync``
    would go on under that one's name, and ``async_to_sync`` there would tell the wrong task for whom it waits.
    """

    @functools.wraps(handler)
    def handle(*args: Any, **kwargs: Any) -> Any:
        before, due_before, sensitive = (
            errand_of_this_thread(),
            getattr(_ends, "due", None),
            is_the_thread_of_its_context(),
        )
        due: list[Callable[[], object]] = []
        _ends.due = due
        _ends.sensitive = args[0]._thread_sensitive
        if due_before is None:
            _ends.last = {}
        try:
            return handler(*args, **kwargs)
        finally:
            SyncToAsync.threadlocal.task_context, _ends.due, _ends.sensitive = before, due_before, sensitive
            for function in due:
                function()
            if due_before is None:
                last, _ends.last = _ends.last, None
                for function in last.values():
                    function()

    return handle


def has_sync_caller() -> bool:
    """Whether sync code waits beneath this task by ``async_to_sync``, in whose thread ``sync_to_async`` works.

    A task that was started with an empty context is told by its loop, as asgiref does.
    """
    if _in_this_context() is not None and getattr(_executors, "current", None) is not None:
        return True
    loops = AsyncToSync.loop_thread_executors
    return (
        bool(loops) and SyncToAsync.thread_sensitive_context.get(None) is None and asyncio._get_running_loop() in loops
    )


def acts_for(owner: asyncio.Task[Any], task: asyncio.Task[Any] | None) -> bool:
    """Whether ``owner`` waits, through threads, for nothing but ``task``."""
    return any(task in errand for errand in _errands(owner))


def runs_for(owner: asyncio.Task[Any], errand: Errand | None) -> bool:
    """Whether ``owner`` waits, through threads, for the thread that works on ``errand`` now."""
    last = None
    for last in _errands(owner):  # noqa: B007  (the innermost wait counts)
        pass
    return errand is not None and last is errand


def waiter_for(errand: Errand) -> asyncio.Task[Any] | None:
    """The task of the running loop that waits for ``errand``; None once nobody waits any more."""
    for task in asyncio.all_tasks():
        if _errand_awaited_by(task) is errand:
            return task
    return None


def _errands(owner: asyncio.Task[Any]) -> Iterator[Errand]:
    """The calls of ``sync_to_async`` that ``owner`` waits for, outermost first."""
    task: asyncio.Task[Any] | None = owner
    while task is not None and (errand := _errand_awaited_by(task)) is not None:
        yield errand
        task = errand[-1] if errand else None


def _errand_awaited_by(task: asyncio.Task[Any]) -> Errand | None:
    found = None
    for frame in _frames(task):
        if frame.f_code is _CALL:
            found = frame.f_locals.get("task_context")
    return found


def _frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """The frames in which a task is suspended, outermost first."""
    step: Any = task.get_coro()
    while step is not None:
        if isinstance(step, CoroutineType):
            frame, step = step.cr_frame, step.cr_await
        elif isinstance(step, AsyncGeneratorType):
            frame, step = step.ag_frame, step.ag_await
        elif isinstance(step, GeneratorType):
            frame, step = step.gi_frame, step.gi_yieldfrom
        else:
            # An iterator of the interpreter's around one of them (``anext()``, ``__await__``), without a name for it.
            step = next((part for part in gc.get_referents(step) if isinstance(part, _SUSPENDED)), None)
            continue
        if frame is not None:
            yield frame
