"""``DATABASES`` and ``ASYNC_DB`` -> ``DatabaseConfig``.

Nothing is kept: each call reads the settings as they are now, so that a test database's name, overridden
settings and rotating credentials are followed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from asyncdb.config import DatabaseConfig
from asyncdb.errors import ConfigurationError

from .options import mysql, postgresql, sqlite
from .options.draft import Draft

__all__ = [
    "Bridge",
    "aliases",
    "bridge_for",
    "config_for",
    "thread_limits",
    "thread_locals",
    "wants_thread_pool",
    "wrapper_for",
]

_Translator = Callable[[BaseDatabaseWrapper, Mapping[str, Any], Draft], None]
_TRANSLATORS: dict[str, _Translator] = {
    "mysql": mysql.translate,
    "postgresql": postgresql.translate,
    "sqlite": sqlite.translate,
}
_OWNED_BY_DATABASES = {
    "alias": "the key itself",
    "family": "ENGINE",
    "host": "HOST",
    "port": "PORT",
    "unix_socket": "HOST",
    "user": "USER",
    "password": "PASSWORD",
    "database": "NAME",
}


Mode = Literal["native", "threads"]
_MODES: tuple[Mode, ...] = ("native", "threads")
Join = Literal["tests", "always", "never"]
_JOINS: tuple[Join, ...] = ("tests", "always", "never")
Release = Literal["operation", "request"]
_RELEASES: tuple[Release, ...] = ("operation", "request")
_FLOWS = ("context", "thread")
_OF_ANY_POOL = (
    "pool_size", "max_overflow", "pool_recycle", "pool_pre_ping", "ping_after", "connect_timeout", "ping_timeout",
    "tcp_keepalive", "close_timeout",
)  # fmt: skip
"""Fields of ``DatabaseConfig`` that hold for the pool of threads too."""


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """What ``ASYNC_DB`` says of an alias to the bridge alone.

    - ``require_at_startup``: whether ``lifespan.startup`` fails if the server cannot be reached;
    - ``ignore_options``: entries of ``OPTIONS`` that the async side may do without;
    - ``mode``: whether the ORM's queries run on the event loop (``native``) or in Django's threads (``threads``);
    - ``join``: what a session does beneath sync code that is in a transaction: it joins in ``tests`` and is refused
      elsewhere, joins ``always``, or ``never`` and has a connection of its own;
    - ``thread_pool``: whether threads that use Django's own wrapper and driver take their connections from a pool;
    - ``thread_pool_size``: how many connections that has at most; by default as many as the loop's pool;
    - ``thread_pool_timeout``: seconds that a thread waits in line while no connection comes free at all. Thirty, not
      five: under stock such a thread would be served slowly, and its request not fail;
    - ``thread_pool_release``: whether a connection goes back after each ``operation``, or with the ``request``.
    """

    require_at_startup: bool = False
    ignore_options: frozenset[str] = frozenset()
    mode: Mode = "native"
    join: Join = "tests"
    thread_pool: bool = False
    thread_pool_size: int | None = None
    thread_pool_timeout: float = 30.0
    thread_pool_release: Release = "operation"


@dataclass(frozen=True)
class Asked:
    """What the project's wrapper said when it was asked for connection parameters."""

    config: DatabaseConfig
    parameters: dict[str, Any] = field(repr=False)
    put_on: dict[str, Any] = field(repr=False)
    """What it put on itself meanwhile."""


asked: ContextVar[Asked | None] = ContextVar("django_bridge_asked", default=None)
"""The last answer in this context: whoever opens a connection by it need not ask again."""


def aliases() -> list[str]:
    """All aliases of ``DATABASES``, less those of other vendors that ``ASYNC_DB`` does not name."""
    async_db = _async_db()
    return [
        alias
        for alias in settings.DATABASES or ["default"]
        if alias in async_db or wrapper_for(alias).vendor in _TRANSLATORS
    ]


