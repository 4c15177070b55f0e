"""``run_django``, and what stands in the place of ``sync_to_async`` in Django's own modules.

Django's code runs unmodified in a greenlet on the event loop: where it would wait for the database, the loop goes on.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cached_db import SessionStore as CachedDatabaseSession
from django.contrib.sessions.backends.db import SessionStore as DatabaseSession
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import DatabaseCache
from django.core.signals import request_finished, request_started
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model, QuerySet

from asyncdb.greenlets import await_

from .connections import is_native, spare_wrappers, threads_are_used
from .flowing import beneath_a_plain_thread
from .in_tests import never_beside, watched
from .joined.caller import lent_by_a_test, turn_of_this_task
from .joined.turns import somebody_has_a_turn
from .scope_threads import waiting_for_the_loop
from .scopes import Scope, enabled, enter, has_caller, inherited, leave, left_to_django, usable
from .set_apart import belongs_into_its_thread, in_our_greenlet

__all__ = [
    "asyncio_in_order",
    "await_in_greenlet",
    "in_order",
    "native",
    "rows_from_the_first_step",
    "run_django",
]

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("django_bridge.native")

_Generate = Callable[[Any], AsyncGenerator[Any, None]]


async def run_django(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs sync Django code on the event loop, without a thread: a form's ``save``, a service, ``call_command``.

    Its queries wait without blocking the loop, on the connection of the scope that is open, else of one for this call.
    Whatever else it does (computing, files, HTTP requests) blocks the loop: under ``DEBUG`` a warning names a function
    that blocks longer than the loop's ``slow_callback_duration`` (0.1 s) outside of database waits.

    Where the default alias stays in threads (``"mode": "threads"``), the function runs in one; so does a function whose
    module uses a ``threading.local`` that is not settled (check W006).

    - **errors**: those of ``function``; ``TypeError`` for a coroutine function;
    - **cancel**: raised in ``function`` where it waits for the database; that connection is closed.
    """
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"run_django: {_name(function)} is async: await it directly")
    if not enabled() or left_to_django() or not is_native(DEFAULT_DB_ALIAS) or belongs_into_its_thread(function):
        return await _in_thread(function, *args, **kwargs)
    work = _run(function, args, kwargs)
    return await (_Watched(work, _name(function)) if settings.DEBUG else work)


def native(function: Any = None, *, thread_sensitive: bool = True, **options: Any) -> Any:
    """Stands in for ``sync_to_async``: the function runs in a greenlet on the loop where that is safe."""
    if function is None:
        return functools.partial(native, thread_sensitive=thread_sensitive, **options)
    if watched():
        has_caller()  # before a thread is chosen: a request that a test sends belongs to the test
    if thread_sensitive and not options and _is_safe(function):
        return functools.partial(
            _next_rows if getattr(function, "__name__", "") == "next_slice" else _run_or_leave, function
        )
    return sync_to_async(function, thread_sensitive=thread_sensitive, **options)


