"""What the pool must know of Django's sync drivers: mysqlclient (or PyMySQL in its place), psycopg 3 and sqlite3.

Nothing here goes through Django's wrapper: what is said to the server is in no query log.

Private names used here: those of psycopg that ``asyncdb.drivers.postgresql.driver_state`` reads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final

from asyncdb.drivers.physical import Liveness
from asyncdb.drivers.routines import ASK_MYSQL, ASK_POSTGRESQL, MAY_LEAVE_SOMETHING, MYSQL, POSTGRESQL, Routines
from asyncdb.drivers.sockets import SocketLook

__all__ = ["Driver", "driver_of"]

_ANEW_AFTER_CHANGE_USER: Final = frozenset({
    "charset", "client_flag", "collation", "connect_timeout", "conv", "database", "db", "host", "init_command",
    "isolation_level", "passwd", "password", "port", "read_timeout", "sql_mode", "ssl", "ssl_mode", "unix_socket",
    "user", "write_timeout",
})  # fmt: skip
"""Arguments of mysqlclient's ``connect`` of which it is known what to do after COM_CHANGE_USER, or that it keeps."""


class Driver:
    """What a family's driver is asked. SQLite's answers, and those of others where they differ."""

    family: str
    keeps_closed_cursors = True
    """Whether a closed cursor still refers to its connection."""
    refers_twice = False
    """Whether one that has sent something does so twice."""
    tells_transaction = True
    """Whether the driver knows whether its connection is in a transaction."""

    def routines(self) -> Routines:
        """What is known of functions before the server is asked."""
        raise NotImplementedError

    def fileno(self, connection: Any) -> int | None:
        """The socket's file descriptor."""
        return None

    def look(self, connection: Any) -> Any:
        """Makes what looks at the connection without a word to the server: a function that returns ``Liveness``."""
        raise NotImplementedError

    def ping(self, connection: Any) -> None:
        """Asks the server for a sign of life; raises what the driver raises."""

    def in_transaction(self, connection: Any) -> bool:
        """Whether a transaction is open, as far as the driver knows."""
        raise NotImplementedError

    def note_rest(self, connection: Any) -> None:
        """Called before ``state`` is noted, for what it takes to see later changes."""

    def state(self, connection: Any) -> Any:
        """What can be set on the driver's object, as it is now, for a comparison."""
        raise NotImplementedError

    def learn(self, connection: Any, routines: Routines) -> float | None:
        """Loads the project's functions; returns the seconds after which the server closes an idle connection."""
        return None

    def ask(self, connection: Any, names: list[str]) -> dict[str, bool]:
        """Which of these functions leave nothing on the session."""
        return {}

    def reset(self, wrapper: Any, connection: Any, parameters: Mapping[str, Any]) -> bool:
        """Has the server forget the session and makes Django's settings anew; False where that cannot be done."""
        return False


