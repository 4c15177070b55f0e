"""What holds of every physical connection, whatever the driver: its transaction, its bounds, its state of health.

The physical connection is in autocommit. SQLAlchemy's "begin" only notes that a transaction is wanted; BEGIN is
sent before the first statement that needs one. At the end the server's own word decides whether there is
anything to end.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, cast

from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection, AsyncAdapt_dbapi_cursor

from ..config import DatabaseConfig, IsolationLevel
from ..errors import TransactionMisuse, TransactionOwnedByTask, TransactionPoisoned
from ..greenlets import await_
from .statements import Kind, kind_of

if TYPE_CHECKING:
    from sqlalchemy.engine.default import DefaultDialect

    _Connection = AsyncAdapt_dbapi_connection
    _Cursor = AsyncAdapt_dbapi_cursor
    _Dialect = DefaultDialect
else:
    _Connection = _Cursor = _Dialect = object

T = TypeVar("T")
log = logging.getLogger("asyncdb.transaction")


class Liveness(enum.Enum):
    """What a look at the socket tells, without a word to the server."""

    WHOLE = "whole"
    SUSPECT = "suspect"
    DEAD = "dead"


class Begun(enum.Enum):
    """How far the transaction that SQLAlchemy began has come."""

    NO = "no"
    WANTED = "wanted"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class TransactionOptions:
    """What the next BEGIN says.

    ``eager`` sends it before the first statement of whatever kind, as ``atomic`` promises.
    """

    isolation: IsolationLevel | None = None
    read_only: bool = False
    eager: bool = False
    owner: asyncio.Task[Any] | None = None
    """The one task that may run statements in it; None: SQLAlchemy's own rules."""


DEFAULT_OPTIONS = TransactionOptions()
_NO_REPLY = "no reply"
_EACH_STATEMENT_READS_ANEW = frozenset({"READ COMMITTED", "READ UNCOMMITTED"})


def check_owner(alias: str, owner: asyncio.Task[Any] | None) -> None:
    """Raises ``TransactionOwnedByTask`` in any task but ``owner``."""
    task = asyncio.current_task()
    if task is not owner:
        raise TransactionOwnedByTask(
            f"the transaction on {alias!r} belongs to {_name(owner)}, and {_name(task)} reached it: "
            "await its work in the owner's task, or start the task outside of the block",
        )


def _name(task: asyncio.Task[Any] | None) -> str:
    return f"task {task.get_name()!r}" if task is not None else "no task"


