"""``RowStream``: rows while the server sends them.

::

    RowStream       what ``stream()`` returns: a statement, and what was begun of it
      _Rows         what ``async for`` reads; who drops it has left the stream
        _generate   the rows; it knows neither of the two, so that no cycle keeps them for the garbage collector
          _Reading  how far it has come

A stream that is left before its end has a connection to give back, and that must not wait for a collection. One with a
connection of its own is closed by a task of the event loop, as Python does with a generator that is dropped. One on the
connection of a session is left to that connection, which ends it before it is asked anything else: a task beside the
session's would speak in between.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar, cast

from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession

from .errors import TransactionMisuse
from .opener import Opener
from .rows import convert

T = TypeVar("T")


class _Session(Protocol):
    async def _abandon_stream(self) -> bool: ...

    shares_streams: bool

    def link_of_stream(self) -> Any: ...
    @property
    def open_streams(self) -> set[Any]: ...
    def require_open(self) -> None: ...


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
        self._rows: _Rows[T] | None = None

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
            reading = _Reading(self._alias)
            generator: AsyncGenerator[T, None] = _generate(
                reading, self._open_session, self._statement, self._params, self._into, self._batch, self._options
            )
            self._rows = _Rows(generator, reading)
        return self._rows

    async def aclose(self) -> None:
        """Ends the stream; its connection goes back."""
        if self._rows is not None:
            await self._rows.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class _Reading:
    """How far a stream was read, and by whom."""

    result: AsyncResult[Any] | None = None
    """What is open; None before the first row, and after the last."""
    link: Any = None
    """The session's connection, if the stream is on one that has other users."""
    alone: Any = None
    """The connection, if it is the stream's own."""
    held_by: set[Any] | None = None
    """What keeps this until it is closed: the session's, for a connection would keep the session."""
    left = False
    """Whether nobody will read on."""
    rows: weakref.ref[_Rows[Any]]

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.opener = Opener()

    def begins(self, result: AsyncResult[Any], session: _Session) -> None:
        """Called with what is open now."""
        self.result = result
        link = session.link_of_stream()
        if not session.shares_streams:
            self.alone = link
        elif link is not None:
            self.link, self.held_by = link, session.open_streams
            session.open_streams.add(self)
            link.add_stream(self)
        self.opener.when_it_ends(partial(_opener_ended, self.rows))

    def ends(self) -> bool:
        """Called when nobody reads on; whether what is open is to be closed now."""
        link, self.link, self.alone = self.link, None, None
        self.opener.forget()
        if link is None:
            self.result = None
            return True
        return not self.left and bool(link.take_stream(self))

    def leave(self) -> None:
        """Notes that nobody reads on. In any thread, amid anything: it waits for nothing and sends nothing."""
        if self.result is not None:
            self.left = True
            if self.alone is not None:
                self.alone.coming_back = True


class _Rows(AsyncIterator[T]):
    """The rows that ``async for`` reads."""

    __slots__ = ("__weakref__", "_generator", "_next", "_reading")

    def __init__(self, generator: AsyncGenerator[T, None], reading: _Reading) -> None:
        self._generator = generator
        self._next: Callable[[], Awaitable[T]] = generator.__anext__
        self._reading = reading
        reading.rows = weakref.ref(self)

    def __anext__(self) -> Any:  # once a row: nothing more belongs here
        return self._next()

    async def aclose(self) -> None:
        """Ends the stream."""
        await self._generator.aclose()

    def opener_ended(self) -> None:
        """Closes what the task has left open that opened it and alone read of it. On the loop."""
        reading = self._reading
        if reading.result is not None and not reading.left:
            reading.leave()
            self._next = partial(_refuse, reading.alias)
            loop = asyncio.get_running_loop()
            loop.create_task(_closed(self._generator), context=contextvars.Context())  # noqa: RUF006  (the loop has it)

    def __del__(self) -> None:
        self._reading.leave()  # the generator goes with it, and Python has the loop close that


def _opener_ended(rows: weakref.ref[_Rows[Any]]) -> None:
    if (kept := rows()) is not None:
        kept.opener_ended()


async def _refuse(alias: str) -> NoReturn:
    raise TransactionMisuse(
        f"the stream on {alias!r} was closed when the task that opened it ended: read it there, or open it in the task "
        "that reads it"
    )


async def _closed(generator: AsyncGenerator[Any, None]) -> None:
    await generator.aclose()


async def _generate(  # noqa: PLR0917  (called once, above)
    reading: _Reading,
    open_session: Callable[[], AbstractAsyncContextManager[AsyncSession]],
    statement: Executable,
    params: Any,
    into: type[T] | None,
    batch: int,
    options: Mapping[str, Any],
) -> AsyncGenerator[T, None]:
    execution = {"yield_per": batch, **(options.get("execution_options") or {})}
    async with open_session() as session:
        known = cast("_Session", session)
        result = await AsyncSession.stream(session, statement, params, **{**options, "execution_options": execution})
        reading.begins(result, known)
        finished = False
        try:
            async for part in result.partitions(batch):
                reading.opener.note_reader()
                known.require_open()  # a driver may have read on by itself, and would say that this is all
                for row in cast("Sequence[T]", part) if into is None else convert(part, into, reading.alias):
                    yield row
            finished = True
        except Exception:
            known.require_open()  # else the end of its block would be seen as some error of the driver
            raise
        finally:
            if reading.ends() and (finished or not await known._abandon_stream()):  # noqa: SLF001  (Fetching's)
                await result.close()
