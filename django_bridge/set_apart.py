"""Code that uses an unsettled ``threading.local`` runs in the request's thread, where Django would run it.

Native calls and functions of ``run_django()`` go there as a whole. Within other native code three things of such a
module are sent there one by one: signal receivers, and the ``get_queryset()`` of its managers, which prefetching and
related objects call. In the thread they work on the connections of the task that waits, in its transaction.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db.models import QuerySet

from asyncdb.greenlets import await_, in_greenlet

from . import thread_locals, unsettled
from .loops import on_the_loop
from .scopes import Scope, inherited
from .unsettled import is_of_unsettled, using_unsettled

__all__ = ["belongs_into_its_thread", "in_our_greenlet", "install", "receivers_in_their_thread", "uninstall"]

_replaced: list[tuple[type, Any, Any]] = []
"""Each class of managers whose ``get_queryset`` was replaced, by what, and what it had."""
_apart: list[frozenset[str] | None] = [None]
"""For which modules that was done."""


def install() -> None:
    """Replaces what is listed; again does nothing."""
    thread_locals.install()
    unsettled.forget()


def uninstall() -> None:
    """Gives managers and modules back what is theirs."""
    while _replaced:
        kind, replacement, original = _replaced.pop()
        if vars(kind).get("get_queryset") is replacement:
            kind.get_queryset = original  # type: ignore[attr-defined]  # it is a manager's class
    _apart[0] = None
    thread_locals.uninstall()
    unsettled.forget()


def in_our_greenlet() -> bool:
    """Whether this is native code, on the loop."""
    return in_greenlet() and on_the_loop() and isinstance(inherited(), Scope)


def belongs_into_its_thread(function: Callable[..., Any]) -> bool:
    """Whether a function, or what it is a method of, is of a module that uses an unsettled object."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    owner = getattr(function, "__self__", None)
    if owner is None and is_of_unsettled(getattr(function, "__module__", None)):
        return True
    if not (modules := using_unsettled()):
        return owner is not None and is_of_unsettled(type(owner).__module__)
    _set_managers_apart(modules)
    if owner is None:
        # Django's own closures: the next rows of aiterator().
        owner = inspect.getclosurevars(function).nonlocals.get("self") if hasattr(function, "__code__") else function
        owner = getattr(owner, "queryset", owner)
    return any(is_of_unsettled(kind.__module__) for kind in _kinds(owner))


def _kinds(owner: Any) -> Iterator[type]:
    yield from (owner if isinstance(owner, type) else type(owner)).__mro__
    if isinstance(owner, QuerySet):
        yield from owner.model.__mro__
        for manager in owner.model._meta.managers:
            yield from type(manager).__mro__


def receivers_in_their_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    """``Signal._live_receivers``: a sync receiver that uses an unsettled object is called in the request's thread."""

    @functools.wraps(original)
    def live(self: Any, sender: Any) -> Any:
        receivers, async_receivers = original(self, sender)
        if any(is_of_unsettled(_module_of(one)) for one in receivers):
            receivers = [_InItsThread(one) if is_of_unsettled(_module_of(one)) else one for one in receivers]
        return receivers, async_receivers

    return live


def _module_of(receiver: Any) -> str | None:
    """Of a function, of a bound method's class, of a callable object's class."""
    owner = getattr(receiver, "__self__", None)
    if owner is not None:
        return (owner if isinstance(owner, type) else type(owner)).__module__
    module: str | None = getattr(receiver, "__module__", None)
    return module


class _InItsThread:
    """A receiver that native code calls in the request's thread, and all others as ever; equal to the original."""

    def __init__(self, receiver: Callable[..., Any]) -> None:
        self.__wrapped__ = receiver

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _called(self.__wrapped__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __eq__(self, other: object) -> bool:
        return self.__wrapped__ == (other.__wrapped__ if isinstance(other, _InItsThread) else other)

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


def _called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if in_our_greenlet():
        return await_(sync_to_async(function)(*args, **kwargs))
    return function(*args, **kwargs)


def _set_managers_apart(modules: frozenset[str]) -> None:
    """Replaces ``get_queryset()`` of the classes of managers that use an unsettled object."""
    if _apart[0] is modules:
        return
    _apart[0] = modules
    done = {kind for kind, _, _ in _replaced}
    for model in apps.get_models(include_auto_created=True):
        for manager in (*model._meta.managers, model._base_manager):
            for kind in type(manager).__mro__:
                original = vars(kind).get("get_queryset")
                if original is None or kind in done or not is_of_unsettled(kind.__module__):
                    continue
                replacement = _in_its_thread(original)
                kind.get_queryset = replacement  # type: ignore[attr-defined]  # it is a manager's class
                _replaced.append((kind, replacement, original))
                done.add(kind)


def _in_its_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_queryset(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _called(original, self, *args, **kwargs)

    return get_queryset
