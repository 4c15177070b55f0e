"""What stands in the place of a ``threading.local``: the same object, whose attributes flow with the context.

On the loop all requests share one thread. There, and in the threads that ``sync_to_async`` starts, the attributes
belong to the context: what a request's thread sets, its native calls see, what those set, the thread sees, and no other
request sees either. It is what asgiref's ``Local`` does for Django; a class of the project's own keeps its methods, its
class attributes and its ``__init__``, which is called again where a thread would begin.

Plain threads (WSGI, commands, Celery) and all that waits beneath them have the original object, unchanged. A request
begins with nothing, as its thread does: what was set at import, or by the server's own task, is not seen in it
(``ThreadSensitiveContext``, which Django's handler opens for each request, tells where one begins).

Read in asgiref 3.13 (``sync.py``: ``SyncToAsync.thread_sensitive_context``, ``_restore_context``) and Python 3.11 to
3.14 (``Modules/_threadmodule.c``: ``local_getattro``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync

from .loops import on_the_loop
from .ownership import errand_of_this_thread
from .scope_threads import scope_of_this_thread
from .scopes import Scope, inherited

__all__ = ["Flowing", "beneath_a_plain_thread", "flowing", "why_not"]

_beneath_a_plain_thread: ContextVar[bool] = ContextVar("django_bridge_beneath_a_plain_thread", default=False)
_MISSING = object()


@contextmanager
def beneath_a_plain_thread() -> Iterator[None]:
    """Around ``async_to_sync``: what a thread without a loop waits for goes on with that thread's own objects."""
    if on_the_loop() or errand_of_this_thread() is not None or _beneath_a_plain_thread.get():
        yield
        return
    token = _beneath_a_plain_thread.set(True)
    try:
        yield
    finally:
        _beneath_a_plain_thread.reset(token)


def why_not(old: threading.local) -> str | None:
    """Why this object cannot be made to flow; None where it can."""
    for base in type(old).__mro__:
        if vars(base).get("__slots__") and base is not threading.local:
            return f"{base.__qualname__} has __slots__, which threads share"
        if "__getattribute__" in vars(base) and base not in (threading.local, object):
            return f"{base.__qualname__} has a __getattribute__ of its own"
    return None