class PhysicalConnection(_Connection):
    """Mixin of SQLAlchemy's adapted connections: the transaction state of one physical connection."""

    config: DatabaseConfig
    isolation_level_of_server: str = ""
    idle_limit: float | None = None
    """Seconds after which the server itself closes an idle connection; None: it does not."""
    rollback_on_lock_timeout = False

    def attach(self, config: DatabaseConfig) -> None:
        """Begins the life of this connection in the pool, once its session settings are made."""
        self.config = config
        self.begun = Begun.NO
        self.options = DEFAULT_OPTIONS
        self.isolation_override: str | None = None
        self.wrote = False
        self.wrote_before: dict[str, bool] = {}
        """``wrote`` when each savepoint was set, to which a roll-back takes it back."""
        self.errors_met = False
        self.poison: str | None = None
        self.spoiled: str | None = None
        self.doom: str | None = None
        self._loop = asyncio.get_running_loop()
        self._overdue: float | None = None
        self._watchdog: asyncio.TimerHandle | None = None

    # -- the driver's part ---------------------------------------------------------------------------------------

    @property
    def server_in_transaction(self) -> bool:
        """The server's own word: is a transaction open? True where its word may be out of date."""
        raise NotImplementedError

    def look(self) -> Liveness:
        """Looks at the socket; sends nothing, waits for nothing."""
        raise NotImplementedError

    async def probe(self) -> None:
        """Asks the server for a sign of life: one round trip; raises the driver's error if there is none."""
        raise NotImplementedError

    async def send(self, sql: str) -> None:
        """Sends one statement that has no rows and no parameters."""
        raise NotImplementedError

    async def send_begin(self, options: TransactionOptions, isolation: str | None) -> None:
        """Sends BEGIN with an isolation level, None being the connection's own."""
        raise NotImplementedError

    def abort(self) -> None:
        """Closes the socket at once, without a goodbye, from any state; never waits, never raises."""
        raise NotImplementedError

    def discard(self) -> None:
        """Closes an idle connection at once, also one whose loop is closed; never waits, never raises."""
        self.abort()

    def ends_transaction(self, error: BaseException) -> bool:
        """Whether the server has rolled back the whole transaction along with this error."""
        raise NotImplementedError

    # -- bounds --------------------------------------------------------------------------------------------------

    async def bounded(self, work: Awaitable[T]) -> T:
        """Waits for a reply, at most ``read_timeout`` seconds; then the socket is closed and the driver raises."""
        limit = self.config.read_timeout
        if limit is None:
            return await work
        self._overdue = self._loop.time() + limit
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(limit, self._watch)
        try:
            return await work
        finally:
            self._overdue = None

    def _watch(self) -> None:
        """Looks after a reply that is due; one timer for all statements of a while, since most never need it."""
        self._watchdog = None
        if self._overdue is None:
            return
        left = self._overdue - self._loop.time()
        if left > 0:
            self._watchdog = self._loop.call_later(left, self._watch)
        else:
            self._give_up(f"{self.config.read_timeout:g} s (read_timeout)")

    def _give_up(self, limit: str) -> None:
        self.doom = f"{_NO_REPLY} within {limit}"
        self.abort()

    def unwatch(self) -> None:
        """Ends the watch, for a connection that is closed."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    async def prove_alive(self, *, within: float) -> None:
        """Asks for a sign of life; raises ``TimeoutError`` or the driver's error if none comes in time.

        Unless it answered, the connection is never used again: its reply may still come.
        """
        # The socket is closed under the driver: a cancelled psycopg first asks the server, for up to 10 s.
        watchdog = self._loop.call_later(within, self._give_up, f"{within:g} s (ping)")
        try:
            await self.probe()
        except BaseException:
            self.doom = self.doom or "no answer to a ping"
            raise
        finally:
            watchdog.cancel()
        if self.doom is not None:
            raise TimeoutError(self.doom)

    def _handle_exception(self, error: Exception) -> NoReturn:
        self.note_error(error)
        if self.doom and isinstance(error, self.dbapi.Error) and self.doom.startswith(_NO_REPLY):
            raise self.dbapi.OperationalError(self.doom) from error
        super()._handle_exception(error)

    def note_error(self, error: BaseException) -> None:
        """Draws the conclusions of an error: whether the transaction is over, whether the connection can be trusted."""
        self.errors_met = True
        if not isinstance(error, self.dbapi.Error):
            self.doom = self.doom or f"{type(error).__name__} in the driver"
        elif self.begun is Begun.SENT and self.ends_transaction(error):
            self.poison = "the server rolled it back (deadlock or lock time-out)"

    # -- the transaction -----------------------------------------------------------------------------------------

    @property
    def nothing_to_end(self) -> bool:
        """Whether the end of the transaction needs no word to the server."""
        return self.begun is not Begun.SENT and self.doom is None and not self.server_in_transaction

    def want_transaction(self) -> None:
        self.begun = Begun.WANTED

    def before(self, kind: Kind) -> None:
        """Called before each statement: refuses it in a dead transaction, and sends BEGIN where one is due."""
        if self.options.owner is not None:
            check_owner(self.config.alias, self.options.owner)
        if (reason := self.poison or self.spoiled) is not None:
            raise TransactionPoisoned(
                f"the transaction on {self.config.alias!r} is over: {reason}; leave its block, then start again",
            )
        if self.doom is not None:
            raise self.dbapi.OperationalError(f"this connection is lost: {self.doom}")
        if self.begun is Begun.SENT and not self.server_in_transaction:
            self.begun = Begun.WANTED  # MySQL has committed by itself before DDL: what follows needs a new BEGIN
        if self.begun is Begun.WANTED and (self.options.eager or self.needs_begin(kind)):
            await_(self._begin_now())
        if kind is Kind.WRITE and self.begun is not Begun.NO:
            self.wrote = True

    def needs_begin(self, kind: Kind) -> bool:
        """Whether a statement of this kind needs a BEGIN before it.

        A plain read does not where each statement has a snapshot of its own anyway (SQL-92, READ COMMITTED).
        """
        level = self.options.isolation or self.isolation_override or self.isolation_level_of_server
        return kind is not Kind.READ or level not in _EACH_STATEMENT_READS_ANEW

    async def _begin_now(self) -> None:
        try:
            await self.bounded(self.send_begin(self.options, self.options.isolation or self.isolation_override))
        except Exception as error:
            self._handle_exception(error)
        except BaseException:
            self.doom = "cancelled while it began"
            raise
        self.begun = Begun.SENT

    def end(self, sql: str) -> None:
        """Commits or rolls back, if the server has anything to end."""
        poison, sent = self.poison or self.spoiled, self.begun is Begun.SENT
        try:
            if self.doom is not None:
                self.abort()  # what it would answer cannot be told apart; the server rolls back when it is gone
                if sql == "COMMIT" and sent:
                    raise self.dbapi.OperationalError(f"this connection is lost, nothing was committed: {self.doom}")
            elif sql == "COMMIT" and poison is None:
                if sent:
                    self._say(sql)
            elif self.server_in_transaction:
                self._roll_back()
        finally:
            self.begun, self.options, self.wrote = Begun.NO, DEFAULT_OPTIONS, False
            self.wrote_before.clear()
            self.poison = self.spoiled = None
        self.errors_met = False
        if sql == "COMMIT" and poison is not None:
            raise TransactionPoisoned(
                f"the transaction on {self.config.alias!r} was not committed: {poison}; nothing of it was saved",
            )

    def _say(self, sql: str) -> None:
        try:
            await_(self.bounded(self.send(sql)))
        except Exception as error:
            self._handle_exception(error)
        except BaseException:
            self.doom = f"cancelled during {sql}"
            raise

    def _roll_back(self) -> None:
        """Rolls back; where that fails the connection is dropped, with which the server rolls back by itself."""
        try:
            self._say("ROLLBACK")
        except self.dbapi.Error as error:
            self.doom = self.doom or "ROLLBACK failed"
            log.info("%r: ROLLBACK failed (%s); the connection is dropped", self.config.alias, type(error).__name__)


class BoundedCursor(_Cursor):
    """Mixin of the adapted cursors: every reply within ``read_timeout``."""

    _adapt_connection: Any

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


def physical(dbapi_connection: Any) -> Any:
    """The ``PhysicalConnection`` behind SQLAlchemy's proxies."""
    return getattr(dbapi_connection, "dbapi_connection", None) or dbapi_connection


