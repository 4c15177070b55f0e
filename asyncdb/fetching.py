"""The typed verbs that ``Session`` and ``Database`` share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, TypeVarTuple, cast, overload

from sqlalchemy import Executable, Row
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession
from sqlalchemy.sql.selectable import TypedReturnsRows

from .errors import ManyRows, NoRow
from .rows import convert

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
        return rows if into is None else convert(rows, into)

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
        return rows[0] if into is None else convert(rows, into)[0]

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
        return rows[0] if into is None else convert(rows, into)[0]

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

        ``async for row in db.stream(...)`` is enough; leave the loop early only inside
        ``async with db.stream(...) as rows``, which ends the stream at once and not when it is collected. On a session
        ``await db.stream(...)`` is SQLAlchemy's own ``AsyncSession.stream``, an ``AsyncResult``; ``options`` are its.

        - **units**: rows;
        - **errors**: as :meth:`fetch_all`, at the row where they occur;
        - **cancel**: an unfinished stream never returns its connection to the pool.
        """
        return RowStream(self._session_for_statement, statement, params, into, batch, options)


class RowStream(Generic[T]):
    """Rows on their way; see :meth:`Fetching.stream`."""

    def __init__(  # noqa: PLR0917  (called once, below)
        self,
        open_session: Callable[[], AbstractAsyncContextManager[AsyncSession]],
        statement: Executable,
        params: Any,
        into: type[T] | None,
        batch: int,
        options: Mapping[str, Any],
    ) -> None:
        if batch < 1:
            raise ValueError(f"a stream's batch is at least 1 row, not {batch}")
        self._open_session = open_session
        self._statement = statement
        self._params = params
        self._into = into
        self._batch = batch
        self._options = options
        self._rows: AsyncGenerator[T, None] | None = None

    def __await__(self) -> Generator[Any, None, AsyncResult[Any]]:
        return self._result().__await__()

    async def _result(self) -> AsyncResult[Any]:
        opened = self._open_session()
        if not isinstance(opened, nullcontext):
            raise TypeError("only a session's stream() can be awaited: use `async for` or `async with`")
        async with opened as session:
            return await AsyncSession.stream(session, self._statement, self._params, **self._options)

    def __aiter__(self) -> AsyncIterator[T]:
        if self._rows is None:
            self._rows = self._generate()
        return self._rows

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._rows is not None:
            await self._rows.aclose()

    async def _generate(self) -> AsyncGenerator[T, None]:
        async with self._open_session() as session:
            options = {"yield_per": self._batch, **(self._options.get("execution_options") or {})}
            result = await AsyncSession.stream(
                session,
                self._statement,
                self._params,
                **{**self._options, "execution_options": options},
            )
            finished = False
            try:
                async for part in result.partitions(self._batch):
                    for row in cast("Sequence[T]", part) if self._into is None else convert(part, self._into):
                        yield row
                finished = True
            finally:
                if finished or not await cast("Fetching", session)._abandon_stream():  # noqa: SLF001  (of this file)
                    await result.close()