def config_for(alias: str) -> DatabaseConfig:
    """Returns the configuration of ``alias`` as the settings are now.

    The project's own wrapper is asked for its connection parameters each time; no connection is opened.

    - **errors**: ``ConfigurationError`` that names every wrong setting, and no value of it.
    """
    own = _checked(alias)
    bridge = bridge_for(alias)
    wrapper = wrapper_for(alias)
    try:
        translate = _TRANSLATORS[wrapper.vendor]
    except KeyError:
        raise ConfigurationError(
            f"database {alias!r}: no async driver for {wrapper.vendor!r} (ENGINE {wrapper.settings_dict['ENGINE']!r}): "
            f"MySQL, MariaDB, PostgreSQL and SQLite are bridged; leave {alias!r} to Django",
        ) from None
    draft = Draft(alias, ignored=bridge.ignore_options)
    before = dict(vars(wrapper))
    try:
        wrapper.check_settings()
        parameters = wrapper.get_connection_params()
        translate(wrapper, dict(parameters), draft)
    except ImproperlyConfigured as err:
        raise ConfigurationError(f"database {alias!r}: {err}") from err
    except (KeyError, TypeError, ValueError) as err:
        if isinstance(err, ConfigurationError):
            raise
        raise ConfigurationError(
            f"database {alias!r}: {type(wrapper).__module__} cannot make connection parameters of DATABASES[{alias!r}] "
            f"({type(err).__name__}): check PORT, NAME and OPTIONS",
        ) from err
    if wrapper.settings_dict["AUTOCOMMIT"] is not True:
        draft.refuse("AUTOCOMMIT", "is off, and a session here begins its transactions itself: remove it")
    _tls_of_async_db(own, draft)
    draft.close()
    merged = {
        "session_settings": draft.session_settings | _mapping(alias, own, "session_settings"),
        "driver_options": draft.driver_options | _mapping(alias, own, "driver_options"),
    }
    try:
        found = DatabaseConfig.of(
            alias=alias, family=wrapper.vendor, **_development() | _ages(wrapper) | draft.fields | own | merged
        )
    except ConfigurationError as err:
        if not any(re.search(rf"\b{name}\b", str(err)) for name in own):
            raise
        reason = str(err).removeprefix(f"database {alias!r}: ")
        raise ConfigurationError(f"ASYNC_DB[{alias!r}]: {reason}") from None
    put_on = {name: value for name, value in vars(wrapper).items() if before.get(name, before) is not value}
    asked.set(Asked(found, parameters, put_on))
    return found


def _development() -> dict[str, float]:
    """Who keeps a connection is found while a project is developed; a page takes no ten seconds, a call no two."""
    return {"leak_after": 10.0, "held_idle_after": 2.0} if settings.DEBUG else {}


def bridge_for(alias: str) -> Bridge:
    """Returns what ``ASYNC_DB`` says of ``alias`` to the bridge alone.

    - **errors**: ``ConfigurationError``.
    """
    own = _settings_of(alias)
    required = own.get("require_at_startup", False)
    ignored = own.get("ignore_options", ())
    if not isinstance(required, bool):
        raise ConfigurationError(f"ASYNC_DB[{alias!r}]['require_at_startup'] must be True or False")
    if isinstance(ignored, str) or not isinstance(ignored, Iterable) or not all(isinstance(i, str) for i in ignored):
        raise ConfigurationError(f"ASYNC_DB[{alias!r}]['ignore_options'] must be a list of names of OPTIONS")
    mode = own.get("mode", "native")
    if mode not in _MODES:
        raise ConfigurationError(f"ASYNC_DB[{alias!r}]['mode'] must be one of {', '.join(map(repr, _MODES))}")
    join = own.get("join", "tests")
    if join not in _JOINS:
        raise ConfigurationError(f"ASYNC_DB[{alias!r}]['join'] must be one of {', '.join(map(repr, _JOINS))}")
    return Bridge(
        require_at_startup=required,
        ignore_options=frozenset(ignored),
        mode=mode,
        join=join,
        **_of_thread_pool(alias, own),
    )


