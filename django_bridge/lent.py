"""A connection that somebody else owns, as SQLAlchemy wants one of a pool.

Read in SQLAlchemy 2.1.9 (``pool/base.py``: ``PoolProxiedConnection``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from sqlalchemy.pool import PoolProxiedConnection

from asyncdb.drivers.physical import Begun, PhysicalConnection
from asyncdb.errors import TransactionMisuse

__all__ = ["LentConnection"]


class LentConnection(PoolProxiedConnection):
    """It is not SQLAlchemy's to give back."""

    __slots__ = ("__weakref__", "_admit", "_has_begun", "_link", "info", "record_info")

    def __init__(self, link: PhysicalConnection, admit: Callable[[], None] | None = None) -> None:
        """``admit`` raises where no statement may be sent now."""
        self._link: PhysicalConnection | None = link
        self._admit = admit
        self._has_begun = False
        self.info: dict[str, Any] = {}
        self.record_info: dict[str, Any] = {}

    def sever(self) -> None:
        """Takes the connection away from whoever still holds the session."""
        self._link = None

    @property
    def dbapi_connection(self) -> Any:  # type: ignore[override]  # it is never None: it is there, or this raises
        if self._link is None:
            raise TransactionMisuse(
                "the block of this session is over, or its connection was closed: open another block",
            )
        return self._link

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]  # as above
        return self.dbapi_connection.driver_connection

    @property
    def is_valid(self) -> bool:
        return self._link is not None

    @property
    def is_detached(self) -> bool:
        return False

    def close(self) -> None:
        """Its owner gives it back."""

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:  # noqa: FBT001, FBT002
        """Dooms it; who ends the transaction closes it."""
        if (link := self._link) is not None:
            link.doom = link.doom or (f"{type(e).__name__} amid a statement" if e is not None else "it was invalidated")

    def detach(self) -> NoReturn:
        raise TransactionMisuse("detach() would take the connection out of its block: use session()")

    def begins(self) -> None:
        """Called before SQLAlchemy begins a transaction of its own here: each session's is apart, and there is one."""
        if self._admit is not None and self.dbapi_connection.begun is not Begun.NO:
            raise TransactionMisuse(
                "another session() of this scope is in a transaction on the connection that carries the changed "
                "session: commit it or end it first, or use that one",
            )
        self._has_begun = True

    def ends(self) -> bool:
        """Called before SQLAlchemy ends a transaction here; whether it is one that it has begun here."""
        begun, self._has_begun = self._has_begun, False
        return begun or self._admit is None

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        link = self.dbapi_connection
        if self._admit is not None:
            self._admit()
            if link.one_result_at_a_time:
                kwargs.pop("server_side", None)  # read whole, since nothing else could be asked before its end
        return link.cursor(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dbapi_connection, name)
