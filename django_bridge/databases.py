"""``database()``: the one ``Database`` of an alias on the running event loop."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS

from asyncdb import Database, registry

from . import connections
from .conf import config_for
from .connected import announce

__all__ = ["database"]

_CONFIGURED_BY = frozenset({"ASYNC_DB", "DATABASES", "TIME_ZONE", "USE_TZ"})


def database(using: str | None = None) -> Database:
    """Returns the ``Database`` of the alias ``using`` (default: ``"default"``) on the running event loop.

    It is built at the first call; its connections are opened when they are needed, each with the
    connection parameters that the project's own wrapper gives at that time.

    - **errors**: ``ConfigurationError`` for an unknown alias or a wrong setting; ``NoEventLoop`` outside asyncio.
    """
    alias = using or DEFAULT_DB_ALIAS
    return registry.get(alias, partial(_build, alias))


def _build(alias: str) -> Database:
    source = partial(config_for, alias)
    return Database(source(), source=source, on_connect=partial(announce, alias))


def _forget(*, setting: str, **_: Any) -> None:
    """Builds anew what was built from a setting that a test overrides."""
    if setting in _CONFIGURED_BY:
        connections.forget()
        for alias in {built.config.alias for built in registry.databases()}:
            for built in registry.forget(alias):
                built.retire()


setting_changed.connect(_forget, dispatch_uid="django_bridge.databases")
connections.install(database)
