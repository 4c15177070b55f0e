"""System checks: pure functions, each with an id, a hint and a place in ``docs/reference/checks.md``.

``asyncdb`` is imported inside the functions, so that a foreign package of that name is reported, not raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import django
from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, Warning

from ._foundation import foreign_asyncdb

if TYPE_CHECKING:
    from asyncdb.config import DatabaseConfig

__all__ = ["SUPPORTED_DJANGO", "register"]

SUPPORTED_DJANGO = ((5, 2), (6, 1))
"""The Django releases whose functions were read and tested with."""

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
    checks.register(check_deployment)
    checks.register(check_servers, Tags.database)


def check_django(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E005: this Django was not tested with."""
    if django.VERSION[:2] in SUPPORTED_DJANGO:
        return []
    known = " and ".join(f"{major}.{minor}" for major, minor in SUPPORTED_DJANGO)
    return [_error("E005", f"Django {django.get_version()} is not supported.", f"Use Django {known}.")]


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

    from .conf import aliases, config_for

    try:
        found = aliases()
    except ConfigurationError as err:
        return [_error("E001", str(err), "Correct ASYNC_DB or DATABASES.")]
    messages: list[CheckMessage] = []
    for alias in found:
        try:
            engine.check(config_for(alias))
        except DriverNotInstalled as err:
            messages.append(_error("E003", str(err), "Install it where the project runs."))
        except ConfigurationError as err:
            code = "E001" if "ASYNC_DB[" in str(err).partition(":")[0] else "E002"
            messages.append(_error(code, str(err), f"Correct ASYNC_DB[{alias!r}] or DATABASES[{alias!r}]."))
    return messages


def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W001 to W003: settings that do not do under ASGI what they seem to do."""
    return [
        message
        for alias, database in settings.DATABASES.items()
        for message in (
            *_about_age(alias, database),
            *_about_memory(alias, database),
            *_about_requests(alias, database),
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


def _about_requests(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    if database.get("ATOMIC_REQUESTS"):
        yield _warning(
            "W003",
            f"ATOMIC_REQUESTS of database {alias!r} has no effect on what async views do through "
            "asyncdb, and Django refuses such a view outright.",
            "Mark async views with django.db.transaction.non_atomic_requests and decorate them with "
            "django_bridge.atomic.",
        )


def check_servers(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E010 and W011, under ``check --database``: is the server there, and when does it close idle connections?"""
    if not databases or foreign_asyncdb() is not None:
        return []
    from asyncdb.errors import ConfigurationError

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
        messages += asyncio.run(_ask(alias, config))
    return messages


async def _ask(alias: str, config: DatabaseConfig) -> list[CheckMessage]:
    from asyncdb import registry
    from asyncdb.errors import AsyncDBError

    from .databases import database

    try:
        async with asyncio.timeout(_LIVE_TIMEOUT):
            health = await database(alias).health(timeout=_LIVE_TIMEOUT)
            if not health.ok:
                return [
                    _error(
                        "E010",
                        f"The server of database {alias!r} cannot be reached: {health.error}",
                        "Check HOST, PORT, USER, PASSWORD and NAME, and that the server runs.",
                    )
                ]
            return await _about_idle(alias, config)
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
        await registry.close_all()


async def _about_idle(alias: str, config: DatabaseConfig) -> list[CheckMessage]:
    from sqlalchemy import text

    from .databases import database

    if config.family not in _IDLE_LIMITS:
        return []
    name, query = _IDLE_LIMITS[config.family]
    limit = float(await database(alias).fetch_val(text(query)) or 0)
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
