"""``threading.local`` objects of the project's packages that are neither replaced nor known to be harmless.

On the loop all requests would share such an object. So the code that may use it runs in the request's thread, as
without the bridge: everything in a module that has one, and in a module that imports something of such a module, and so
on.
What a module imports is told by its globals and by the names in its functions' code, where Django projects like to
import; a module more than needed costs a hop to the thread, one too few a row with another user's name.

Looked at are the packages of ``INSTALLED_APPS``, ``MIDDLEWARE`` and ``ROOT_URLCONF``, those of the packages that
``thread_locals.py`` lists, and ``__main__``: never Django, nor libraries that are no part of a Django project.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from types import CodeType, FunctionType, ModuleType
from typing import Any

from django.apps import apps
from django.conf import settings

from . import thread_locals
from .flowing import Flowing
from .thread_locals import KNOWN, is_harmless, settle, why_not_replaced

__all__ = [
    "complaints",
    "forget",
    "import_what_requests_use",
    "is_of_unsettled",
    "not_found",
    "unsettled",
    "using_unsettled",
]

log = logging.getLogger("django_bridge.thread_locals")

_NOT_A_PROJECT = frozenset({"django", "django_bridge", "asyncdb", "asgiref", "sqlalchemy", "threading"})
_DEPTH = 3
"""``module.Class.instance.attribute`` is the deepest that packages have it (django-silk)."""


@dataclass
class _Seen:
    """What is known of the modules of this process."""

    modules: int = -1
    """How many there were when they were last looked at."""
    owners: dict[str, dict[str, threading.local]] = field(default_factory=dict)
    imports: dict[str, frozenset[str]] = field(default_factory=dict)
    unsettled: dict[str, str] = field(default_factory=dict)
    tainted: frozenset[str] = frozenset()
    sizes: dict[str, int] = field(default_factory=dict)
    """How many names a module had."""
    others: dict[str, bool] = field(default_factory=dict)
    """Modules of no package of the project, of which a function was asked for."""


_seen = _Seen()
_looking = threading.RLock()
"""One thread at a time looks, for the event loop and the threads of requests ask at once."""


def forget() -> None:
    """Looks again at the next question: what is listed or said has changed."""
    global _seen  # noqa: PLW0603  (what is known of this process)
    _seen = _Seen()


def unsettled() -> dict[str, str]:
    """Returns the dotted path of each unsettled object, with the module that has it."""
    _look()
    return dict(_seen.unsettled)


def using_unsettled() -> frozenset[str]:
    """Returns the modules that have or use such an object; the same set as long as nothing changes."""
    _look()
    return _seen.tainted


def is_of_unsettled(module: str | None) -> bool:
    """Whether a module has such an object, or uses one that has."""
    _look()
    if module is None or (there := sys.modules.get(module)) is None or module.partition(".")[0] in _NOT_A_PROJECT:
        return False
    if _seen.sizes.get(module, (size := len(vars(there)))) != size:
        # `global _local` in a function, or a script that goes on after the setup.
        with _looking:
            for known_of in (_seen.sizes, _seen.owners, _seen.others, _seen.imports):
                known_of.pop(module, None)
            _seen.modules = -1
            _look_at_modules()
    if module in _seen.tainted:
        return True
    if module in _seen.owners:
        return False
    if (known := _seen.others.get(module)) is None:
        _seen.sizes[module] = size
        known = _seen.others[module] = bool(
            _unsettled_of(_owned(module, there)) or _imported(module, there) & _seen.tainted
        )
    return known


def complaints() -> dict[str, str]:
    """Returns what is to be said of each unsettled object, by its path."""
    said = {}
    for path, module in unsettled().items():
        why = why_not_replaced(path)
        said[path] = (
            f"{path} is a threading.local, which all requests on the event loop would share: the receivers, managers "
            f"and functions of {module}, and of what imports it, run in the request's thread"
            f"{'' if why is None else f' ({why})'}."
        )
    return said


def not_found() -> list[str]:
    """Returns what ``ASYNC_DB_THREAD_LOCALS`` names in vain: there is no such object, or it cannot be replaced."""
    messages = []
    for path, how in thread_locals.said().items():
        if (found := thread_locals.look_up(path)) is None:
            try:
                import_module(path.rpartition(".")[0])
            except Exception:  # of a class in a module, of a name that is wrong, of the module itself
                log.debug("no module for %s", path)
            found = thread_locals.look_up(path)
        if found is None or not issubclass(type(found[2]), threading.local):
            messages.append(f"ASYNC_DB_THREAD_LOCALS names {path}, and there is no threading.local of that name.")
        elif how == "context" and not issubclass(type(found[2]), Flowing):
            why = thread_locals.why_not_replaced(path) or "its module was imported in a way that was not seen"
            messages.append(f"ASYNC_DB_THREAD_LOCALS names {path}, which cannot flow with the context: {why}.")
    return messages


def import_what_requests_use() -> None:
    """Imports the middleware and the URLs, as the first request would, for their modules to be looked at."""
    for name in [path.rpartition(".")[0] for path in settings.MIDDLEWARE] + [_urls()]:
        try:
            if name:
                import_module(name)
        except Exception:  # Django's own checks, or its start, say what is wrong with it
            log.debug("%s cannot be imported", name)


def _urls() -> str:
    """The module of the URLs; tests may have others than modules there."""
    named = getattr(settings, "ROOT_URLCONF", "")
    return named if isinstance(named, str) else ""


def _packages() -> frozenset[str]:
    """The top-level packages that are looked at."""
    named = [config.name for config in apps.get_app_configs()]
    named += [*settings.MIDDLEWARE, _urls()]
    named += [known.module for known in KNOWN]
    return frozenset({name.partition(".")[0] for name in named} - _NOT_A_PROJECT - {""}) | {"__main__"}


# -- the search ------------------------------------------------------------------------------------------------------


def _look() -> None:
    if len(sys.modules) != _seen.modules and apps.models_ready:
        with _looking:
            _look_at_modules()


def _modules_now() -> list[tuple[str, Any]]:
    """What is imported; other threads import meanwhile, which ends a walk through ``sys.modules`` with an error."""
    for _ in range(1000):
        try:
            return list(sys.modules.items())
        except RuntimeError:
            continue
    return [(name, sys.modules.get(name)) for name in tuple(sys.modules)]


def _look_at_modules() -> None:
    if len(sys.modules) == _seen.modules:
        return
    _seen.modules = len(sys.modules)
    _seen.others.clear()
    settle()
    judged = _packages()
    fresh = False
    for name, module in _modules_now():
        if name.partition(".")[0] not in judged or name in _seen.owners or not isinstance(module, ModuleType):
            continue
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            _seen.modules = -1  # it has not run to its end: once more
            continue
        _seen.sizes[name] = len(vars(module))
        _seen.owners[name] = _owned(name, module)
        fresh = True
    if fresh:
        _seen.unsettled = _named({name: _unsettled_of(owned) for name, owned in _seen.owners.items()})
        tainted = _closure(frozenset(name for name, owned in _seen.owners.items() if _unsettled_of(owned)))
        _seen.tainted = tainted if tainted != _seen.tainted else _seen.tainted


def _owned(name: str, module: ModuleType) -> dict[str, threading.local]:
    return dict(_inside(name, vars(module), name, _DEPTH))


def _inside(path: str, names: Any, module: str, depth: int) -> Iterator[tuple[str, threading.local]]:
    for name, value in list(names.items()):
        kind = type(value)  # isinstance() would wake up Django's lazy objects
        if issubclass(kind, threading.local):
            yield f"{path}.{name}", value
        elif depth > 1 and (
            value.__module__ == module
            if issubclass(kind, type)
            else kind.__module__ == module and not issubclass(kind, ModuleType | FunctionType)
        ):
            yield from _inside(f"{path}.{name}", getattr(value, "__dict__", {}), module, depth - 1)


def _unsettled_of(owned: dict[str, threading.local]) -> dict[str, threading.local]:
    return {
        path: value for path, value in owned.items() if not issubclass(type(value), Flowing) and not is_harmless(path)
    }


def _named(owned: dict[str, dict[str, threading.local]]) -> dict[str, str]:
    """One path for each object: in the module that seems to have made it."""
    found: dict[int, tuple[bool, str, str]] = {}
    for module, objects in owned.items():
        names = vars(sys.modules[module]).values() if objects and module in sys.modules else ()
        made_here = any(value is threading or value is threading.local for value in names)
        for path, value in objects.items():
            known = found.get(id(value))
            if known is None or (made_here and not known[0]):
                found[id(value)] = made_here, path, module
    return {path: module for _, path, module in sorted(found.values(), key=lambda one: one[1])}


# -- who uses them ---------------------------------------------------------------------------------------------------


def _closure(owners: frozenset[str]) -> frozenset[str]:
    if not owners:
        return owners
    users: dict[str, set[str]] = {}
    for name in _seen.owners:
        for used in _imports(name):
            users.setdefault(used, set()).add(name)
    tainted, waiting = set(owners), list(owners)
    while waiting:
        for user in users.get(waiting.pop(), ()):
            if user not in tainted:
                tainted.add(user)
                waiting.append(user)
    return frozenset(tainted)


def _imports(name: str) -> frozenset[str]:
    if (known := _seen.imports.get(name)) is None:
        module = sys.modules.get(name)
        known = _seen.imports[name] = frozenset() if module is None else _imported(name, module)
    return known


def _imported(name: str, module: ModuleType) -> frozenset[str]:
    """The modules of which a module uses something, itself left out."""
    found: set[str] = set()
    parents = [name if hasattr(module, "__path__") else name.rpartition(".")[0]]
    while parents[-1]:
        parents.append(parents[-1].rpartition(".")[0])
    for value in list(vars(module).values()):
        kind = type(value)
        if issubclass(kind, ModuleType):
            found.add(value.__name__)
        elif issubclass(kind, type | FunctionType):
            found.add(str(value.__module__))
        else:
            found.add(kind.__module__)
        for code in _codes(value, name):
            for word in code.co_names:
                # `from .middleware import get_user` in a function: "middleware" is among the names of its code.
                found.update(dotted for parent in parents if (dotted := f"{parent}.{word}".strip(".")) in sys.modules)
    return frozenset(found - {name})


def _codes(value: Any, module: str) -> Iterator[CodeType]:
    """The code of what a module defines."""
    kind = type(value)
    if issubclass(kind, type):
        if value.__module__ == module:
            for member in list(vars(value).values()):
                if not isinstance(member, type):
                    yield from _codes(member, module)
        return
    if issubclass(kind, staticmethod | classmethod):
        yield from _codes(value.__func__, module)
        return
    if issubclass(kind, property):
        for function in (value.fget, value.fset, value.fdel):
            yield from _codes(function, module)
        return
    while issubclass(kind, FunctionType):
        if value.__module__ == module:
            yield from _nested(value.__code__)
        value = vars(value).get("__wrapped__")
        kind = type(value)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
