"""Whether the functions of Django and asgiref that the bridge stands on still read as they did.

``drift.json`` holds, for each release line, the hash of the source of every such function: those that call
``sync_to_async`` in the modules where the bridge replaces it, which are found by themselves, and those named below.
``scripts/read_hooks.py`` writes the file anew, after somebody has read what changed.

A function that was replaced is judged by what it wraps (``__wrapped__``), if it says so: the bridge's own
replacements do, and those of tracing libraries.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import linecache
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import asgiref
import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import cached_property as django_cached_property

__all__ = ["TABLE", "changed", "read_again"]

TABLE = Path(__file__).with_suffix(".json")
"""For each release line: the releases that were read, and the accepted hashes of each function."""

_USERS = (
    "django.contrib.auth",
    "django.contrib.auth.backends",
    "django.contrib.auth.decorators",
    "django.contrib.auth.middleware",
    "django.contrib.contenttypes.fields",
    "django.contrib.sessions.backends.base",
    "django.contrib.sessions.backends.db",
    "django.core.cache.backends.base",
    "django.core.paginator",
    "django.db.models.base",
    "django.db.models.fields.related_descriptors",
    "django.db.models.query",
    "django.dispatch.dispatcher",
)
"""Where the module's ``sync_to_async`` is replaced: every function that calls it counts."""

_WRAPPER = tuple(
    f"DatabaseWrapper.{name}"
    for name in (
        "connect ensure_connection init_connection_state cursor _cursor _prepare_cursor chunked_cursor "
        "close _close close_if_unusable_or_obsolete close_if_health_check_failed temporary_connection "
        "commit _commit rollback _rollback *savepoint* get_autocommit set_autocommit _set_autocommit "
        "_start_transaction_under_autocommit set_rollback on_commit run_and_clear_commit_hooks validate_thread_sharing"
    ).split()
)

_NAMED: Mapping[str, Sequence[str]] = {
    "asgiref.local": ("_CVar.*",),
    "asgiref.sync": (
        "AsyncToSync.__call__",
        "AsyncToSync.main_wrap",
        "SyncToAsync.__call__",
        "SyncToAsync.thread_handler",
    ),
    "django.contrib.contenttypes.fields": (
        "GenericForeignKey.__get__",
        "GenericForeignKeyDescriptor.*fetch*",
        "GenericForeignKeyDescriptor.__get__",
        "create_generic_related_manager.GenericRelatedObjectManager.__init__",
        "create_generic_related_manager.GenericRelatedObjectManager._apply_rel_filters",
    ),
    "django.contrib.contenttypes.models": ("ContentTypeManager._add_to_cache",),
    "django.core.handlers.base": (
        "BaseHandler.make_view_atomic",
        "BaseHandler._get_response",
        "BaseHandler._get_response_async",
    ),
    "django.db.backends.base.base": tuple(name.replace("Database", "BaseDatabase", 1) for name in _WRAPPER),
    "django.db.backends.mysql.base": (*_WRAPPER, "CursorWrapper.*"),
    "django.db.backends.postgresql.base": _WRAPPER,
    "django.db.backends.sqlite3.base": _WRAPPER,
    "django.db.backends.utils": ("CursorWrapper._execute_with_wrappers", "debug_transaction"),
    "django.db.models.fetch_modes": ("Fetch*.fetch",),
    "django.db.models.fields.related_descriptors": (
        "ForwardManyToOneDescriptor.__get__",
        "ForwardManyToOneDescriptor.fetch_*",
        "Forward*.get_object",
        "ReverseOneToOneDescriptor.__get__",
        "ReverseOneToOneDescriptor.fetch_*",
        "ReverseManyToOneDescriptor.__get__",
        "create_reverse_many_to_one_manager.RelatedManager._apply_rel_filters",
        "create_forward_many_to_many_manager.ManyRelatedManager.__init__",
        "create_forward_many_to_many_manager.ManyRelatedManager._apply_rel_filters",
    ),
    "django.db.models.query": ("QuerySet._fetch_all", "QuerySet.count", "QuerySet.exists", "QuerySet.iterator"),
    "django.db.models.query_utils": ("DeferredAttribute.__get__", "DeferredAttribute.fetch_*"),
    "django.db.transaction": ("Atomic.__enter__", "Atomic.__exit__"),
    "django.dispatch.dispatcher": (
        "_run_parallel",
        "Signal._live_receivers",
        "Signal.send",
        "Signal.asend",
        "Signal.send_robust",
        "Signal.asend_robust",
    ),
    "django.template.smartif": ("infix", "prefix"),
    "django.utils.asyncio": ("async_unsafe",),
    "django.utils.connection": (
        "BaseConnectionHandler.__getitem__",
        "BaseConnectionHandler.__setitem__",
        "BaseConnectionHandler.__delitem__",
        "BaseConnectionHandler.all",
        "BaseConnectionHandler.close_all",
    ),
}
"""The others, as patterns; a release has not every one of them."""

_FORBID = ("django.test.testcases", "pytest_django.plugin")
"""What forbids the database in tests that did not ask for it, and wraps nothing (Django 6.1: ``ensure_connection``)."""

_Table = dict[str, dict[str, Any]]


