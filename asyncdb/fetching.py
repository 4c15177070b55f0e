"""The typed verbs that ``Session`` and ``Database`` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, overload

from sqlalchemy import Executable, Row
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import TypedReturnsRows

from .errors import ManyRows, NoRow
from .rows import convert
from .streaming import RowStream

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Params: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None

_BATCH = 1000
"""Rows a batch: large enough that the round trips vanish, small enough to stay in the processor's cache."""


class Fetching:
    """Mixin with ``fetch_all``, ``fetch_one``, ``fetch_one_or_none``, ``fetch_val`` and ``stream``.

    Every verb takes a SQLAlchemy statement, its parameters, and ``into``: a pydantic model, a dataclass, ``dict``, a
    tuple type or a scalar type, see :func:`asyncdb.rows.convert`. Without ``into`` the rows are SQLAlchemy's.
    """

    def _session_for_statement(self) -> AbstractAsyncContextManager[AsyncSession]:
        raise NotImplementedError

    @property
    def _alias(self) -> str:
        """The alias of the database that the rows come from."""
        raise NotImplementedError

    async def _abandon_stream(self) -> bool:
        """Drops the connection of an unfinished stream where that is cheaper than reading on; says if it did."""
        return False

    async def _all(self, statement: Executable, params: Params) -> Sequence[Row[Any]]:
        async with self._session_for_statement() as session:
            result = await session.execute(statement, params)
            return result.all()

    async def _one_row(self, statement: Executable, params: Params) -> Sequence[Row[Any]]:
        """The only row, or no row."""
        rows = await self._all(statement, params)
        if len(rows) > 1:
            raise ManyRows(
                f"one row was asked for and {len(rows)} were found: narrow the statement, or use fetch_all()"
            )
        return rows

    @overload
    async def fetch_all(
        self,
        statement: Executable,
        params: Params = None,
        *,
        into: type[dict[Any, Any]],
    ) -> list[dict[str, Any]]: ...
    @overload
    async def fetch_all(self, statement: Executable, params: Params = None, *, into: type[T]) -> list[T]: ...
    @overload
    async def fetch_all(  # type: ignore[overload-overlap]  # typed columns come before untyped ones
        self,
        statement: TypedReturnsRows[*Ts],
        params: Params = None,
        *,
        into: None = None,
    ) -> Sequence[Row[*Ts]]: ...
    @overload
    async def fetch_all(
        self,
        statement: Executable,
        params: Params = None,
        *,
        into: None = None,
    ) -> Sequence[Row[Any]]: ...
    async def fetch_all(self, statement: Any, params: Params = None, *, into: Any = None) -> Any:
        """Returns every row, in order, as ``into``.

        - **errors**: ``RowShape`` if a row does not fit; the server's as ``sqlalchemy.exc.DBAPIError``;
        - **cancel**: the connection is dropped, unless the reply was complete.
        """
        rows = await self._all(statement, params)
        return rows if into is None else convert(rows, into, self._alias)

    @overload
    async def fetch_one(
        self,
        statement: Executable,
        params: Params = None,
        *,
        into: type[dict[Any, Any]],
    ) -> dict[str, Any]: ...
    @overload
    async def fetch_one(self, statement: Executable, params: Params = None, *, into: type[T]) -> T: ...
    @overload
    async def fetch_one(  # type: ignore[overload-overlap]  # typed columns come before untyped ones
        self,
        statement: TypedReturnsRows[*Ts],
        params: Params = None,
        *,
        into: None = None,
    ) -> Row[*Ts]: ...
    @overload
    async def fetch_one(self, statement: Executable, params: Params = None, *, into: None = None) -> Row[Any]: ...
    async def fetch_one(self, statement: Any, params: Params = None, *, into: Any = None) -> Any:
        """Returns the only row as ``into``.

        - **errors**: ``NoRow``, ``ManyRows``; else as :meth:`fetch_all`.
        """
        rows = await self._one_row(statement, params)
        if not rows:
            raise NoRow("one row was asked for and none was found: use fetch_one_or_none() if that may be")
        return rows[0] if into is None else convert(rows, into, self._alias)[0]

    @overload
    async def fetch_one_or_none(
        self,
        statement: Executable,
        params: Params = None,
        *,
        into: type[dict[Any, Any]],
    ) -> dict[str, Any] | None: ...
    @overload
    async def fetch_one_or_none(self, statement: Executable, params: Params = None, *, into: type[T]) -> T | None: ...
    @overload
    async def fetch_one_or_none(  # type: ignore[overload-overlap]  # typed columns come before untyped ones
        self,
        statement: TypedReturnsRows[*Ts],
        params: Params = None,
        *,
        into: None = None,
    ) -> Row[*Ts] | None: ...
    @overload
    async def fetch_one_or_none(
        self,
        statement: Executable,
        params: Params = None,
        *,
        into: None = None,
    ) -> Row[Any] | None: ...
    async def fetch_one_or_none(self, statement: Any, params: Params = None, *, into: Any = None) -> Any:
        """Returns the only row as ``into``, or None.

        - **errors**: ``ManyRows``; else as :meth:`fetch_all`.
        """
        rows = await self._one_row(statement, params)
        if not rows:
            return None
        return rows[0] if into is None else convert(rows, into, self._alias)[0]

    @overload
    async def fetch_val(self, statement: Executable, params: Params = None, *, into: type[T]) -> T: ...
    @overload
    async def fetch_val(
        self,
        statement: TypedReturnsRows[T, *Ts],
        params: Params = None,
        *,
        into: None = None,
    ) -> T: ...
    @overload
    async def fetch_val(self, statement: Executable, params: Params = None, *, into: None = None) -> Any: ...
    async def fetch_val(self, statement: Any, params: Params = None, *, into: Any = None) -> Any:
        """Returns the first column of the only row, as the scalar type ``into`` if one is given.

        - **errors**: ``NoRow``, ``ManyRows``; else as :meth:`fetch_all`.
        """
        return (
            (await self.fetch_one(statement, params))[0]
            if into is None
            else await self.fetch_one(
                statement,
                params,
                into=into,
            )
        )

    @overload
    def stream(
        self,
        statement: Executable,
        params: Params = None,
        *,
        into: type[dict[Any, Any]],
        batch: int = _BATCH,
        **options: Any,
    ) -> RowStream[dict[str, Any]]: ...
    @overload
    def stream(
        self,
        statement: Executable,
        params: Params = None,
        *,
        into: type[T],
        batch: int = _BATCH,
        **options: Any,
    ) -> RowStream[T]: ...
    @overload
    def stream(
        self,
        statement: TypedReturnsRows[*Ts],
        params: Params = None,
        *,
        into: None = None,
        batch: int = _BATCH,
        **options: Any,
    ) -> RowStream[Row[*Ts]]: ...
    @overload
    def stream(
        self,
        statement: Executable,
        params: Params = None,
        *,
        into: None = None,
        batch: int = _BATCH,
        **options: Any,
    ) -> RowStream[Row[Any]]: ...
    def stream(
        self,
        statement: Any,
        params: Params = None,
        *,
        into: Any = None,
        batch: int = _BATCH,
        **options: Any,
    ) -> Any:
        """Iterates over the rows as ``into`` while the server sends them, ``batch`` rows in memory at a time.

        ``async for row in db.stream(...)`` is enough. Left early, it ends in a moment, or at the latest with the task
        that opened it; ``async with db.stream(...) as rows`` ends it at once. On a session
        ``await db.stream(...)`` is SQLAlchemy's own ``AsyncSession.stream``, an ``AsyncResult``; ``options`` are its.

        - **units**: rows;
        - **errors**: as :meth:`fetch_all`, at the row where they occur;
        - **cancel**: an unfinished stream never returns its connection to the pool.
        """
        return RowStream(self._session_for_statement, statement, params, into, self._alias, batch, options)
