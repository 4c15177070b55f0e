"""Django's own connection, as SQLAlchemy wants one: Django's cursors, and Django's ``Atomic`` for its transactions.

So Django's query log, its execute wrappers and its blockers see what SQLAlchemy sends.

Read in Django 5.2 and 6.1 (``db/backends/utils.py``: ``CursorWrapper``; ``db/backends/base/base.py``:
``create_cursor``; ``db/transaction.py``: ``Atomic``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, NoReturn, TypeVar

from django.db import Error, transaction

from asyncdb.config import DatabaseConfig
from asyncdb.drivers.physical import Begun, Liveness, PhysicalConnection, TransactionOptions
from asyncdb.drivers.residue import Residue
from asyncdb.drivers.statements import Kind
from asyncdb.errors import TransactionMisuse, TransactionPoisoned
from asyncdb.listening import told_as, unheard

__all__ = ["Cursor", "Link", "RolledBack"]

T = TypeVar("T")


_DEADLOCK = 1213
"""MySQL's and MariaDB's: the transaction is gone, and what follows would begin another one by itself."""


class RolledBack(Exception):
    """What makes Django's ``Atomic`` roll back."""


class Cursor:
    """One statement after another on Django's connection; its rows are fetched along with it."""

    server_side = False
    arraysize = 1
    description: Any = None
    rowcount = -1
    lastrowid: Any = None
    announced: tuple[Kind, Residue] | None = None

    def __init__(self, link: Link) -> None:
        self._adapt_connection = link
        self._rows: deque[Any] = deque()

    def execute(self, statement: str, parameters: Any = None) -> None:
        self._account_for(statement)
        self._take(self._adapt_connection.send_one(statement, parameters or ()))

    def executemany(self, statement: str, parameters: Sequence[Any]) -> None:
        self._account_for(statement)
        self._take(self._adapt_connection.send_many(statement, parameters))

    def _account_for(self, statement: str) -> None:
        announced, self.announced = self.announced, None
        self._adapt_connection.account_for(statement, *(announced or ()))

    def _take(self, outcome: tuple[Any, int, Any, Sequence[Any]]) -> None:
        self.description, self.rowcount, self.lastrowid, rows = outcome
        self._rows = deque(rows)

    def setinputsizes(self, *_: Any) -> None:
        """Django's cursors know nothing of it."""

    def fetchone(self) -> Any:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return [self._rows.popleft() for _ in range(min(size or self.arraysize, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        rows, self._rows = list(self._rows), deque()
        return rows

    def close(self) -> None:
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """Nothing is open."""


class Link(PhysicalConnection):
    """Django's connection in the thread that owns it; its transaction is Django's to begin and to end."""

    borrowed = True
    isolation_level_of_server = "READ COMMITTED"
    """So that a session that only reads needs no savepoint."""
    kind = Kind.READ
    """Of the last statement."""
    unlogged = False
    """Whether statements pass Django's query log and wrappers by: SQLAlchemy's own questions to a new server."""
    speaking = False
    """Whether a statement that Django sends now is SQLAlchemy's."""
    strict = False
    """Whether a write that failed spoils the block, whose error somebody caught, as one of Django's ORM does."""
    failure: BaseException | None = None
    """A write of SQLAlchemy's that did."""
    query_only = False
    """Whether SQLite has to be told that writing is allowed again."""

    def __init__(self, wrapper: Any, config: DatabaseConfig) -> None:
        self.wrapper = wrapper
        self.dbapi = wrapper.Database
        self._blocks: dict[str, Any] = {}
        """Django's block for each savepoint of SQLAlchemy's."""
        self.begin_life(config)

    # -- statements ----------------------------------------------------------------------------------------------

    def cursor(self, *_: Any, **__: Any) -> Any:
        return Cursor(self)

    def ask(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` in the thread that owns the connection."""
        return function(*args)

    def send_one(self, statement: str, parameters: Any) -> tuple[Any, int, Any, Sequence[Any]]:
        """Runs a statement; what its cursor says of it, and its rows."""
        return self.ask(self._with_cursor, "execute", statement, parameters)

    def send_many(self, statement: str, parameters: Any) -> tuple[Any, int, Any, Sequence[Any]]:
        """The same for each of several parameters."""
        return self.ask(self._with_cursor, "executemany", statement, parameters)

    def _with_cursor(self, verb: str, statement: str, parameters: Any) -> tuple[Any, int, Any, Sequence[Any]]:
        wrapper = self.wrapper
        with self._own_words(), closing(self._unlogged_cursor() if self.unlogged else wrapper.cursor()) as cursor:
            self.prepare(cursor)
            with unheard():  # the dialect has told of it
                try:
                    getattr(cursor, verb)(statement, parameters)
                except Error as err:
                    self._spoil(err)
                    raise
            rows = cursor.fetchall() if cursor.description else ()
            return cursor.description, cursor.rowcount, getattr(cursor, "lastrowid", None), rows

    def _unlogged_cursor(self) -> Any:
        self.wrapper.ensure_connection()
        return self.wrapper.create_cursor()

    def _spoil(self, error: Error) -> None:
        """Sees to it that nothing more runs, as far as the error is one after which that would do harm."""
        wrapper = self.wrapper
        ended = self.ends_transaction(error)
        if ended and self.keeper is not None:
            self.keeper.failed("the server rolled it back (deadlock)", error)
            return
        harms = ended or (self.strict and self.kind is Kind.WRITE)
        if harms and wrapper.in_atomic_block and not wrapper.needs_rollback:
            wrapper.needs_rollback = True
            wrapper.rollback_exc = self.failure = error

    @property
    def has_failed(self) -> bool:
        """Whether the block is to be rolled back for an error of SQLAlchemy's."""
        wrapper = self.wrapper
        return self.failure is not None and wrapper.needs_rollback and wrapper.rollback_exc is self.failure

    def prepare(self, cursor: Any) -> None:
        """Makes Django's cursor read values as SQLAlchemy's dialect expects them."""
        prepare: Callable[[Any], None] | None = PREPARED.get(self.wrapper.vendor)
        if prepare is not None:
            prepare(getattr(cursor, "cursor", cursor))

    def character_set_name(self) -> str:
        return "utf8mb4"

    # -- savepoints ----------------------------------------------------------------------------------------------

    def savepoint(self, name: str) -> None:
        """Sets a savepoint: a block of Django's."""
        self._blocks[name] = self.ask(self.enter_block)

    def release(self, name: str) -> None:
        self.ask(self.leave_block, self._blocks.pop(name), None)

    def roll_back_to(self, name: str) -> None:
        self.ask(self.leave_block, self._blocks.pop(name), RolledBack())

    def enter_block(self, options: TransactionOptions | None = None) -> Any:
        """Enters a block of Django's. In the thread that owns the connection, as all that follows."""
        block: Any = transaction.Atomic(self.wrapper.alias, savepoint=True, durable=False)
        self.enter(block, options)
        return block

    def enter(self, block: Any, options: TransactionOptions | None = None) -> None:
        """Enters a block of Django's that is there already; the outermost begins with ``options``."""
        chosen = options is not None and (options.isolation is not None or options.read_only)
        if chosen and self.wrapper.in_atomic_block:
            raise TransactionMisuse(
                f"isolation and read_only on {self.config.alias!r} were chosen where the caller's transaction began, "
                "which this block joins: leave them out, or test it in a TransactionTestCase, which joins nothing",
            )
        with self._own_words():
            if options is None or not chosen:
                block.__enter__()
            else:
                BEGUN_WITH[self.wrapper.vendor](self, block, options)

    def leave_block(self, block: Any, error: BaseException | None) -> None:
        """Leaves a block of Django's, with an error to roll back."""
        spoiled = error is None and (self.has_failed if self.strict else self.wrapper.needs_rollback)
        self.failure = None
        with self._own_words():
            block.__exit__(None if error is None else type(error), error, None)
        self.allow_writing()
        if spoiled:
            raise TransactionPoisoned(
                f"a block on {self.config.alias!r} was rolled back: an error occurred in it, or set_rollback(True) was "
                "called (an atomic() block around what may fail keeps the rest)",
            )

    def allow_writing(self) -> None:
        """Ends what ``read_only`` began on SQLite."""
        if self.query_only and not self.wrapper.in_atomic_block:
            self.query_only = False
            self.say("PRAGMA query_only = OFF")

    def say(self, statement: str) -> None:
        """Sends a statement about the transaction."""
        with self.wrapper.cursor() as cursor:
            cursor.execute(statement)

    @contextmanager
    def _own_words(self) -> Iterator[None]:
        before, self.speaking = self.speaking, True
        try:
            with told_as("SQLAlchemy"):
                yield
        except transaction.TransactionManagementError as err:  # whose cause is the error before
            raise TransactionPoisoned(
                f"the transaction on {self.config.alias!r} is to be rolled back: an error occurred in it, or "
                "set_rollback(True) was called; leave its block, then start again (an atomic() block around what may "
                "fail keeps the rest)",
            ) from err
        except Error as err:
            raise unwrapped(err) from None
        finally:
            self.speaking = before

    # -- the connection's life is Django's -----------------------------------------------------------------------

    def note_what_is_left(self, statement: str, found: Residue) -> None:
        """It stays where it is, on Django's own connection."""

    @property
    def driver_connection(self) -> Any:
        return self.wrapper.connection

    def come_back(self) -> None:
        """It never left Django's hands."""

    def want_transaction(self) -> None:
        """There is one already, or Django is in autocommit."""

    def end(self, sql: str) -> None:
        """Django ends it."""

    def before(self, kind: Kind) -> None:
        self.kind = kind
        if kind is Kind.BOUNDARY:
            raise TransactionMisuse(
                f"the transaction on {self.config.alias!r} is Django's: begin and end it by transaction.atomic()",
            )

    def _handle_exception(self, error: Exception) -> NoReturn:
        raise error

    @property
    def server_in_transaction(self) -> bool:
        return self.begun is Begun.SENT

    def ends_transaction(self, error: BaseException) -> bool:
        """A deadlock on MySQL and MariaDB. PostgreSQL refuses what follows by itself."""
        return self.wrapper.vendor == "mysql" and error.args[:1] == (_DEADLOCK,)

    def look(self) -> Liveness:
        return Liveness.DEAD if self.doom is not None else Liveness.WHOLE

    async def probe(self) -> None:
        pass

    def abort(self) -> None:
        """Django closes its connection itself."""

    def terminate(self) -> None:
        self.abort()

    def close(self) -> None:
        self.abort()

    def rollback(self) -> None:
        self.end("ROLLBACK")

    def commit(self) -> None:
        self.end("COMMIT")


def unwrapped(error: Error) -> BaseException:
    """The driver's error behind Django's, which SQLAlchemy knows."""
    return error.__cause__ or error


def _prepare_psycopg(cursor: Any) -> None:
    """Django reads some types as text, and times in its own zone (``db/backends/postgresql/psycopg_any.py``)."""
    from psycopg.types.datetime import TimestamptzLoader  # an extra
    from psycopg.types.json import JsonbLoader
    from psycopg.types.net import CidrLoader, InetLoader

    cursor.adapters.register_loader("jsonb", JsonbLoader)
    cursor.adapters.register_loader("inet", InetLoader)
    cursor.adapters.register_loader("cidr", CidrLoader)
    cursor.adapters.register_loader("timestamptz", TimestamptzLoader)


def _begin_mysql(link: Link, block: Any, options: TransactionOptions) -> None:
    level = f"ISOLATION LEVEL {options.isolation}" if options.isolation else ""
    link.say("SET TRANSACTION " + ", ".join(filter(None, [level, "READ ONLY" if options.read_only else ""])))
    block.__enter__()


def _begin_postgresql(link: Link, block: Any, options: TransactionOptions) -> None:
    block.__enter__()
    level = f" ISOLATION LEVEL {options.isolation}" if options.isolation else ""
    link.say(f"SET TRANSACTION{level}{' READ ONLY' if options.read_only else ''}")


def _begin_sqlite(link: Link, block: Any, options: TransactionOptions) -> None:
    if options.read_only:
        link.say("PRAGMA query_only = ON")
        link.query_only = True
    block.__enter__()


PREPARED: dict[str, Callable[[Any], None]] = {"postgresql": _prepare_psycopg}
BEGUN_WITH: dict[str, Callable[[Link, Any, TransactionOptions], None]] = {
    "mysql": _begin_mysql,
    "postgresql": _begin_postgresql,
    "sqlite": _begin_sqlite,
}
