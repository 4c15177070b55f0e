"""What holds of every dialect, whatever the driver: the transaction is the ``PhysicalConnection``'s own affair."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from ..config import DatabaseConfig
from ..errors import ConnectFailed, TransactionMisuse
from ..listening import listeners, tell, unheard
from .physical import Begun, physical
from .residue import Residue, residue
from .routines import Routines
from .statements import Kind, kind_of

if TYPE_CHECKING:
    from sqlalchemy.engine.default import DefaultDialect

    _Dialect = DefaultDialect
else:
    _Dialect = object


class PhysicalDialect(_Dialect):
    """Mixin of the dialects: hands the transaction to the ``PhysicalConnection``."""

    isolation_levels: ClassVar[tuple[str, ...]] = (
        "AUTOCOMMIT",
        "READ UNCOMMITTED",
        "READ COMMITTED",
        "REPEATABLE READ",
        "SERIALIZABLE",
    )

    streams_live_in_transactions = False
    reads_streams_to_their_end = False
    """Whether closing an unfinished stream reads all that the server still sends."""
    on_new_connection: Callable[[Any], None] | None = None
    alias: str | None = None
    """Whose dialect this is, in ``DatabaseConfig``'s word; None: nobody's in particular."""

    @functools.cached_property
    def routines(self) -> Routines:
        """What is known of the functions of its database."""
        return Routines()

    def open(self, config: DatabaseConfig) -> Any:
        """Opens one physical connection with its session settings made, within ``connect_timeout``. In a greenlet."""
        raise NotImplementedError

    async def end_running(self, running: Sequence[Any]) -> int:
        """Ends statements on the server whose connections are closed here; returns how many it is sure of.

        ``running`` is what ``what_runs()`` of the connections gave.
        """
        return 0

    def release(self) -> None:
        """Gives back what the dialect itself holds, once its pool is closed."""

    def initialize(self, connection: Any) -> None:
        link = physical(connection.connection)
        with unheard(), _within_login(link):
            super().initialize(connection)
        _forget_what_was_left(link)

    def on_connect(self) -> Callable[[Any], None]:
        drivers_own = super().on_connect()

        def made(dbapi_connection: Any) -> None:
            with _within_login(physical(dbapi_connection)):
                if drivers_own is not None:
                    drivers_own(dbapi_connection)
                if self.on_new_connection is not None:
                    with unheard():
                        self.on_new_connection(dbapi_connection)
                _forget_what_was_left(physical(dbapi_connection))

        return made

    def do_begin(self, dbapi_connection: Any) -> None:
        connection = physical(dbapi_connection)
        if connection.shared_by_sessions:
            dbapi_connection.begins()
        if connection.isolation_override != "AUTOCOMMIT":
            connection.want_transaction()

    def do_commit(self, dbapi_connection: Any) -> None:
        connection = physical(dbapi_connection)
        if connection.keeper is not None:
            connection.refuse_boundary()
        if not connection.shared_by_sessions or dbapi_connection.ends():
            connection.end("COMMIT")

    def do_rollback(self, dbapi_connection: Any) -> None:
        connection = physical(dbapi_connection)
        if connection.keeper is not None:
            connection.keeper.failed("SQLAlchemy gave it up (a failed flush, or a rollback() on its connection)")
        elif not connection.shared_by_sessions or dbapi_connection.ends():
            connection.end("ROLLBACK")

    def do_savepoint(self, connection: Any, name: str) -> None:
        link = physical(connection.connection)
        link.wrote_before[name] = link.wrote
        super().do_savepoint(connection, name)  # type: ignore[no-untyped-call]  # SQLAlchemy's

    def do_rollback_to_savepoint(self, connection: Any, name: str) -> None:
        link = physical(connection.connection)
        if (keeper := link.keeper) is not None:
            keeper.rolls_back_to_savepoint()
        try:
            super().do_rollback_to_savepoint(connection, name)  # type: ignore[no-untyped-call]  # SQLAlchemy's
        except BaseException:
            if keeper is not None:
                keeper.failed("its savepoint could not be rolled back")
            raise
        link.forget_limit()
        if keeper is not None:
            keeper.rolled_back_to_savepoint()
        link.wrote = link.wrote_before.get(name, link.wrote)

    def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        link = cursor._adapt_connection
        kind = self._announce(cursor, statement, context)
        wrote = link.wrote
        try:
            cursor.execute(statement, parameters)
        except self.loaded_dbapi.Error as error:
            link.wrote = wrote  # a statement that fails undoes itself; an executemany may not
            _blame(link, kind, error)
            raise

    def do_execute_no_params(self, cursor: Any, statement: Any, context: Any = None) -> None:
        self.do_execute(cursor, statement, None, context)

    def do_executemany(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        kind = self._announce(cursor, statement, context)
        try:
            cursor.executemany(statement, parameters)
        except self.loaded_dbapi.Error as error:
            _blame(cursor._adapt_connection, kind, error)
            raise

    def _announce(self, cursor: Any, statement: str, context: Any) -> Kind:
        """Tells the cursor what is known of the statement that comes, from its compiled form."""
        compiled: Any = getattr(context, "compiled", None)
        if compiled is not None and context.statement is not statement:
            compiled = context = None  # a listener has changed its words
        kind = kind_of(context, statement)
        if cursor.server_side and self.streams_live_in_transactions and kind is not Kind.WRITE:
            kind = Kind.CONTROL
        cursor.announced = kind, _residue(statement, compiled)
        if listeners():
            tell("SQLAlchemy", cursor._adapt_connection.config.alias, _without_values(statement, context))
        return kind

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        link = physical(connection) if connection is not None else None
        return getattr(link, "doom", None) is not None or super().is_disconnect(e, connection, cursor)

    def get_driver_connection(self, connection: Any) -> Any:
        return physical(connection).driver_connection

    def get_isolation_level_values(self, dbapi_conn: Any) -> Any:
        return self.isolation_levels

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        connection = physical(dbapi_connection)
        if connection.shared_by_sessions:
            raise TransactionMisuse(
                "a session() on the connection that carries a scope's changed session has no isolation level of its "
                "own: use atomic(isolation=...)",
            )
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


@contextmanager
def _within_login(link: Any) -> Iterator[None]:
    """Bounds what is asked of a new connection by what its login has left of ``connect_timeout``.

    Whatever fails here, the connection is closed: SQLAlchemy 2.1.9 forgets one that failed in its first moments.
    """
    left = _login_left(link)
    if left is None:
        yield
        return
    limit = f"{link.config.connect_timeout:g} s (connect_timeout)"
    clock = link._loop.call_later(left, link._give_up, limit)
    try:
        yield
    except BaseException as err:
        overdue = link.doom is not None and link.doom.endswith("(connect_timeout)")
        link.doom = link.doom or "it failed as it was made"
        link.discard()
        if overdue and isinstance(err, Exception):
            raise ConnectFailed(
                f"no login to {link.config} within {link.config.connect_timeout:g} s (connect_timeout): it hung at the "
                "first questions, SQLAlchemy's own or those of a receiver of the new connection",
                err,
            ) from err
        raise
    finally:
        clock.cancel()


def _login_left(link: Any) -> float | None:
    """Seconds that are left; None where no login was timed."""
    if link.login_began is None:
        return None
    return max(0.0, float(link.login_began + link.config.connect_timeout - time.monotonic()))


def _forget_what_was_left(link: Any) -> None:
    """What every new connection has is nobody's leaving."""
    link.left = None
    link.come_back()


def _residue(statement: str, compiled: Any) -> Residue:
    """What a statement leaves on the connection; remembered with what was compiled."""
    if compiled is None:
        return residue(statement)
    known: Residue | None = compiled.__dict__.get("_asyncdb_residue")
    if known is None:
        known = compiled.__dict__["_asyncdb_residue"] = residue(statement)
    return known


def _without_values(statement: str, context: Any) -> str:
    """The statement; with the names of those parameters whose values SQLAlchemy has written into it."""
    compiled: Any = getattr(context, "compiled", None)
    return str(compiled.string) if getattr(compiled, "literal_execute_params", None) else statement


def _blame(link: Any, kind: Kind, error: BaseException) -> None:
    if link.keeper is not None and kind is Kind.WRITE:
        link.keeper.failed("a statement of its session failed", error)