def flowing(old: threading.local, *, shared: Collection[str] = (), per_scope: Collection[str] = ()) -> Flowing:
    """Returns what stands for ``old``: an instance of its class whose attributes flow with the context.

    - ``shared``: attributes that child tasks share with the request that they come from (a counter, which they would
      else count each for itself);
    - ``per_scope``: attributes that follow the connection and its transaction, and are nobody's else: a child task,
      which has a connection of its own, begins without them.
    """
    kind = type(old)
    flow = _Flow(old, frozenset(shared), frozenset(per_scope))
    bases = (Flowing,) if kind is threading.local else (kind, Flowing)
    made = type(
        kind.__name__,
        bases,
        {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__bridge_flow__": flow},
    )
    instance: Flowing = threading.local.__new__(made)
    return instance


class _State:
    """The attributes in one context; never changed, but for ``common``, which its descendants share."""

    __slots__ = ("common", "outer", "root", "values")

    def __init__(self, values: dict[str, Any], common: dict[str, Any], root: object, outer: _State | None) -> None:
        self.values = values
        self.common = common
        self.root = root
        self.outer = outer


class _Flow:
    """Where the attributes of one object are."""

    def __init__(self, old: threading.local, shared: frozenset[str], per_scope: frozenset[str]) -> None:
        self.old = old
        self.shared = shared
        self.per_scope = per_scope
        self.initialised = type(old).__init__ is not threading.local.__init__
        self.arguments = _arguments(old) if self.initialised else ((), {})
        self.state: ContextVar[_State | None] = ContextVar("django__bridge_flow__ing", default=None)
        self.of_scopes: WeakKeyDictionary[Scope, dict[str, Any]] = WeakKeyDictionary()

    def place(self, owner: Flowing, name: str, *, writing: bool = False) -> MutableMapping[str, Any]:
        """The mapping in which ``name`` is here; for ``writing`` one that is this context's own."""
        if _is_left_alone():
            there: dict[str, Any] = threading.local.__getattribute__(self.old, "__dict__")
            return there
        if name in self.per_scope and (scope := _scope()) is not None:
            return self.of_scopes.setdefault(scope, {})
        state = self._here()
        if state is None:
            if not writing and not self.initialised:
                return {}
            state = _State({}, {}, _request(), self.state.get())
            self.state.set(state)
            if self.initialised:
                arguments, named = self.arguments
                type(owner).__init__(owner, *arguments, **named)
                state = self._here() or state
        if name in self.shared:
            return state.common
        if writing:
            # Child tasks have inherited the state itself: what is set from now on is not theirs.
            state = _State(dict(state.values), state.common, state.root, state.outer)
            self.state.set(state)
        return state.values

    def _here(self) -> _State | None:
        state, request = self.state.get(), _request()
        while state is not None and state.root is not request:
            state = state.outer
        return state


class Flowing(threading.local):
    """The base of what is made: it stands before ``threading.local``, and behind the project's own class."""

    __bridge_flow__: _Flow

    def __getattribute__(self, name: str) -> Any:
        kind = type(self)
        flow = kind.__bridge_flow__
        if name == "__dict__":
            return flow.place(self, name, writing=True)
        found = _in_class(kind, name)
        getter = _MISSING if found is _MISSING else getattr(type(found), "__get__", _MISSING)
        if getter is not _MISSING and (hasattr(type(found), "__set__") or hasattr(type(found), "__delete__")):
            return getter(found, self, kind)  # type: ignore[operator]  # a descriptor's
        values = flow.place(self, name)
        if name in values:
            return values[name]
        if getter is not _MISSING:
            return getter(found, self, kind)  # type: ignore[operator]  # a descriptor's
        if found is not _MISSING:
            return found
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        found = _in_class(type(self), name)
        if name == "__dict__":
            raise AttributeError(f"{type(self).__name__!r} object attribute '__dict__' is read-only")
        if (setter := getattr(type(found), "__set__", None)) is not None:
            setter(found, self, value)
        else:
            type(self).__bridge_flow__.place(self, name, writing=True)[name] = value

    def __delattr__(self, name: str) -> None:
        found = _in_class(type(self), name)
        if (deleter := getattr(type(found), "__delete__", None)) is not None:
            deleter(found, self)
            return
        flow = type(self).__bridge_flow__
        if name not in flow.place(self, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        del flow.place(self, name, writing=True)[name]


def _in_class(kind: type, name: str) -> Any:
    for base in kind.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return _MISSING


def _is_left_alone() -> bool:
    """Whether this is a plain thread, or what one waits for: there the original object is the right one."""
    return _beneath_a_plain_thread.get() or not (on_the_loop() or errand_of_this_thread() is not None)


def _request() -> object:
    """What asgiref chooses the request's thread by; None outside of requests."""
    return SyncToAsync.thread_sensitive_context.get(None)


def _scope() -> Scope | None:
    """The scope on whose connections this code works."""
    if not on_the_loop():
        return scope_of_this_thread()
    there = inherited()
    return there if isinstance(there, Scope) and there.belongs_to(asyncio.current_task()) else None


def _arguments(old: threading.local) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """With what ``__init__`` is called again in each thread: only ``threading.local`` itself knows, and tells it there.

    So a new thread looks at the object while ``__init__`` does nothing but listen.
    """
    kind = type(old)
    heard: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    original = vars(kind).get("__init__")

    def listen(self: Any, *args: Any, **kwargs: Any) -> None:
        heard.append((args, kwargs))

    setattr(kind, "__init__", listen)  # noqa: B010  (mypy: a method is replaced)
    try:
        thread = threading.Thread(target=threading.local.__getattribute__, args=(old, "__dict__"))
        thread.start()
        thread.join(5.0)  # it looks at one attribute
    finally:
        if original is None:
            delattr(kind, "__init__")
        else:
            setattr(kind, "__init__", original)  # noqa: B010
    return heard[0] if heard else ((), {})