class PhysicalDialect(_Dialect):
    """Mixin of the dialects: hands the transaction to the ``PhysicalConnection``."""

    isolation_levels: ClassVar[tuple[str, ...]] = (
        "AUTOCOMMIT",
        "READ UNCOMMITTED",
        "READ COMMITTED",
        "REPEATABLE READ",
        "SERIALIZABLE",
    )

    reads_streams_to_their_end = False
    """Whether closing an unfinished stream reads all that the server still sends."""
    on_new_connection: Callable[[Any], None] | None = None

    def open(self, config: DatabaseConfig) -> Any:
        """Opens one physical connection with its session settings made, within ``connect_timeout``. In a greenlet."""
        raise NotImplementedError

    def release(self) -> None:
        """Gives back what the dialect itself holds, once its pool is closed."""

    def on_connect(self) -> Callable[[Any], None]:
        drivers_own = super().on_connect()

        def made(dbapi_connection: Any) -> None:
            if drivers_own is not None:
                drivers_own(dbapi_connection)
            if self.on_new_connection is not None:
                self.on_new_connection(dbapi_connection)

        return made

    def do_begin(self, dbapi_connection: Any) -> None:
        connection = physical(dbapi_connection)
        if connection.isolation_override != "AUTOCOMMIT":
            connection.want_transaction()

    def do_commit(self, dbapi_connection: Any) -> None:
        physical(dbapi_connection).end("COMMIT")

    def do_rollback(self, dbapi_connection: Any) -> None:
        physical(dbapi_connection).end("ROLLBACK")

    def do_savepoint(self, connection: Any, name: str) -> None:
        link = physical(connection.connection)
        link.wrote_before[name] = link.wrote
        super().do_savepoint(connection, name)  # type: ignore[no-untyped-call]  # SQLAlchemy's

    def do_rollback_to_savepoint(self, connection: Any, name: str) -> None:
        super().do_rollback_to_savepoint(connection, name)  # type: ignore[no-untyped-call]  # SQLAlchemy's
        link = physical(connection.connection)
        link.wrote = link.wrote_before.get(name, link.wrote)

    def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        wrote = cursor._adapt_connection.wrote
        self._before(cursor, statement, context)
        try:
            cursor.execute(statement, parameters)
        except self.loaded_dbapi.Error:
            cursor._adapt_connection.wrote = wrote  # a statement that fails undoes itself
            raise

    def do_execute_no_params(self, cursor: Any, statement: Any, context: Any = None) -> None:
        wrote = cursor._adapt_connection.wrote
        self._before(cursor, statement, context)
        try:
            cursor.execute(statement)
        except self.loaded_dbapi.Error:
            cursor._adapt_connection.wrote = wrote
            raise

    def do_executemany(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        self._before(cursor, statement, context)
        cursor.executemany(statement, parameters)

    def _before(self, cursor: Any, statement: str, context: Any) -> None:
        kind = kind_of(context, statement)
        if kind is Kind.READ and cursor.server_side:
            kind = Kind.OPAQUE  # a server-side cursor lives in a transaction
        cursor._adapt_connection.before(kind)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        link = physical(connection) if connection is not None else None
        return getattr(link, "doom", None) is not None or super().is_disconnect(e, connection, cursor)

    def get_isolation_level_values(self, dbapi_conn: Any) -> Any:
        return self.isolation_levels

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        connection = physical(dbapi_connection)
        if connection.begun is Begun.SENT:
            raise TransactionMisuse("the isolation level cannot change inside a transaction: choose it where it begins")
        connection.isolation_override = level

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        connection = physical(dbapi_connection)
        return connection.isolation_override or connection.isolation_level_of_server

    def reset_isolation_level(self, dbapi_conn: Any) -> None:
        physical(dbapi_conn).isolation_override = None

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        return physical(dbapi_conn).isolation_level_of_server

    def detect_autocommit_setting(self, dbapi_conn: Any) -> bool:
        return bool(physical(dbapi_conn).isolation_override == "AUTOCOMMIT")
