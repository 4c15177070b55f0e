"""Whole transactions tried again, by table: those of which the server says that it undid them and why.

Nothing whose outcome is not known is ever tried again: no lost connection, no broken COMMIT, nothing after a commit.

Sources: MySQL 8.4 manual, "InnoDB Error Handling" and "Group Replication"; MariaDB documentation, "MariaDB Error Codes"
and ``innodb_snapshot_isolation``; Galera Cluster documentation, "Certification-based replication"; PostgreSQL
manual, "Serialization Failure Handling"; SQLite manual, "Result and Error Codes".
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, Protocol, TypeVar

from .attempts import attempts
from .codes import code_of
from .config import DatabaseConfig, IsolationLevel
from .errors import AsyncDBError
from .session import Session

__all__ = ["Retries", "retried", "run_in_attempts", "takes_db"]

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("asyncdb.retry")

WORTH_ANOTHER_ATTEMPT: dict[int | str, str] = {
    1213: "a deadlock; in a Galera cluster also a transaction that failed certification",
    1205: "a lock was not given in time, or at once (MariaDB's NOWAIT)",
    3572: "a lock was not given at once (MySQL's NOWAIT)",
    1020: "a row has changed since it was read (MariaDB's innodb_snapshot_isolation)",
    3101: "a transaction failed certification (MySQL's Group Replication)",
    1047: "a Galera node that is not ready refused a statement",
    "40001": "the transactions cannot be serialized",
    "40P01": "a deadlock",
    "55P03": "a lock was not given in time (lock_timeout), or at once (NOWAIT)",
    "SQLITE_BUSY": "another connection writes",
    "SQLITE_BUSY_SNAPSHOT": "another connection has written since this one began to read",
    "SQLITE_BUSY_RECOVERY": "another connection repairs the database after a crash",
    "SQLITE_LOCKED": "another connection writes the table",
    "SQLITE_LOCKED_SHAREDCACHE": "another connection writes the table",
}
_NOT_AT_COMMIT = frozenset({1047})
"""What says for a statement that it was refused, but not for a COMMIT that the cluster has not taken it."""


class Block(Protocol):
    """A transaction as a block, which says what became of it."""

    @property
    def committed(self) -> bool: ...
    @property
    def can_be_repeated(self) -> bool: ...
    async def __aenter__(self) -> Session: ...
    async def __aexit__(self, *error: object) -> bool | None: ...


class Retries(Protocol):
    """What :func:`retried` needs of a database."""

    config: DatabaseConfig

    def retried_block(
        self, *, isolation: IsolationLevel | None, read_only: bool
    ) -> AbstractAsyncContextManager[Session]: ...
    def note_retry(self) -> None: ...


async def run_in_attempts(
    database: Retries,
    function: Callable[..., Awaitable[T]],
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    *,
    attempts: int | None,
    isolation: IsolationLevel | None,
    read_only: bool,
) -> T:
    """Runs ``function`` in a transaction, and anew in another one while the server says that it is worth it."""
    one = _Attempts(database, attempts or database.config.transaction_attempts)
    args, kwargs = arguments
    give_db = takes_db(function)
    async for attempt in one.blocks():
        with attempt:
            block: Any = database.retried_block(isolation=isolation, read_only=read_only)
            one.begins(block)
            async with block as db:
                if not block.can_be_repeated:  # in a test's transaction, which no attempt of ours could end
                    one.number = 1
                value = await function(*args, **(kwargs | {"db": db} if give_db else kwargs))
                one.at_commit = True
            return value
    raise AssertionError("the last attempt returned or raised")


class _Attempts:
    """The attempts of one call."""

    block: Block | None = None
    at_commit = False

    def __init__(self, database: Retries, number: int) -> None:
        self._database = database
        self.number = number
        self._failed = 0
        self._why: int | str = 0

    def blocks(self) -> Any:
        config = self._database.config
        return attempts(self._worth_it, number=self.number, wait=config.retry_wait, wait_max=config.retry_wait_max)

    def begins(self, block: Block) -> None:
        """Another attempt begins, in ``block``."""
        self.block, self.at_commit = block, False
        if self._failed:
            self._database.note_retry()
            log.warning(
                "%r: attempt %d of %d at a transaction failed (%s: %s) and is made again",
                self._database.config.alias,
                self._failed,
                self.number,
                self._why,
                WORTH_ANOTHER_ATTEMPT[self._why],
            )

    def _worth_it(self, error: Exception) -> bool:
        self._failed += 1
        code = code_of(error)
        if (
            self._failed >= self.number
            or self.block is None
            or self.block.committed  # a hook failed, which knows codes too
            or isinstance(error, AsyncDBError)
            or code is None
            or code not in WORTH_ANOTHER_ATTEMPT
            or (self.at_commit and code in _NOT_AT_COMMIT)
        ):
            return False
        self._why = code
        return True


def retried(
    database: Retries | Callable[[], Retries],
    *,
    attempts: int | None = None,
    isolation: IsolationLevel | None = None,
    read_only: bool = False,
) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]:
    """Decorates an async function: each call is a transaction, tried again as ``Database.retry`` does.

    ::

        @retried(database)
        async def transfer(source, target, amount, *, db): ...

    A function that has a parameter named ``db`` gets the session of the attempt. ``database`` may be a function that
    returns the database of the running loop.

    - **errors**: ``TypeError`` where it decorates what is not ``async def``; at the call those of ``Database.retry``.
    """

    def decorate(function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"retried: {getattr(function, '__qualname__', function)!r} is not 'async def'")

        @functools.wraps(function)
        async def in_attempts(*args: Any, **kwargs: Any) -> T:
            place = database() if callable(database) else database
            return await run_in_attempts(
                place, function, (args, kwargs), attempts=attempts, isolation=isolation, read_only=read_only
            )

        return in_attempts

    return decorate


def takes_db(function: Callable[..., Any]) -> bool:
    """Whether ``function`` has a parameter named ``db`` that can be given by its name."""
    try:
        parameter = inspect.signature(function).parameters.get("db")
    except (TypeError, ValueError):  # it has no signature that could be read
        return False
    return parameter is not None and parameter.kind in (
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
