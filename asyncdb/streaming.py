"""``RowStream``: rows while the server sends them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast

from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession

from .rows import convert

T = TypeVar("T")


class _Abandons(Protocol):
    async def _abandon_stream(self) -> bool: ...


class RowStream(Generic[T]):
    """Rows on their way; see :meth:`asyncdb.fetching.Fetching.stream`."""

    def __init__(  # noqa: PLR0917  (called once, below)
        self,
        open_session: Callable[[], AbstractAsyncContextManager[AsyncSession]],
        statement: Executable,
        params: Any,
        into: type[T] | None,
        alias: str,
        batch: int,
        options: Mapping[str, Any],
    ) -> None:
        if batch < 1:
            raise ValueError(f"a stream's batch is at least 1 row, not {batch}")
        self._open_session = open_session
        self._statement = statement
        self._params = params
        self._into = into
        self._alias = alias
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
                    for row in (
                        cast("Sequence[T]", part) if self._into is None else convert(part, self._into, self._alias)
                    ):
                        yield row
                finished = True
            finally:
                if finished or not await cast("_Abandons", session)._abandon_stream():  # noqa: SLF001  (Fetching's)
                    await result.close()
