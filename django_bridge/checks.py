"""System checks: pure functions, each with an id, a hint and a place in ``docs/reference/checks.md``.

``asyncdb`` is imported inside the functions, so that a foreign package of that name is reported, not raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import django
from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, Warning

from ._foundation import SUPPORTED_DJANGO, foreign_asyncdb

if TYPE_CHECKING:
    from asyncdb import Database
    from asyncdb.config import DatabaseConfig

__all__ = ["register"]

_SCOPE_MIDDLEWARE = "django_bridge.middleware.ScopeMiddleware"
_DOCS = "See docs/reference/checks.md#{id}."
_IDLE_LIMITS = {
    "mysql": ("wait_timeout", "SELECT @@SESSION.wait_timeout"),
    "postgresql": (
        "idle_session_timeout",
        "SELECT setting::float / 1000 FROM pg_settings WHERE name = 'idle_session_timeout'",
    ),
}
_LIVE_TIMEOUT = 5.0
"""Seconds for one server to answer a live check; longer than a login over a slow network, shorter than a deploy."""


def register() -> None:
    """Registers every check with Django."""
    checks.register(check_django)
    checks.register(check_asyncdb)
    checks.register(check_settings)
    checks.register(check_hooks)
    checks.register(check_thread_locals)
    checks.register(check_fields, Tags.models)
    checks.register(check_deployment)
    checks.register(check_wrappers)
    checks.register(check_middleware, deploy=True)
    checks.register(check_servers, Tags.database)


def check_django(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E005: this Django was not tested with."""
    if django.VERSION[:2] in SUPPORTED_DJANGO:
        return []
    known = " and ".join(f"{major}.{minor}" for major, minor in SUPPORTED_DJANGO)
    return [_error("E005", f"Django {django.get_version()} is not supported.", f"Use Django {known}.")]


