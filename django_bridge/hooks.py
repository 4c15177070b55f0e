"""Everything that is put in the place of something of Django's or asgiref's, in one list; each with its way back.

With ``ASYNC_DB_MODE=threads`` only that of ``ATOMIC_REQUESTS`` is installed; none where Django or asgiref is not as it
was read: then the ORM stays in Django's threads. Read in Django 5.2 and 6.1 and asgiref 3.13; ``drift.json`` has the
hash of each function that is concerned.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import django
from asgiref.sync import AsyncToSync, SyncToAsync
from django.apps import apps

from . import drift, lazy, scopes, set_apart, threads
from ._foundation import SUPPORTED_DJANGO
from .atomic_requests import async_views_too
from .conf import process_mode
from .lending import ExecutorByThread
from .native import asyncio_in_order, await_in_greenlet, in_order, native, rows_from_the_first_step
from .ownership import errand_to_its_end
from .set_apart import receivers_in_their_thread

__all__ = ["install", "uninstall"]

_SENDS_TO_THREADS = {
    "django.db.models.query": None,
    "django.db.models.base": None,
    "django.db.models.fields.related_descriptors": None,
    "django.core.paginator": None,
    "django.core.cache.backends.base": None,
    "django.dispatch.dispatcher": None,
    "django.contrib.contenttypes.fields": "django.contrib.contenttypes",
    "django.contrib.auth": "django.contrib.auth",
    "django.contrib.auth.backends": "django.contrib.auth",
    "django.contrib.auth.decorators": "django.contrib.auth",
    "django.contrib.auth.middleware": "django.contrib.auth",
    "django.contrib.sessions.backends.base": None,
    "django.contrib.sessions.backends.db": None,
}
"""Modules of Django's that send work to a thread by ``sync_to_async``, and the application that must be installed."""


@dataclass(frozen=True)
class _Hook:
    """One name that is replaced."""

    place: Any
    name: str
    replacement: Any


log = logging.getLogger("django_bridge.hooks")
_undo: list[Callable[[], None]] = []


def install() -> None:
    """Makes the ORM native in this process; again does nothing."""
    if _undo or django.VERSION[:2] not in SUPPORTED_DJANGO:
        return
    if names := drift.changed():
        log.error(
            "the ORM stays in Django's threads, without a pool: %s changed since they were read (check E006)",
            ", ".join(names),
        )
        return
    threads.enable(True)  # noqa: FBT003
    _undo.append(partial(threads.enable, False))  # noqa: FBT003
    importlib.import_module(f"{__package__}.databases")  # puts the storage in its place
    importlib.import_module(f"{__package__}.connections").adopt_made_already()
    _put(_hooks_of_requests())
    if process_mode() != "native":
        return
    lazy.install()
    _undo.append(lazy.uninstall)
    set_apart.install()
    _undo.append(set_apart.uninstall)
    _put(_hooks())
    scopes.enable(True)  # noqa: FBT003


def uninstall() -> None:
    """Gives Django and asgiref back what is theirs."""
    scopes.enable(False)  # noqa: FBT003
    while _undo:
        _undo.pop()()


def _put(hooks: Iterator[_Hook]) -> None:
    for hook in hooks:
        _undo.append(partial(setattr, hook.place, hook.name, vars(hook.place)[hook.name]))
        setattr(hook.place, hook.name, hook.replacement)


def _hooks_of_requests() -> Iterator[_Hook]:
    """In either mode: a project that goes back to threads keeps its async views."""
    handler = importlib.import_module("django.core.handlers.base").BaseHandler
    yield _Hook(handler, "make_view_atomic", async_views_too(handler.make_view_atomic))


def _hooks() -> Iterator[_Hook]:
    for name, application in _SENDS_TO_THREADS.items():
        if application is None or apps.is_installed(application):
            module = importlib.import_module(name)
            if "sync_to_async" in module.__dict__:
                yield _Hook(module, "sync_to_async", native)
    yield _Hook(AsyncToSync, "__call__", await_in_greenlet(AsyncToSync.__call__))
    yield _Hook(SyncToAsync, "thread_handler", errand_to_its_end(SyncToAsync.thread_handler))
    yield _Hook(SyncToAsync, "single_thread_executor", ExecutorByThread(SyncToAsync.single_thread_executor))
    iterable = importlib.import_module("django.db.models.query").BaseIterable
    yield _Hook(iterable, "_async_generator", rows_from_the_first_step(iterable._async_generator))
    dispatcher: Any = importlib.import_module("django.dispatch.dispatcher")
    yield _Hook(dispatcher.Signal, "_live_receivers", receivers_in_their_thread(dispatcher.Signal._live_receivers))
    if hasattr(dispatcher, "_run_parallel"):
        yield _Hook(dispatcher, "_run_parallel", in_order(dispatcher._run_parallel))
    else:
        # Django < 6.1: receivers run in asyncio.gather.
        yield _Hook(dispatcher, "asyncio", asyncio_in_order())