class _SQLite(Driver):
    family = "sqlite"

    def routines(self) -> Routines:
        return Routines(all_harmless=True)

    def look(self, connection: Any) -> Any:
        """Whether the file is still the one that was opened: a test run may have put another one in its place."""
        path = next((row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"), "")
        was = _identity(path)

        def look() -> Liveness:
            return Liveness.WHOLE if _identity(path) == was else Liveness.DEAD

        return look

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.in_transaction)

    def state(self, connection: Any) -> Any:
        return (connection.row_factory, connection.text_factory, connection.isolation_level)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  (a Path costs more than the question)
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


class _MySQL(Driver):
    family = "mysql"
    keeps_closed_cursors = False
    tells_transaction = False

    def routines(self) -> Routines:
        return Routines(MYSQL)

    def fileno(self, connection: Any) -> int | None:
        with contextlib.suppress(Exception):
            if hasattr(connection, "fileno"):
                return int(connection.fileno())
            return int(connection._sock.fileno())  # noqa: SLF001  (PyMySQL 1.1 has no other way)
        return None

    def look(self, connection: Any) -> Any:
        fileno = self.fileno(connection)
        return SocketLook(fileno) if fileno is not None else _not_known

    def ping(self, connection: Any) -> None:
        connection.ping()

    def in_transaction(self, connection: Any) -> bool:
        return False

    def state(self, connection: Any) -> Any:
        converter = getattr(connection, "converter", None)
        encoders, decoders = getattr(connection, "encoders", None), getattr(connection, "decoders", None)
        return (
            getattr(connection, "cursorclass", None),
            getattr(connection, "encoding", None),
            _Same(converter),
            len(converter or ()),
            _Same(encoders),
            len(encoders or ()),
            _Same(decoders),
            len(decoders or ()),
        )

    def learn(self, connection: Any, routines: Routines) -> float | None:
        (limit,) = self._ask(connection, "SELECT @@SESSION.wait_timeout")[0]
        return float(limit)

    def ask(self, connection: Any, names: list[str]) -> dict[str, bool]:
        listed = ", ".join(_text(connection.literal(name)) for name in names)
        return {_text(name): bool(harmless) for name, harmless in self._ask(connection, ASK_MYSQL % listed)}

    @staticmethod
    def _ask(connection: Any, query: str) -> Any:
        cursor = connection.cursor()
        try:
            cursor.execute(query)
            return cursor.fetchall()
        finally:
            cursor.close()

    def reset(self, wrapper: Any, connection: Any, parameters: Mapping[str, Any]) -> bool:
        if not hasattr(connection, "change_user") or not parameters.keys() <= _ANEW_AFTER_CHANGE_USER:
            return False
        user, password = parameters.get("user", ""), parameters.get("password", parameters.get("passwd", ""))
        connection.change_user(user, password, parameters.get("database", parameters.get("db", "")))
        charset = parameters.get("charset") or connection.character_set_name()
        # As mysqlclient does at a login (2.2 and 2.3, ``MySQLdb/connections.py``), except that init_command is sent by
        # the C library there, before all else.
        if init_command := parameters.get("init_command"):
            cursor = connection.cursor()
            cursor.execute(init_command)
            while cursor.nextset():
                pass
            cursor.close()
        connection.set_character_set(charset, parameters.get("collation", ""))
        if sql_mode := parameters.get("sql_mode"):
            connection.set_sql_mode(sql_mode)
        connection.autocommit(wrapper.settings_dict["AUTOCOMMIT"])
        return True


class _PostgreSQL(Driver):
    family = "postgresql"
    refers_twice = True

    def __init__(self) -> None:
        from psycopg.rows import tuple_row

        from asyncdb.drivers import postgresql

        self._of_psycopg = postgresql
        self._tuple_row = tuple_row

    def routines(self) -> Routines:
        return Routines(POSTGRESQL)

    def fileno(self, connection: Any) -> int | None:
        with contextlib.suppress(Exception):
            return int(connection.fileno())
        return None

    def look(self, connection: Any) -> Any:
        looks = SocketLook(connection.fileno())

        def look() -> Liveness:
            return Liveness.DEAD if connection.closed or connection.broken else looks()

        return look

    def ping(self, connection: Any) -> None:
        connection.execute("SELECT 1")

    def in_transaction(self, connection: Any) -> bool:
        return bool(connection.pgconn.transaction_status != 0)  # PQTRANS_IDLE

    def note_rest(self, connection: Any) -> None:
        self._of_psycopg.share_adapters(connection)

    def state(self, connection: Any) -> Any:
        return self._of_psycopg.driver_state(connection)

    def learn(self, connection: Any, routines: Routines) -> float | None:
        asks = "SELECT setting::int / 1000.0 FROM pg_settings WHERE name = 'idle_session_timeout'"
        ((leaving, limit),) = self._ask(connection, f"SELECT {MAY_LEAVE_SOMETHING}, ({asks})")
        routines.load(leaving or ())
        return float(limit) if limit else None

    def ask(self, connection: Any, names: list[str]) -> dict[str, bool]:
        return dict(self._ask(connection, ASK_POSTGRESQL, [names]))

    def _ask(self, connection: Any, query: str, parameters: list[Any] | None = None) -> Any:
        with connection.cursor(row_factory=self._tuple_row) as cursor:  # OPTIONS may have another one
            return cursor.execute(query, parameters).fetchall()

    def reset(self, wrapper: Any, connection: Any, parameters: Mapping[str, Any]) -> bool:
        prepared = connection.prepare_threshold is not None
        connection.execute("DISCARD ALL")
        return not prepared  # psycopg would believe that its prepared statements are still there


class _Same:
    """Equal to what wraps the same object."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]  # nobody puts one into a set


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _not_known() -> Liveness:
    return Liveness.SUSPECT


_FAMILIES: Final[Mapping[str, type[Driver]]] = {"mysql": _MySQL, "postgresql": _PostgreSQL, "sqlite": _SQLite}


def driver_of(family: str) -> Driver:
    """The driver of a family, as Django's ``vendor`` names it."""
    return _FAMILIES[family]()
