"""Django's cursor, which says what it sends, and when it is closed.

While a cursor is open its thread keeps the connection. One that was not closed ends when it is collected: that may
happen in any thread and at any line, so nothing is sent to the server from there.

Read in Django 5.2 and 6.1 (``db/backends/utils.py``).
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .lease import Lease

__all__ = ["tracked"]


_READS = frozenset(
    "arraysize closed description fetchall fetchmany fetchone itersize lastrowid messages name nextset query rowcount "
    "rownumber rows_affected scroll scrollable setinputsizes setoutputsize statusmessage withhold".split()
)
"""What of a driver's cursor leaves the connection as it is."""


class TrackedCursor:
    """Mixin of the class of a cursor of Django's."""

    _lease: Lease | None = None
    _alive: set[int]
    _named = False
    """Whether it is one of the server's, which must be told when it is closed."""
    _unread = False
    """Whether more results than one may be waiting to be read."""
    cursor: Any
    db: Any

    def execute(self, sql: Any, params: Any = None) -> Any:
        lease = self._lease
        if lease is None or get_ident() != lease.ident:
            return super().execute(sql, params)  # type: ignore[misc]  # Django's
        lease.depth += 1
        try:
            return super().execute(sql, params)  # type: ignore[misc]
        finally:
            lease.depth -= 1

    def executemany(self, sql: Any, param_list: Any) -> Any:
        lease = self._lease
        if lease is None or get_ident() != lease.ident:
            return super().executemany(sql, param_list)  # type: ignore[misc]
        lease.depth += 1
        try:
            return super().executemany(sql, param_list)  # type: ignore[misc]
        finally:
            lease.depth -= 1

    def callproc(self, procname: Any, params: Any = None, kparams: Any = None) -> Any:
        lease = self._lease
        if lease is not None:
            lease.left = lease.left or "CALL"
            self._unread = True
        return super().callproc(procname, params, kparams)  # type: ignore[misc]

    def _execute(self, sql: Any, params: Any, *ignored: Any) -> Any:
        lease = self._lease
        if lease is None:
            return super()._execute(sql, params, *ignored)  # type: ignore[misc]
        lease.before(self, sql)
        try:
            return super()._execute(sql, params, *ignored)  # type: ignore[misc]
        except BaseException as err:
            lease.failed(err)
            raise

    def _executemany(self, sql: Any, param_list: Any, *ignored: Any) -> Any:
        lease = self._lease
        if lease is None:
            return super()._executemany(sql, param_list, *ignored)  # type: ignore[misc]
        lease.before(self, sql)
        try:
            return super()._executemany(sql, param_list, *ignored)  # type: ignore[misc]
        except BaseException as err:
            lease.failed(err)
            raise

    def __getattr__(self, name: str) -> Any:
        """What Django's cursor hands through to the driver's: what is not known to read may do anything."""
        if name not in _READS and (lease := self._lease) is not None:
            lease.raw = True
        return super().__getattr__(name)  # type: ignore[misc]

    @property
    def connection(self) -> Any:
        """The driver's connection: whoever has it may do with it what nobody sees, so that it is kept."""
        if self._lease is not None:
            self._lease.raw = True
        return self.cursor.connection

    def close(self) -> Any:
        lease = self._lease
        if lease is None:
            return self.cursor.close()
        if get_ident() != lease.ident and not self.db._thread_sharing_count:  # noqa: SLF001
            lease.leave(self)  # a generator that is collected elsewhere, say
            return None
        try:
            return self.cursor.close()
        finally:
            lease.closed(self)

    def __del__(self) -> None:
        lease = self._lease
        if lease is not None:
            lease.collected(self)


_classes: dict[type[Any], type[Any]] = {}


def tracked(cursor: Any, lease: Lease, *, named: bool) -> Any:
    """Makes of a cursor of Django's one that is tracked: it stays the same object."""
    cls = type(cursor)
    found = _classes.get(cls)
    if found is None:
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        found = _classes[cls] = type(cls.__name__, (TrackedCursor, cls), names)
    try:
        cursor.__class__ = found
    except TypeError:  # somebody's proxy: nobody knows when it is closed
        lease.raw = True
        return cursor
    cursor._lease = lease  # noqa: SLF001
    if named:
        cursor._named = True  # noqa: SLF001
    lease.opened(cursor)
    return cursor
