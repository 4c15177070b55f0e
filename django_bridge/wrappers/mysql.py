"""Django's MySQL and MariaDB wrapper on a seat, whose connection asks asyncmy and answers as mysqlclient does.

Read in Django 5.2 and 6.1 (``db/backends/mysql/base.py``).
"""

from __future__ import annotations

from typing import Any, cast

from asyncmy import errors
from django.db.backends.utils import CursorWrapper
from django.utils.functional import cached_property

from .base import OnSeat
from .mysql_connection import Connection
from .mysql_cursors import Cursor, StreamCursor
from .mysql_errors import of_mysqldb


class _Database:
    """The driver's module, as far as Django asks a wrapper for it."""

    Binary = bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(errors, name)


class OnMySQLSeat(OnSeat):
    """Mixin of Django's MySQL wrapper."""

    Database = _Database()
    _insert_id = 0

    @cached_property
    def isolation_level(self) -> str | None:
        """What Django keeps of its settings when it connects."""
        cast("Any", self).get_connection_params()
        return cast("str | None", vars(self)["isolation_level"])

    @cached_property
    def _seated(self) -> Connection:
        return Connection(self)

    def seated_connection(self) -> Any:
        return self._seated

    def unseated(self) -> None:
        super().unseated()
        self._insert_id = 0

    def close(self) -> None:
        super().close()
        if self.connection is None:
            vars(self).pop("_seated", None)  # to who closed it, the next one is another

    def create_cursor(self, name: str | None = None) -> Any:
        if self._wraps_cursors:
            return cast("Any", super()).create_cursor(name)
        return self.new_cursor()

    @cached_property
    def _wraps_cursors(self) -> bool:
        """Whether the project's own class has a say in how a cursor is made."""
        from django.db.backends.mysql.base import DatabaseWrapper  # needs MySQLdb, or what stands for it

        return self.project_class.create_cursor is not DatabaseWrapper.create_cursor

    def new_cursor(self, *, of_django: bool = True) -> Cursor:
        cursor = Cursor(self, of_django=of_django)
        self.register(cursor)
        return cursor

    def make_cursor(self, cursor: Any) -> Any:
        made: Any = cast("Any", super()).make_cursor(cursor)
        if (type(made), type(cursor)) == (CursorWrapper, Cursor):
            # The rows are here: no error of the driver's is to be translated where they are read.
            made.fetchmany, made.close = cursor.fetchmany, cursor.close
        return made

    def stream_cursor(self) -> Any:
        with self.wrap_database_errors:
            cursor = StreamCursor(self)
            self.register(cursor, streams=True)
            return cast("Any", self)._prepare_cursor(cursor)

    def _want_transaction(self) -> None:
        super()._want_transaction()
        self._insert_id = 0

    def _end(self, sql: str) -> None:
        self._insert_id = 0
        super()._end(sql)

    # -- in a greenlet -------------------------------------------------------------------------------------------

    def await_reply(self, link: Any, work: Any) -> None:
        """Waits for what the driver does; its error is mysqlclient's too, where that is installed."""
        try:
            link.wait_for(work)
        except BaseException as error:
            if isinstance(error, Exception) and link.doom is not None and link.doom.startswith("no reply"):
                timed_out = of_mysqldb(errors.OperationalError(2013, link.doom))
                self.failed(timed_out)
                raise timed_out from error
            self.failed(error)
            if isinstance(error, errors.MySQLError) and (known := of_mysqldb(error)) is not error:
                raise known from error
            raise

    def drain(self, link: Any) -> None:
        """Reads what an earlier CALL left unread, which may have changed how text is to be quoted."""
        raw = link.raw
        while raw._result is not None and raw._result.has_next:
            self.await_reply(link, raw.next_result())

    def note_result(self, result: Any) -> int:
        """Returns the number that the connection gave to a row last; a statement with rows does not change it."""
        if not result.field_count:
            self._insert_id = int(result.insert_id)
        return self._insert_id
