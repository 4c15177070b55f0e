"""What holds of every cursor, whatever the driver: each reply in time, no greenlet switch for nothing."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_cursor

from ..greenlets import await_
from .physical import PhysicalConnection
from .residue import Residue
from .statements import Kind

if TYPE_CHECKING:
    _Cursor = AsyncAdapt_dbapi_cursor
else:
    _Cursor = object

T = TypeVar("T")


class BoundedCursor(_Cursor):
    """Mixin of the adapted cursors: account of every statement, whoever sends it, and its reply in ``read_timeout``."""

    _adapt_connection: Any
    announced: tuple[Kind, Residue] | None = None
    """What the dialect knows of the statement that comes; None where it does not come from there."""

    def execute(self, operation: Any, parameters: Any = None) -> Any:
        self._account_for(operation)
        return super().execute(operation, parameters)

    def executemany(self, operation: Any, seq_of_parameters: Any) -> Any:
        self._account_for(operation)
        return super().executemany(operation, seq_of_parameters)

    def _account_for(self, operation: Any) -> None:
        announced, self.announced = self.announced, None
        statement = operation if isinstance(operation, str) else str(operation)
        self._adapt_connection.account_for(statement, *(announced or ()))

    def _aenter_cursor(self, cursor: Any) -> Any:
        # asyncmy 0.2.18 and psycopg 3.3.9 return the cursor itself: no need to switch greenlets for that.
        return cursor

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        return await self._adapt_connection.bounded(super()._execute_async(operation, parameters))

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        return await self._adapt_connection.bounded(super()._executemany_async(operation, seq_of_parameters))


class BoundedStreamCursor(BoundedCursor):
    """Mixin of the adapted server-side cursors: every batch within ``read_timeout``."""

    def _bounded(self, work: Awaitable[T]) -> T:
        connection: PhysicalConnection = self._adapt_connection
        try:
            return await_(connection.bounded(work))
        except Exception as error:
            connection._handle_exception(error)

    def close(self) -> None:
        cursor: Any = self._cursor
        self._cursor = cast("Any", None)
        if cursor is not None:
            self._bounded(cursor.close())  # reads, or asks, the server

    def fetchone(self) -> Any:
        return self._bounded(self._cursor.fetchone())

    def fetchmany(self, size: int | None = None) -> Any:
        return self._bounded(self._cursor.fetchmany(size if size is not None else self._cursor.arraysize))

    def fetchall(self) -> Any:
        return self._bounded(self._cursor.fetchall())