def check_hooks(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E006: a function of Django's or asgiref's that the bridge hooks is not the one that was read."""
    if foreign_asyncdb() is not None or django.VERSION[:2] not in SUPPORTED_DJANGO:
        return []
    from .conf import process_mode
    from .drift import changed

    if process_mode() != "native" or not (names := changed()):
        return []
    return [
        _error(
            "E006",
            f"Django {django.get_version()} or asgiref has changed what the bridge hooks: {', '.join(names)}.",
            "Upgrade django-asyncdb, or set ASYNC_DB_MODE=threads in the environment until it knows this release.",
        )
    ]


def check_thread_locals(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W006 and W007: a ``threading.local`` of the project that no list names, and a setting that names none."""
    if foreign_asyncdb() is not None or django.VERSION[:2] not in SUPPORTED_DJANGO:
        return []
    from asyncdb.errors import ConfigurationError

    from .conf import process_mode, thread_locals
    from .scopes import enabled
    from .unsettled import complaints, import_what_requests_use, not_found

    if process_mode() != "native" or not enabled():
        return []
    try:
        thread_locals()
    except ConfigurationError as err:
        return [_warning("W007", str(err), "Correct ASYNC_DB_THREAD_LOCALS: until then nothing of it is honoured.")]
    import_what_requests_use()
    return [
        *(_warning("W007", message, "Correct ASYNC_DB_THREAD_LOCALS.") for message in not_found()),
        *(
            _warning(
                "W006",
                message,
                f"If it holds the user, tenant or context of a request: ASYNC_DB_THREAD_LOCALS = [{path!r}]. If it is "
                f"to stay with its thread, a client or a cache: {{{path!r}: 'thread'}}.",
            )
            for path, message in complaints().items()
        ),
    ]


def check_middleware(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W004 and W005, under ``check --deploy``: ``ScopeMiddleware`` is missing, or something stands above it."""
    if _SCOPE_MIDDLEWARE not in settings.MIDDLEWARE:
        return [
            _warning(
                "W004",
                "ScopeMiddleware is not in MIDDLEWARE: sync views, sessions and the admin keep a connection per "
                "thread under ASGI, beside the pool.",
                f"Put {_SCOPE_MIDDLEWARE!r} first in MIDDLEWARE.",
            )
        ]
    if settings.MIDDLEWARE[0] != _SCOPE_MIDDLEWARE:
        return [
            _warning(
                "W005",
                f"{settings.MIDDLEWARE[0]} stands above ScopeMiddleware: what it asks the database is not on the pool.",
                f"Put {_SCOPE_MIDDLEWARE!r} first in MIDDLEWARE.",
            )
        ]
    return []


def check_asyncdb(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E004: ``import asyncdb`` finds another package."""
    if (place := foreign_asyncdb()) is None:
        return []
    return [
        _error(
            "E004",
            f"The package 'asyncdb' in {place} is an unrelated one.",
            "pip uninstall asyncdb, then reinstall django-asyncdb.",
        )
    ]


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001 to E003: settings that are wrong or cannot be honoured, and drivers that are missing."""
    if foreign_asyncdb() is not None:
        return []
    from asyncdb import engine
    from asyncdb.errors import ConfigurationError, DriverNotInstalled

    from .conf import aliases, config_for, wants_thread_pool, wrapper_for
    from .threads import require_possible

    try:
        found = aliases()
    except ConfigurationError as err:
        return [_error("E001", str(err), "Correct ASYNC_DB or DATABASES.")]
    messages: list[CheckMessage] = []
    for alias in found:
        try:
            if wants_thread_pool(alias):
                require_possible(wrapper_for(alias))
            engine.check(config_for(alias))
        except DriverNotInstalled as err:
            messages.append(_error("E003", str(err), "Install it where the project runs."))
        except ConfigurationError as err:
            code = "E001" if "ASYNC_DB[" in str(err).partition(":")[0] else "E002"
            messages.append(_error(code, str(err), f"Correct ASYNC_DB[{alias!r}] or DATABASES[{alias!r}]."))
    return messages


def check_fields(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E020: a field with a column that SQLAlchemy cannot be given, so that its model cannot be mapped."""
    if foreign_asyncdb() is not None:
        return []
    from .mapping.unmappable import unconnected, why_unmappable

    wrappers = unconnected()
    return [
        _error(
            "E020", f"{model._meta.label}.{field.name} cannot be mapped: {reason}.", f"{remedy[0].upper()}{remedy[1:]}."
        )
        for config in (apps.get_app_configs() if app_configs is None else app_configs)
        for model in config.get_models()
        if not model._meta.proxy
        for field in model._meta.local_concrete_fields
        if (found := why_unmappable(field, wrappers=wrappers)) is not None
        for reason, _, remedy in (found.rpartition(": "),)
    ]


def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W001 and W002: settings that do not do under ASGI what they seem to do."""
    return [
        message
        for alias, database in settings.DATABASES.items()
        for message in (
            *_about_age(alias, database),
            *_about_memory(alias, database),
        )
    ]


def _about_age(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    if database.get("CONN_MAX_AGE", 0) != 0:
        yield _warning(
            "W001",
            f"CONN_MAX_AGE of database {alias!r} strands connections under ASGI: Django gives each "
            "request a thread of its own, and the connection stays behind when the thread ends.",
            "Set CONN_MAX_AGE to 0; how long asyncdb keeps a connection is ASYNC_DB's pool_recycle.",
        )


def _about_memory(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    if "sqlite" in database.get("ENGINE", "") and str(database.get("NAME")) == ":memory:":
        yield _warning(
            "W002",
            f"Database {alias!r} is SQLite in memory: asyncdb has one of its own there, and sees "
            "nothing of what Django wrote.",
            "Use a file, or a shared one: 'NAME': 'file:shared?mode=memory&cache=shared'.",
        )


def check_wrappers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W008 and W009: what of a project's own wrapper class is not called with the pool's connections."""
    if foreign_asyncdb() is not None:
        return []
    from asyncdb.errors import ConfigurationError

    from .conf import aliases, wrapper_for
    from .wrappers.extension import overrides, unheard_hooks

    try:
        classes = {alias: type(wrapper_for(alias)) for alias in aliases()}
    except ConfigurationError:
        return []  # E001 says so
    messages: list[CheckMessage] = []
    for alias, cls in classes.items():
        if unheard := unheard_hooks(cls):
            messages.append(
                _warning(
                    "W008",
                    f"The wrapper of database {alias!r} opens connections itself, and is not called for those of the "
                    f"pool: {', '.join(unheard)}.",
                    "Have it call super(), and put what it changes of the login into get_connection_params().",
                )
            )
        if overrides(cls, "get_new_connection") and (overrides(cls, "close") or overrides(cls, "_close")):
            messages.append(
                _warning(
                    "W009",
                    f"{cls.__module__}.{cls.__qualname__}.close() of database {alias!r} is called where code closes "
                    "the connection, and not where the pool does: what counts by it counts too few.",
                    "Count by database().stats() or the metrics of the pool; silence this where nothing is counted.",
                )
            )
    return messages


def check_servers(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E010 and W011, under ``check --database``: is the server there, and when does it close idle connections?"""
    if not databases or foreign_asyncdb() is not None:
        return []
    from asyncdb.errors import ConfigurationError
    from asyncdb.greenlets import await_, in_greenlet

    from .conf import aliases, config_for

    messages: list[CheckMessage] = []
    try:
        bridged = aliases()
    except ConfigurationError:
        return []  # E001 says so
    for alias in databases:
        if alias not in bridged:
            continue
        try:
            config = config_for(alias)
        except ConfigurationError:
            continue  # E001 or E002 says so
        messages += await_(_ask(alias, config)) if in_greenlet() else asyncio.run(_ask(alias, config))
    return messages


async def _ask(alias: str, config: DatabaseConfig) -> list[CheckMessage]:
    from asyncdb import Database
    from asyncdb.errors import AsyncDBError

    database = Database(config)
    try:
        async with asyncio.timeout(_LIVE_TIMEOUT):
            health = await database.health(timeout=_LIVE_TIMEOUT)
            if not health.ok:
                return [
                    _error(
                        "E010",
                        f"The server of database {alias!r} cannot be reached: {health.error}",
                        "Check HOST, PORT, USER, PASSWORD and NAME, and that the server runs.",
                    )
                ]
            return await _about_idle(alias, database)
    except TimeoutError:
        return [
            _error(
                "E010",
                f"The server of database {alias!r} did not answer within {_LIVE_TIMEOUT:g} s.",
                "Check HOST and PORT, and that the server runs.",
            )
        ]
    except AsyncDBError as err:
        return [_error("E010", f"The server of database {alias!r} cannot be used: {err}", "Check DATABASES.")]
    finally:
        await database.close()


async def _about_idle(alias: str, database: Database) -> list[CheckMessage]:
    from sqlalchemy import text

    config = database.config
    if config.family not in _IDLE_LIMITS:
        return []
    name, query = _IDLE_LIMITS[config.family]
    limit = float(await database.fetch_val(text(query)) or 0)
    if not limit or config.pool_recycle <= limit:
        return []
    return [
        _warning(
            "W011",
            f"The server of database {alias!r} closes connections that were idle for {limit:g} s "
            f"({name}), and pool_recycle is {config.pool_recycle:g} s: they are replaced earlier than it says.",
            f"Set ASYNC_DB[{alias!r}]['pool_recycle'] below {limit:g}, or raise {name}.",
        )
    ]


def _error(code: str, message: str, hint: str) -> CheckMessage:
    return Error(message, hint=f"{hint} {_DOCS.format(id=code.lower())}", id=f"django_bridge.{code}")


def _warning(code: str, message: str, hint: str) -> CheckMessage:
    return Warning(message, hint=f"{hint} {_DOCS.format(id=code.lower())}", id=f"django_bridge.{code}")
