"""The pools of threads of this process, by alias: made at the first connection, forgotten with the settings.

A child process begins with empty ones. It keeps the parent's connections and closes none of them: to close one, or to
deallocate it, would say goodbye on the parent's socket.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections

from asyncdb.errors import ConfigurationError
from asyncdb.statistics import PoolStats

from ..conf import wants_thread_pool
from . import watchdog
from .alias_pool import AliasPool
from .lease import leases

__all__ = ["close_idle", "close_pools", "enable", "forget", "has_pool", "pool_for", "require_possible", "stats"]

_FAMILIES: Final = frozenset({"mysql", "postgresql", "sqlite"})


_making = threading.Lock()
_pools: dict[str, AliasPool] = {}
_on: dict[str, bool] = {}
_enabled = False
_parents: list[Any] = []
"""Connections of the parent process."""


def enable(on: bool) -> None:  # noqa: FBT001  (as of scopes)
    """Switched on where Django is as it was read; until then every wrapper stays as Django makes it."""
    global _enabled  # noqa: PLW0603  (of the process)
    _enabled = on


def has_pool(alias: str) -> bool:
    """Whether threads take their connections to ``alias`` from a pool: ``ASYNC_DB`` asks for it, and it can be."""
    known = _on.get(alias)
    if known is None:
        known = _on[alias] = alias in connections.settings and wants_thread_pool(alias)
    if not (known and _enabled):
        return False
    settings = connections.settings[alias]
    return not (settings["ENGINE"].endswith("sqlite3") and _is_in_memory(settings["NAME"]))


def _is_in_memory(name: Any) -> bool:
    """As Django's backend of SQLite tells it (5.2 and 6.1); tests change the name."""
    return not isinstance(name, os.PathLike) and (name == ":memory:" or "mode=memory" in str(name))


def require_possible(wrapper: Any) -> None:
    """Refuses by name what a pool of threads cannot work with.

    - **errors**: ``ConfigurationError``.
    """
    alias = wrapper.alias
    if wrapper.vendor not in _FAMILIES:
        raise ConfigurationError(
            f"ASYNC_DB[{alias!r}]['thread_pool']: there is none for {wrapper.vendor!r} "
            "(MySQL, MariaDB, PostgreSQL and SQLite have one): remove it"
        )
    if wrapper.vendor == "postgresql":
        if wrapper.settings_dict["OPTIONS"].get("pool"):
            raise ConfigurationError(
                f"database {alias!r} has two pools for its threads: remove OPTIONS['pool'] from DATABASES[{alias!r}], "
                f"or 'thread_pool' from ASYNC_DB[{alias!r}]"
            )
        if wrapper.Database.__name__ != "psycopg":
            raise ConfigurationError(
                f"ASYNC_DB[{alias!r}]['thread_pool'] needs psycopg 3, and Django uses {wrapper.Database.__name__} here"
            )
    if (gevent := sys.modules.get("gevent.monkey")) is not None and gevent.is_module_patched("threading"):
        raise ConfigurationError(
            f"ASYNC_DB[{alias!r}]['thread_pool']: gevent has patched this process, in which a thread is none: use "
            "gunicorn's gthread workers, or remove 'thread_pool'"
        )


def pool_for(wrapper: Any) -> AliasPool | None:
    """Returns the pool from which a wrapper takes its connection; None where it connects as on stock.

    So it does where its settings are not those of its alias (``copy()`` with others), where the database is SQLite's in
    memory, and where the setting was switched off meanwhile.
    """
    alias, settings = wrapper.alias, wrapper.settings_dict
    live = connections.settings.get(alias)
    if live is not settings and live != settings:
        return None
    if not has_pool(alias) or (wrapper.vendor == "sqlite" and wrapper.is_in_memory_db()):
        return None
    pool = _pools.get(alias)
    if pool is None:
        with _making:
            pool = _pools.get(alias)
            if pool is None:
                require_possible(wrapper)
                pool = _pools[alias] = AliasPool(alias)
    return pool


def close_idle(alias: str) -> None:
    """Closes the idle connections of ``alias``, if it has a pool: before its database is created, cloned or dropped."""
    if (pool := _pools.get(alias)) is not None:
        pool.close_idle()


def stats(using: str = DEFAULT_DB_ALIAS) -> PoolStats | None:
    """The pool of threads of an alias at this moment; None where it has none, or none yet."""
    pool = _pools.get(using)
    return None if pool is None else pool.places.stats()


def close_pools(*, wait: float = 0.0) -> bool:
    """Closes all pools; the next statement makes new ones. False if a connection was in use after ``wait`` seconds."""
    whole = True
    for alias in list(_pools):
        if (pool := _pools.pop(alias, None)) is not None:
            whole = pool.shut(wait) and whole
    return whole


def forget() -> None:
    """Closes all pools, and reads the settings again."""
    _on.clear()
    close_pools()


def _at_exit() -> None:
    close_pools()


def _begin_anew_after_fork() -> None:
    global _making  # noqa: PLW0603  (another thread of the parent may have had it)
    _making = threading.Lock()
    watchdog.begin_anew_after_fork()
    for lease in list(leases):
        lease.begin_anew_after_fork()
    for pool in _pools.values():
        for connection in pool.places.begin_anew_after_fork():
            _parents.append(connection)
            _silence(pool.driver.fileno(connection))


def _silence(fileno: int | None) -> None:
    """Puts /dev/null in the place of this process's copy of a socket, for what the interpreter's end deallocates."""
    if fileno is None or fileno < 0:
        return
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, fileno)
        os.close(nowhere)


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_begin_anew_after_fork)