def _of_thread_pool(alias: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """What ``ASYNC_DB`` says of the pool of threads, checked."""
    found = {name: own[name] for name in Bridge.__dataclass_fields__ if name.startswith("thread_pool") and name in own}
    said = f"ASYNC_DB[{alias!r}]"
    if not isinstance(found.get("thread_pool", False), bool):
        raise ConfigurationError(f"{said}['thread_pool'] must be True or False")
    size = found.get("thread_pool_size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ConfigurationError(f"{said}['thread_pool_size'] must be a whole number of connections, at least 1")
    timeout = found.get("thread_pool_timeout", 1.0)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        raise ConfigurationError(f"{said}['thread_pool_timeout'] must be a positive number of seconds")
    if found.get("thread_pool_release", "operation") not in _RELEASES:
        raise ConfigurationError(f"{said}['thread_pool_release'] must be one of {', '.join(map(repr, _RELEASES))}")
    return found


def wants_thread_pool(alias: str) -> bool:
    """Whether ``ASYNC_DB`` asks for the pool of threads; what is wrong with it is told by ``bridge_for``."""
    async_db = getattr(settings, "ASYNC_DB", None)
    own = async_db.get(alias) if isinstance(async_db, Mapping) else None
    return isinstance(own, Mapping) and bool(own.get("thread_pool"))


def thread_limits(alias: str) -> DatabaseConfig:
    """Returns the limits of the pool of threads on ``alias``, and nothing else of it: times, sizes, pings.

    The wrapper's own connection parameters are not looked at, for Django's driver takes any.

    - **errors**: ``ConfigurationError``.
    """
    own = _settings_of(alias)
    wrapper = wrapper_for(alias)
    limits = {name: own[name] for name in _OF_ANY_POOL if name in own}
    return DatabaseConfig.of(alias=alias, family=wrapper.vendor, database="-", **_ages(wrapper) | limits)


def process_mode() -> Mode:
    """Returns what the environment's ``ASYNC_DB_MODE`` says for the whole process; ``native`` where it says nothing.

    - **errors**: ``ConfigurationError`` for another word.
    """
    mode = os.environ.get("ASYNC_DB_MODE") or "native"
    if mode not in _MODES:
        raise ConfigurationError(f"the environment's ASYNC_DB_MODE must be one of {', '.join(_MODES)}, not {mode!r}")
    return mode


def thread_locals() -> dict[str, str]:
    """Returns what ``ASYNC_DB_THREAD_LOCALS`` says: for each dotted path ``context`` or ``thread``.

    - **errors**: ``ConfigurationError``.
    """
    said = getattr(settings, "ASYNC_DB_THREAD_LOCALS", None) or {}
    if isinstance(said, str) or not isinstance(said, Iterable):
        raise ConfigurationError(
            "ASYNC_DB_THREAD_LOCALS must be a list of dotted paths, or a dict of them: "
            "{'shop.middleware._state': 'context', 'shop.http._client': 'thread'}"
        )
    found = dict(said) if isinstance(said, Mapping) else dict.fromkeys(said, "context")
    for path, how in found.items():
        if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")) or "." not in path:
            raise ConfigurationError(f"ASYNC_DB_THREAD_LOCALS: {path!r} is no dotted path of a module's attribute")
        if how not in _FLOWS:
            raise ConfigurationError(f"ASYNC_DB_THREAD_LOCALS[{path!r}] must be one of {', '.join(map(repr, _FLOWS))}")
    return found


def wrapper_for(alias: str) -> BaseDatabaseWrapper:
    """Returns a new instance of the project's own wrapper for ``alias``; it is nobody's connection.

    - **errors**: ``ConfigurationError`` for an unknown alias and for a backend that cannot be loaded.
    """
    _known(alias, f"no database {alias!r} in DATABASES")
    try:
        return ConnectionHandler(settings.DATABASES).create_connection(alias)
    except ImproperlyConfigured as err:
        raise ConfigurationError(f"database {alias!r}: {err}") from err


def settings_of(alias: str) -> dict[str, Any]:
    """Returns the settings of ``alias`` as Django completes them; the live ones, which a test database renames."""
    there = connections.settings if connections.settings is settings.DATABASES else None
    found: dict[str, Any] = (there or ConnectionHandler(settings.DATABASES).settings)[alias]
    return found


def _async_db() -> Mapping[str, Any]:
    async_db = getattr(settings, "ASYNC_DB", None)
    if async_db is None:
        return {}
    if not isinstance(async_db, Mapping):
        raise ConfigurationError("ASYNC_DB must be a dict: {'default': {'pool_size': 10}}")
    for alias in async_db:
        _known(alias, f"ASYNC_DB names {alias!r}, which is not in DATABASES")
    return async_db


def _known(alias: Any, complaint: str) -> None:
    names = list(settings.DATABASES or ["default"])
    if alias not in names:
        raise ConfigurationError(complaint + _did_you_mean(alias, names))


def _settings_of(alias: str) -> Mapping[str, Any]:
    own = _async_db().get(alias, {})
    if not isinstance(own, Mapping):
        raise ConfigurationError(f"ASYNC_DB[{alias!r}] must be a dict: {{'pool_size': 10}}")
    return own


def _checked(alias: str) -> dict[str, Any]:
    """The entries of ``ASYNC_DB`` that are fields of ``DatabaseConfig``."""
    bridge = Bridge.__dataclass_fields__.keys()
    known = sorted((DatabaseConfig.model_fields.keys() - _OWNED_BY_DATABASES.keys()) | bridge)
    own = _settings_of(alias)
    for name in own:
        if name in _OWNED_BY_DATABASES:
            raise ConfigurationError(
                f"ASYNC_DB[{alias!r}][{name!r}]: DATABASES owns it: set {_OWNED_BY_DATABASES[name]} there",
            )
        if name not in known:
            raise ConfigurationError(f"ASYNC_DB[{alias!r}] has an unknown key {name!r}" + _did_you_mean(name, known))
    return {name: value for name, value in own.items() if name not in bridge}


def _did_you_mean(name: Any, names: Collection[str]) -> str:
    lowered = {known.lower(): known for known in names}
    near = difflib.get_close_matches(str(name).lower(), lowered, n=1)
    return f": did you mean {lowered[near[0]]!r}?" if near else f": one of {', '.join(sorted(names))}"


def _mapping(alias: str, own: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = own.get(name, {})
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"ASYNC_DB[{alias!r}][{name!r}] must be a dict")
    return dict(value)


def _ages(wrapper: BaseDatabaseWrapper) -> dict[str, Any]:
    """Django's own words on the age and the health of a connection."""
    found: dict[str, Any] = {}
    if age := wrapper.settings_dict["CONN_MAX_AGE"]:
        found["pool_recycle"] = age
    if wrapper.settings_dict["CONN_HEALTH_CHECKS"]:
        found["pool_pre_ping"] = True
    return found


def _tls_of_async_db(own: Mapping[str, Any], draft: Draft) -> None:
    """A TLS mode in ``ASYNC_DB`` replaces what ``OPTIONS`` say of the mode; certificates stay."""
    if "tls" not in own:
        return
    draft.refused = [refusal for refusal in draft.refused if not refusal.startswith(("'ssl_mode'", "'sslmode'"))]
    if own["tls"] in (None, "disabled"):
        for name in ("tls_ca", "tls_cert", "tls_key"):
            draft.fields.pop(name, None)
