"""Which ``threading.local`` objects are replaced by ones that flow with the context, and how they are replaced.

Those of :data:`KNOWN`, each tried with its package, and those that the project names in ``ASYNC_DB_THREAD_LOCALS``.
None is replaced because it was found: one that holds a handle of its thread (Django's GEOS context) has to stay there.
What is neither replaced nor known to be harmless is found by ``unsettled.py``.

An object is replaced under its own name, and under every name that a module of this process has for it at that moment.
A module that is imported later gets the new one; what was bound elsewhere before (a default argument, a closure, an
attribute of a class) keeps the old one.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader, SourcelessFileLoader
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from asyncdb.errors import ConfigurationError

from .conf import thread_locals
from .flowing import Flowing, flowing, why_not

__all__ = [
    "HARMLESS",
    "KNOWN",
    "Known",
    "install",
    "is_harmless",
    "look_up",
    "said",
    "settle",
    "uninstall",
    "why_not_replaced",
]

log = logging.getLogger("django_bridge.thread_locals")


@dataclass(frozen=True)
class Known:
    """One object of a package that was tried: ``tests/use/test_thread_locals.py`` runs the scenario beside stock."""

    distribution: str
    module: str
    attribute: str
    since: tuple[int, ...]
    before: tuple[int, ...]
    """The releases with this object, and with what was read of it."""
    scenario: str
    shared: tuple[str, ...] = ()
    per_scope: tuple[str, ...] = ()
    made_by: str | None = None
    """What of the module is called for the object to be there."""

    @property
    def path(self) -> str:
        return f"{self.module}.{self.attribute}"


KNOWN: Sequence[Known] = (
    Known(
        "django-pghistory",
        "pghistory.runtime",
        "_tracker",
        (3,),
        (4,),
        "a middleware's context around an async view: each event of a trigger has the context of its own request",
    ),
    Known(
        "django-pgtrigger",
        "pgtrigger.runtime",
        "_ignore",
        (4,),
        (5,),
        "triggers that one request ignores fire in all others",
    ),
    Known(
        "django-pgtrigger",
        "pgtrigger.runtime",
        "_schema",
        (4,),
        (5,),
        "the same way as _ignore, which it is set beside",
    ),
    Known(
        "django-cachalot",
        "cachalot.cache",
        "cachalot_caches",
        (2, 6),
        (3,),
        "what a transaction reads is in the cache after its commit alone, and no other request's block ends it",
        # A stack of one cache for each block that is open, and so of one connection.
        per_scope=("_atomic_caches",),
    ),
    Known(
        "django-crum",
        "crum",
        "_thread_locals",
        (0, 7),
        (0, 8),
        "a middleware's user in save() and in receivers of native calls, and impersonate()",
    ),
    Known(
        "django-multitenant",
        "django_multitenant.utils",
        "_thread_locals",
        (3,),
        (5,),
        "a middleware's tenant filters native queries and marks new rows",
    ),
    Known(
        "django-silk",
        "silk.collector",
        "DataCollector.instance.local",
        (5,),
        (6,),
        "each request's record has its own queries, those of child tasks included",
        # It numbers queries; child tasks that numbered each for itself would overwrite one another's.
        shared=("temp_identifier",),
        made_by="DataCollector",
    ),
)

HARMLESS = frozenset(
    {
        # Handles of the GEOS library, each of which belongs to its thread: they have to stay.
        "django.contrib.gis.geos.prototypes.io.thread_context",
        "django.contrib.gis.geos.prototypes.threadsafe.thread_context",
        # What a thread of Django's was found to work in, asked in that thread alone.
        "django_bridge.scope_threads._of_this_thread",
    }
)
"""Those that are as right on the loop as in a thread, or have to stay with their thread."""


@dataclass
class _Wanted:
    """One path that is to be replaced."""

    path: str
    known: Known | None
    done: bool = False
    why: str | None = None


@dataclass
class _Process:
    """What was replaced in this process."""

    wanted: list[_Wanted] = field(default_factory=list)
    exchanged: list[tuple[Any, str, Flowing, threading.local]] = field(default_factory=list)
    finder: Any = None


_process = _Process()


def install() -> None:
    """Replaces what is imported already, and whatever else is listed as soon as it is; again does nothing."""
    if _process.finder is not None:
        return
    _process.wanted = list(_listed())
    _process.finder = _AsTheyAreImported(_settle_of)
    settle()
    sys.meta_path.insert(0, _process.finder)


def settle() -> None:
    """Replaces what is listed and has come since, in a script that goes on after its setup, say."""
    if _process.finder is not None:
        for wanted in _process.wanted:
            for name in () if wanted.done else _modules(wanted.path):
                if name in sys.modules:
                    _settle(wanted, name)


def uninstall() -> None:
    """Gives every module its own object back."""
    if _process.finder is None:
        return
    with suppress(ValueError):  # somebody has put another list in its place
        sys.meta_path.remove(_process.finder)
    _process.finder = None
    _process.wanted.clear()
    while _process.exchanged:
        owner, name, new, old = _process.exchanged.pop()
        _exchange(owner, name, new, old)


def why_not_replaced(path: str) -> str | None:
    """Why a listed object was not replaced, as far as it was tried."""
    return next((wanted.why for wanted in _process.wanted if wanted.path == path and not wanted.done), None)


def is_harmless(path: str) -> bool:
    """Whether it is known, or said by the project, that an object may stay a ``threading.local``."""
    return path in HARMLESS or said().get(path) == "thread"


def look_up(path: str) -> tuple[Any, str, Any] | None:
    """The owner, the name and the value of a dotted path in the modules that are imported; None if it is not there."""
    for name in _modules(path):
        owner: Any = sys.modules.get(name)
        if owner is None:
            continue
        *way, last = path[len(name) + 1 :].split(".")
        for step in way:
            owner = getattr(owner, step, None)
        value = getattr(owner, "__dict__", {}).get(last)
        if value is not None:
            return owner, last, value
    return None


# -- the list --------------------------------------------------------------------------------------------------------


def said() -> dict[str, str]:
    """Returns what the project says; nothing where that is wrong."""
    try:
        return dict(thread_locals())
    except ConfigurationError:
        return {}  # W007 says so


def _listed() -> Iterator[_Wanted]:
    named = said()
    for known in KNOWN:
        if known.path not in named:
            yield _Wanted(known.path, known)
    by_path = {known.path: known for known in KNOWN}
    for path, how in named.items():
        if how == "context":
            yield _Wanted(path, by_path.get(path))


def _modules(path: str) -> list[str]:
    """The modules that may have what the path names, the longest name first."""
    parts = path.split(".")
    return [".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1)]


def _refused_for_its_version(known: Known) -> str | None:
    if known.path in said():
        return None  # the project answers for it
    try:
        installed = version(known.distribution)
    except PackageNotFoundError:
        return f"it is not of {known.distribution}"
    numbers = tuple(map(int, re.findall(r"\d+", installed)[:3]))
    if known.since <= numbers < known.before:
        return None
    span = f"{'.'.join(map(str, known.since))} to below {'.'.join(map(str, known.before))}"
    return f"{known.distribution} {installed} was not tried, only {span}"


# -- the exchange ----------------------------------------------------------------------------------------------------


def _settle_of(module: str) -> None:
    """Replaces what is wanted of this module."""
    for wanted in _process.wanted:
        if module in _modules(wanted.path):
            _settle(wanted, module)


def _settle(wanted: _Wanted, module: str) -> None:
    known = wanted.known
    if wanted.done:
        return
    if known is not None and (known.module != module or (refused := _refused_for_its_version(known))):
        wanted.why = refused if known.module == module else None
        return
    if known is not None and known.made_by is not None:
        getattr(sys.modules[module], known.made_by)()
    if (found := look_up(wanted.path)) is None:
        return
    owner, name, old = found
    if isinstance(old, Flowing):  # under another of its names
        wanted.done = True
        return
    if not issubclass(type(old), threading.local):
        wanted.why = f"it is no threading.local but {type(old).__qualname__}"
        return
    if (reason := why_not(old)) is not None:
        wanted.why = reason
        return
    new = flowing(old, shared=known.shared, per_scope=known.per_scope) if known is not None else flowing(old)
    _exchange(owner, name, old, new)
    _process.exchanged.append((owner, name, new, old))
    wanted.done = True
    log.debug("%s flows with the context", wanted.path)


def _exchange(owner: Any, name: str, old: Any, new: Any) -> None:
    if getattr(owner, "__dict__", {}).get(name) is old:
        setattr(owner, name, new)
    for module in [sys.modules.get(name) for name in tuple(sys.modules)]:
        names = getattr(module, "__dict__", None)
        if type(names) is dict:
            for alias in [alias for alias, value in list(names.items()) if value is old]:
                names[alias] = new


# -- modules that are imported later ---------------------------------------------------------------------------------


class _AsTheyAreImported:
    """A finder of ``sys.meta_path`` that finds nothing itself: it has listed modules looked at when they have run."""

    def __init__(self, look: Callable[[str], None]) -> None:
        self._look = look
        self._names = {name for wanted in _process.wanted for name in _modules(wanted.path)}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self._names:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                # Each module has its own loader of these; what others share must not be touched.
                if isinstance(spec.loader, SourceFileLoader | SourcelessFileLoader | ExtensionFileLoader):
                    spec.loader.exec_module = partial(self._run, spec.loader.exec_module)  # type: ignore[method-assign]
                return spec
        return None

    def _run(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        execute(module)
        if _process.finder is self:
            self._look(module.__name__)