async def _run_or_leave(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    if (
        left_to_django()
        or (threads_are_used() and _stays_in_threads(function, kwargs))
        or belongs_into_its_thread(function)
    ):
        return await _in_thread(function, *args, **kwargs)
    return await _run(function, args, kwargs)


async def _in_thread(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """As Django does it; but no statement falls into a block that another task has open on the same connection."""
    if somebody_has_a_turn():
        await turn_of_this_task()
    if watched():
        has_caller()
        return await sync_to_async(_beside_no_test)(function, *args, **kwargs)
    return await sync_to_async(function)(*args, **kwargs)


def _beside_no_test(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    with never_beside():
        return function(*args, **kwargs)


async def _next_rows(function: Callable[..., T], /, *args: Any) -> T:
    """The next rows of ``aiterator()``; if they were there already, others have their turn all the same."""
    rows = await _run_or_leave(function, *args)
    await asyncio.sleep(0)
    return rows


def _run(function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Coroutine[Any, Any, T]:
    there = inherited()
    if there is not None and (here := usable()) is not None:
        return here.run(function, args, kwargs)
    return _run_in_its_own(there, function, args, kwargs)


async def _run_in_its_own(
    there: Any, function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> T:
    made = Scope(asyncio.current_task(), asyncio.get_running_loop(), brief=True)
    if isinstance(there, Scope):
        made.view_of = there
    token = enter(made)
    try:
        return await made.run(function, args, kwargs)
    finally:
        made.close()
        spare_wrappers(made)
        leave(token)


def _stays_in_threads(function: Callable[..., Any], options: Mapping[str, Any]) -> bool:
    """Whether a call is about an alias whose queries stay in threads, as far as can be told beforehand."""
    owner = getattr(function, "__self__", None)
    if owner is None:
        owner = getattr(inspect.getclosurevars(function).nonlocals.get("self"), "queryset", None)
    alias = options.get("using") or getattr(owner, "db", None)
    if alias is None and isinstance(owner, Model):
        alias = router.db_for_write(type(owner), instance=owner)
    return alias is not None and not is_native(alias)


def _is_safe(function: Callable[..., Any]) -> bool:
    """Whether a function that Django would send to a thread waits for the database alone.

    Django's own does. A project's backend, cache or session store may ask a directory, a file or a Redis server, and
    stays in its thread; so do the receivers of a request's start and end, which look after that thread.
    """
    owner = getattr(function, "__self__", None)
    if isinstance(owner, QuerySet):
        return True
    if isinstance(owner, BaseCache):
        return isinstance(owner, DatabaseCache)
    if isinstance(owner, SessionBase):
        return isinstance(owner, DatabaseSession) and not isinstance(owner, CachedDatabaseSession)
    module = str(getattr(function, "__module__", None))
    if module == "django.dispatch.dispatcher":
        return inspect.getclosurevars(function).nonlocals.get("self") not in (request_started, request_finished)
    if owner is None or hasattr(owner, "authenticate"):
        return module.startswith(("django.", "builtins"))
    return True


# -- what Django and asgiref find in the place of their own, in a greenlet of ours -----------------------------------


def await_in_greenlet(original: Callable[..., Any]) -> Callable[..., Any]:
    """``AsyncToSync.__call__`` that awaits directly in our greenlets, where there is a loop to wait on.

    What a test calls so finds the test's connection on the loop: its hooks, and whether a transaction is open.
    """

    @functools.wraps(original)
    def call(self: AsyncToSync[..., Any], *args: Any, **kwargs: Any) -> Any:
        if in_our_greenlet():
            return await_(self.awaitable(*args, **kwargs))
        with lent_by_a_test(), beneath_a_plain_thread(), waiting_for_the_loop():
            return original(self, *args, **kwargs)

    return call


def in_order(parallel: Callable[..., Awaitable[Any]]) -> Callable[..., Coroutine[Any, Any, list[Any]]]:
    """What runs async signal receivers: in a scope one after the other in its task, for they share its connection."""

    @functools.wraps(parallel)
    async def run(*awaitables: Any, **options: Any) -> Any:
        if not isinstance(inherited(), Scope):
            return await parallel(*awaitables, **options)
        results = []
        waiting = list(awaitables)
        try:
            while waiting:
                results.append(await waiting.pop(0))
        finally:
            for one in waiting:
                if inspect.iscoroutine(one):
                    one.close()
        return results

    return run


def rows_from_the_first_step(
    original: Callable[[Any], AsyncGenerator[Any, None]],
) -> Callable[[Any], AsyncGenerator[Any, None]]:
    """``BaseIterable._async_generator`` whose query runs with its first rows.

    Django calls ``__iter__`` on the loop, where that of ``values()`` and its kin has sent the query already
    (Django 5.2 and 6.1, ``db/models/query.py``, ``BaseIterable`` and ``ValuesListIterable``).
    """

    @functools.wraps(original)
    def generate(iterable: Any) -> AsyncGenerator[Any, None]:
        return original(_LateRows(iterable))

    return generate


class _LateRows:
    """An iterable of Django's that does nothing before its first step."""

    def __init__(self, iterable: Any) -> None:
        self._iterable = iterable
        self.queryset = iterable.queryset
        self.chunk_size = iterable.chunk_size

    def __iter__(self) -> Iterator[Any]:
        yield from self._iterable


class asyncio_in_order:  # noqa: N801  (it stands for the module asyncio)
    """The module ``asyncio`` as Django 5.2's dispatcher is to see it."""

    gather = staticmethod(in_order(asyncio.gather))

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


# -- the warning that something blocks the loop ----------------------------------------------------------------------


class _Watched:
    """A coroutine whose steps are timed: between two of them the loop is free, in one it is not."""

    def __init__(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        self._work = work
        self._name = name

    def __await__(self) -> Generator[Any, Any, Any]:
        work = self._work
        longest = 0.0
        step: Callable[[], Any] = functools.partial(work.send, None)
        try:
            while True:
                since = time.perf_counter()
                try:
                    awaited = step()
                except StopIteration as done:
                    return done.value
                finally:
                    longest = max(longest, time.perf_counter() - since)
                try:
                    step = functools.partial(work.send, (yield awaited))
                except BaseException as err:
                    step = functools.partial(work.throw, err)
        finally:
            limit = asyncio.get_running_loop().slow_callback_duration
            if longest > limit:
                log.warning(
                    "%s blocked the event loop for %.2f s (more than %g s) outside of database waits: "
                    "take what computes or waits out of run_django, or use sync_to_async there",
                    self._name,
                    longest,
                    limit,
                )


def _name(function: Any) -> str:
    module, name = getattr(function, "__module__", "?"), getattr(function, "__qualname__", repr(function))
    return f"{module}.{name}"
