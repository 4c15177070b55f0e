"""``Database``: the one object that a user holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import Executable, Result
from sqlalchemy.exc import ResourceClosedError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from . import health
from .config import DatabaseConfig, IsolationLevel
from .drivers.physical import TransactionOptions
from .engine import create_engine, dialect_of, pool_of
from .errors import DatabaseClosed, NoEventLoop, TransactionMisuse
from .fetching import Params
from .health import Health
from .paging import Paging
from .retry import run_in_attempts
from .session import Session, SessionBlock
from .statistics import PoolStats
from .transaction import Atomic, current_session, innermost

T = TypeVar("T")
log = logging.getLogger("asyncdb.database")


class _OneStatement(Session):
    """A session for one statement, committed at its end, whose connection nobody needs after it."""

    def __init__(self, engine: AsyncEngine, connection: AsyncConnection | None = None) -> None:
        super().__init__(engine, connection=connection, transaction=TransactionOptions(single=True))
        self.shares_streams = connection is not None

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if exc is None and not self.closes_without_a_word:
                await self.commit()  # whatever it was: a SELECT may call a function that writes
        finally:
            await self.close()

    async def _abandon_stream(self) -> bool:
        if not dialect_of(self.engine).reads_streams_to_their_end or not isinstance(self.bind, AsyncEngine):
            return False
        await self.invalidate()
        return True


class Database(Paging):
    """One database, for one event loop in one process.

    ::

        database = Database(DatabaseConfig.from_url("sqlite:///books.sqlite3"))
        books = await database.fetch_all(select(book.c.id, book.c.title), into=BookOut)
        async with database.atomic() as db:
            await db.execute(insert(book), {"title": "Momo"})

    Its verbs (``fetch_all``, …) run one statement in a transaction of its own, or in the ``atomic`` block that this
    task is in. Nothing is opened before the first statement.
    """

    def __init__(
        self,
        config: DatabaseConfig,
        *,
        source: Callable[[], DatabaseConfig] | None = None,
        on_connect: Callable[[Any], None] | None = None,
    ) -> None:
        """Takes the configuration; connects to nothing.

        ``source`` is asked before each physical connection where and as whom to connect, so that credentials may
        rotate; the pool's numbers stay those of ``config``. ``on_connect`` is called in SQLAlchemy's greenlet with
        each new physical connection (a DB-API connection that looks synchronous) once its session settings are made.
        """
        self.config = config
        self._source = source
        self._on_connect = on_connect
        self._engine: AsyncEngine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    def __repr__(self) -> str:
        return f"<Database {self.config}{' closed' if self.closed else ''}>"

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine, made on first use for the loop that runs.

        - **errors**: ``DatabaseClosed``; ``NoEventLoop`` where no asyncio loop runs, or another than at first use;
          ``DriverNotInstalled``.
        """
        loop = _running_loop()
        if loop is None:
            raise NoEventLoop(
                f"database {self.config.alias!r} needs a running asyncio event loop, and none runs here "
                "(trio is not supported)",
            )
        if self._engine is not None and self._loop is loop:
            return self._engine
        if self.closed:
            raise DatabaseClosed(f"database {self.config.alias!r} is closed")
        if self._engine is not None:
            raise NoEventLoop(
                f"database {self.config.alias!r} belongs to another event loop: take it from asyncdb.registry, "
                "or make one Database per loop",
            )
        self._engine = self._make_engine()
        self._loop = loop
        return self._engine

    def _make_engine(self) -> AsyncEngine:
        return create_engine(self.config, source=self._source, on_connect=self._on_connect)

    def session(self, **options: Any) -> AbstractAsyncContextManager[Session]:
        """Opens a session that leaves commit to you; ``options`` are those of SQLAlchemy's ``AsyncSession``.

        Under READ COMMITTED a session that only reads costs one round trip per statement. It has a connection of its
        own, also inside ``atomic``.

        - **errors**: ``UncommittedWrites`` if the block ends normally and something was written but not committed;
          it is rolled back;
        - **cancel**: rolled back, the connection given back or dropped.
        """
        engine = self.engine
        inside_atomic = innermost(engine) is not None
        session = Session(engine, connection=self._connection_of_its_own(), **options)
        return SessionBlock(session, self.config.alias, inside_atomic=inside_atomic)

    def atomic(
        self,
        *,
        isolation: IsolationLevel | None = None,
        read_only: bool = False,
        savepoint: bool = True,
        durable: bool = False,
    ) -> AbstractAsyncContextManager[Session]:
        """A transaction as a block: commits at its end, rolls back on an exception. Nested, it is a savepoint.

        ``savepoint=False`` nests without a savepoint; ``durable`` refuses to be nested. Yields the block's session,
        which has ``on_commit(hook)``.

        - **errors**: ``TransactionMisuse``, ``TransactionOwnedByTask``, ``TransactionPoisoned``;
        - **cancel**: rolled back; during COMMIT the outcome is the server's and the connection is dropped;
        - **source**: ``django.db.transaction.atomic``, whose meanings these options have.
        """
        self.require_isolation(isolation)
        return Atomic(
            self.engine,
            self.config.alias,
            isolation=isolation,
            read_only=read_only,
            savepoint=savepoint,
            durable=durable,
        )

    async def retry(
        self,
        function: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        attempts: int | None = None,
        isolation: IsolationLevel | None = None,
        read_only: bool = False,
        **kwargs: Any,
    ) -> T:
        """Runs ``function`` in a transaction, and again in another one when the server undid the first for a conflict.

        ::

            await database.retry(transfer, source, target, 10)  # async def transfer(source, target, amount, *, db)

        A parameter named ``db`` gets the session of the attempt. Conflicts are deadlocks, lock time-outs, failed
        serializations and certifications; nothing whose outcome is not known is repeated, a broken COMMIT least of all.
        Of a failed attempt nothing is kept: its hooks (``on_commit``) never run, its objects belong to no session. What
        ``function`` does elsewhere, it does again. ``attempts`` defaults to ``transaction_attempts``.

        - **errors**: ``TransactionMisuse`` inside another transaction, which no attempt of this one could undo; the
          server's of the last attempt, which is rolled back;
        - **cancel**: as :meth:`atomic`; nothing is tried again.
        """
        return await run_in_attempts(
            self, function, (args, kwargs), attempts=attempts, isolation=isolation, read_only=read_only
        )

    def retried_block(
        self, *, isolation: IsolationLevel | None, read_only: bool
    ) -> AbstractAsyncContextManager[Session]:
        """The block of one attempt of :meth:`retry`."""
        self._refuse_to_retry_inside()
        return self.atomic(isolation=isolation, read_only=read_only)

    def _refuse_to_retry_inside(self) -> None:
        if innermost(self.engine) is not None:
            raise TransactionMisuse(
                f"retry() on {self.config.alias!r} inside of another transaction: a conflict ends the whole of it, so "
                "retry that one instead",
            )

    def note_retry(self) -> None:
        """Counts one more attempt."""
        pool_of(self.engine).counts.retried += 1

    def require_isolation(self, isolation: IsolationLevel | None) -> None:
        """Raises ``TransactionMisuse`` for an isolation level that this family has not."""
        if isolation is not None and isolation not in dialect_of(self.engine).isolation_levels:
            raise TransactionMisuse(
                f"{self.config.family} has no isolation level {isolation!r}: each of its transactions is SERIALIZABLE",
            )

    @property
    def _alias(self) -> str:
        return self.config.alias

    def _session_for_statement(self) -> AbstractAsyncContextManager[AsyncSession]:
        session = current_session(self.engine)
        return nullcontext(session) if session is not None else self._session_of_its_own()

    def _session_of_its_own(self) -> AbstractAsyncContextManager[AsyncSession]:
        return _OneStatement(self.engine, self._connection_of_its_own())

    def _connection_of_its_own(self) -> AsyncConnection | None:
        """The connection of a session that no block lends; None: one of the pool's, taken when it is needed."""
        return None

    async def execute(self, statement: Executable, params: Params = None) -> Result[Any]:
        """Runs one statement, committed when it returns unless this task is in an ``atomic`` block.

        - **errors**: the server's as ``sqlalchemy.exc.DBAPIError``.
        """
        async with self._session_for_statement() as session:
            result = await session.execute(statement, params)
            return result.freeze()() if _returns_rows(result) else result

    async def health(self, *, timeout: float = 5.0) -> Health:
        """Checks a connection out and pings the server, within ``timeout`` s; an unreachable one is an answer too."""
        return await health.check(self.engine, self.config, timeout=timeout)

    def stats(self) -> PoolStats:
        """Counts the pool's connections and callers now; no wait, no round trip."""
        return pool_of(self.engine).stats()

    async def close(self, *, timeout: float = 5.0) -> None:
        """Closes every connection: idle ones now, the others as they come back, the rest by force after ``timeout`` s.

        - **cancel**: closes the rest by force at once.
        """
        self.closed = True
        engine = self._engine
        if engine is None:
            return
        try:
            left = await pool_of(engine).drain(timeout)
            if left:
                log.warning(
                    "%r: %d connections were still in use after %g s and were cut", self.config.alias, left, timeout
                )
        finally:
            dialect_of(engine).release()
            self._engine = None

    def retire(self) -> None:
        """Lets those who use a connection finish, and gives none to anybody else; does not wait."""
        self.closed = True
        engine, loop = self._engine, self._loop
        if engine is None or loop is None:
            return
        if loop.is_closed():
            self.abandon()
        elif loop.is_running() and loop is not _running_loop():
            loop.call_soon_threadsafe(_retire, engine)
        else:
            _retire(engine)

    def abandon(self) -> None:
        """Closes the sockets without waiting; for a loop that runs no more, or from another thread than its."""
        self.closed = True
        engine, loop = self._engine, self._loop
        self._engine = None
        if engine is None or loop is None:
            return
        if loop.is_running() and loop is not _running_loop():
            loop.call_soon_threadsafe(_abandon, engine)
        else:
            _abandon(engine)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _returns_rows(result: Result[Any]) -> bool:
    """Whether there are rows to be had; what a bulk ``insert()`` of the ORM gives says so by an error alone."""
    try:
        result.keys()
    except ResourceClosedError:
        return False
    return True


def _retire(engine: AsyncEngine) -> None:
    pool_of(engine).retire()
    dialect_of(engine).release()  # SQLite's database in memory: who uses a connection holds it open as well


def _abandon(engine: AsyncEngine) -> None:
    pool_of(engine).abandon()
    dialect_of(engine).release()