def changed() -> list[str]:
    """Returns the dotted names of the hooked functions that differ from those that were read, sorted.

    A function that has gone counts, and so does a new one that calls ``sync_to_async`` where the bridge replaces it.
    Left out is what is not in use here: an application that is not installed, a backend that no ``ENGINE`` stands on
    or whose driver is missing.
    Without its source a function cannot be known, and counts as changed.
    """
    table = _load()
    found, unknown = _found()
    accepted = _functions(table, f"Django {_line(django.__version__)}") | _asgiref(table)
    return sorted(
        name
        for name in accepted.keys() | found.keys()
        if not _within(name, unknown) and found.get(name) not in accepted.get(name, ())
    )


def read_again(*, keep: bool = False) -> None:
    """Writes into ``drift.json`` what is installed; ``keep`` accepts what was read before as well.

    - **shape**: other release lines stay as they are, and what is not in use here.
    """
    table = _load()
    found, unknown = _found()
    for package, version in (("Django", django.__version__), ("asgiref", asgiref.__version__)):
        line = f"{package} {_line(version)}"
        old = table.pop(line, {"read": [], "functions": {}})
        new = {name: [digest] for name, digest in found.items() if name.startswith(package.lower() + ".")}
        for name, digests in old["functions"].items():
            if _within(name, unknown):
                new[name] = digests
            elif keep and name in new:
                new[name] = sorted({*digests, *new[name]})
        table[line] = {
            "read": sorted({*old["read"], version}) if keep else [version],
            "functions": dict(sorted(new.items())),
        }
    TABLE.write_text(json.dumps(dict(sorted(table.items())), indent=1) + "\n", encoding="utf-8")


# What was read


def _load() -> _Table:
    table: _Table = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def _functions(table: _Table, line: str) -> dict[str, list[str]]:
    functions: dict[str, list[str]] = table.get(line, {"functions": {}})["functions"]
    return functions


def _asgiref(table: _Table) -> dict[str, list[str]]:
    """Its releases differ little: one that was not read is held to any that was."""
    line = f"asgiref {_line(asgiref.__version__)}"
    accepted: dict[str, list[str]] = {}
    for known in [line] if line in table else [other for other in table if other.startswith("asgiref ")]:
        for name, digests in _functions(table, known).items():
            accepted.setdefault(name, []).extend(digests)
    return accepted


def _line(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


# What is there


def _found() -> tuple[dict[str, str], set[str]]:
    """The hash of every hooked function, and the modules and functions that cannot be judged here."""
    found: dict[str, str] = {}
    unknown: set[str] = set()
    for database in settings.DATABASES.values():
        _module(f"{database.get('ENGINE')}.base")  # a project's own stands on one of Django's
    for place in sorted({*_USERS, *_NAMED}):
        # Importing psycopg alone takes longer than all of this.
        module = sys.modules.get(place) if place.startswith("django.db.backends.") else _module(place)
        if module is None:
            unknown.add(place)
            continue
        for name, function, code in _everything(module):
            dotted = f"{place}.{name}"
            if function.__module__ in _FORBID:
                unknown.add(dotted)
            elif any(fnmatchcase(name, pattern) for pattern in _NAMED.get(place, ())) or (
                place in _USERS and function.__globals__ is vars(module) and _calls_sync_to_async(code)
            ):
                found[dotted] = _digest(code)
    return found, unknown


def _module(place: str) -> ModuleType | None:
    try:
        return importlib.import_module(place)
    except (ImportError, ImproperlyConfigured):  # no fetch modes before Django 6.1; no driver
        return None
    except RuntimeError:  # an application that is not in INSTALLED_APPS
        return None


def _everything(module: ModuleType) -> Iterator[tuple[str, FunctionType, CodeType]]:
    """Every function of the module, methods and functions within functions included."""
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) == module.__name__:
            yield from _inside(name, value)


def _inside(name: str, value: object) -> Iterator[tuple[str, FunctionType, CodeType]]:
    if isinstance(value, type):
        if value.__qualname__ == name:
            for inner, member in vars(value).items():
                yield from _inside(f"{name}.{inner}", member)
    elif (function := _function(value)) is not None:
        for dotted, code in _codes(name, function.__code__):
            yield dotted, function, code


def _function(value: Any) -> FunctionType | None:
    if isinstance(value, classmethod | staticmethod | MethodType):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, cached_property | django_cached_property):
        value = value.func
    value = inspect.unwrap(value)
    return value if isinstance(value, FunctionType) else None


def _codes(name: str, code: CodeType) -> Iterator[tuple[str, CodeType]]:
    yield name, code
    for inner in _inner(code):
        if not inner.co_name.startswith("<"):
            yield from _codes(f"{name}.{inner.co_name}", inner)


def _calls_sync_to_async(code: CodeType) -> bool:
    """By itself, or in a lambda or comprehension of its own."""
    return "sync_to_async" in code.co_names or any(
        _calls_sync_to_async(inner) for inner in _inner(code) if inner.co_name.startswith("<")
    )


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def _digest(code: CodeType) -> str:
    """Of the text, for bytecode differs from one Python to the next; "" if there is none."""
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    if not lines:
        return ""
    text = textwrap.dedent("".join(inspect.getblock(lines))).strip()
    return hashlib.sha256(text.encode()).hexdigest()[:16]
