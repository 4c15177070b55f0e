"""Django's own wrapper of a thread, whose connection comes from the pool.

It stays the object that Django made; its class becomes one made of the mixin here and the project's own, and it still
says that it is of the project's class. Where the pool is not used (another database than the alias's, SQLite in memory,
the setting switched off) every method is the project's own.

Nothing of Django's is patched. Read in Django 5.2 and 6.1 (``db/backends/base/base.py``, ``db/transaction.py``).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import get_ident
from typing import Any, TypeVar, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import OperationalError
from django.utils.asyncio import async_unsafe

from asyncdb.errors import DatabaseClosed, PoolError

from ..ownership import at_the_end_of_its_outermost_errand, is_in_a_thread_of_many_requests
from ..wrappers.extension import overrides
from ..wrappers.view import Viewed
from . import pools
from .cursors import tracked
from .lease import Lease

__all__ = ["LeasedWrapper", "adopt"]

log = logging.getLogger("django_bridge.threads")
F = TypeVar("F", bound=Callable[..., Any])
_OF_ITS_CONNECTION = (
    "connect ensure_connection cursor _cursor chunked_cursor close _close close_if_unusable_or_obsolete "
    "close_if_health_check_failed commit _commit rollback _rollback get_autocommit set_autocommit _set_autocommit "
    "temporary_connection _prepare_cursor make_cursor make_debug_cursor"
).split()
"""Methods of which a project's own class may expect that its connection stays until the request ends."""


def _at_work(method: F) -> F:
    """Keeps the connection of the wrapper while the method runs."""

    @wraps(method)
    def kept(self: Any, *args: Any, **kwargs: Any) -> Any:
        lease = self._lease
        if lease is None or get_ident() != lease.ident:
            return method(self, *args, **kwargs)
        lease.depth += 1
        try:
            return method(self, *args, **kwargs)
        finally:
            lease.depth -= 1

    return cast("F", kept)


def _is_called_by(package: str) -> bool:
    """Whether the method that asks is called by a module of ``package``."""
    name: str = sys._getframe(2).f_globals.get("__name__", "")  # noqa: SLF001  (documented, for CPython)
    return name.startswith(package)


@async_unsafe
def _require_no_loop() -> None:
    """Raises what Django raises on the event loop, where ``connect()`` is called by name."""


class LeasedWrapper(Viewed):
    """Mixin above the class of the project's wrapper."""

    _lease: Lease | None = None
    _by_request = False
    # Django's own:
    alias: str
    autocommit: bool
    close: Callable[[], None]
    in_atomic_block: bool
    settings_dict: dict[str, Any]
    wrap_database_errors: Any
    _thread_sharing_count: int

    @property
    def is_on_the_pool(self) -> bool:
        """Whether its connection comes from the pool now; otherwise it connects as on stock."""
        return pools.pool_for(self) is not None

    @property
    def carries_state(self) -> bool:
        """See ``scopes.InItsThread``; the loop asks too, while the thread does nothing or waits for it."""
        lease = self._lease
        return self.in_atomic_block or (lease is not None and lease.carries_state(self))

    # -- the driver's connection ---------------------------------------------------------------------------------

    @property
    def connection(self) -> Any:
        """The driver's connection: whoever asks for it, and is not Django, keeps it as long as on stock."""
        connection = vars(self).get("connection")
        lease = self._lease
        if (
            connection is not None
            and lease is not None
            and not lease.depth
            and not lease.raw
            and not _is_called_by("django.db.")
        ):
            lease.raw = True
        return connection

    @connection.setter
    def connection(self, connection: Any) -> None:
        lease = self._lease
        if lease is not None and lease.place is not None and not lease.depth:
            lease.forget()
        vars(self)["connection"] = connection

    def _leased(self) -> Lease | None:
        """The lease, also before the first connection; None where the wrapper connects as on stock."""
        lease = self._lease
        if lease is None and vars(self)["connection"] is None and (pool := pools.pool_for(self)) is not None:
            lease = self._lease = Lease(self, pool, by_request=self._by_request)
        return lease

    def connect(self) -> None:
        pool, lease = pools.pool_for(self), self._leased()
        if pool is None or lease is None:
            self._lease = None
            super().connect()  # type: ignore[misc]  # Django's
            return
        if not lease.depth:
            _require_no_loop()
        if lease.pool is not pool:
            lease.change(pool)
        lease.depth += 1
        try:
            lease.take(self, super().connect)  # type: ignore[misc]
        except (PoolError, DatabaseClosed) as err:
            raise OperationalError(str(err)) from err
        finally:
            lease.depth -= 1
        if is_in_a_thread_of_many_requests():
            at_the_end_of_its_outermost_errand(self, self.end_of_call)

    def end_of_call(self) -> None:
        """Lets go of what is held: the next call in this thread is somebody else's."""
        lease = self._lease
        if lease is None or self._thread_sharing_count or self.in_atomic_block or not self.autocommit:
            return
        try:
            self.close()
        except Exception as err:  # it is gone, which is what was wanted
            log.debug("%r: a connection could not be let go of (%s)", self.alias, type(err).__name__)

    def ensure_connection(self) -> None:
        super().ensure_connection()  # type: ignore[misc]
        lease = self._lease
        if lease is not None and not lease.depth and lease.place is not None and not _is_called_by("django."):
            lease.raw = True  # it is asked for by who will use the driver's connection, or expects it to stay

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        lease = self._lease
        if lease is None or lease.place is None:
            return super().get_new_connection(conn_params)  # type: ignore[misc]
        before = dict(vars(self))
        if lease.pool.family != "sqlite":
            conn_params.setdefault("connect_timeout", max(2, round(lease.pool.limits.connect_timeout)))
        connection = super().get_new_connection(conn_params)  # type: ignore[misc]
        put_on = {name: value for name, value in vars(self).items() if before.get(name, before) is not value}
        lease.pool.note_put_on(put_on)
        return connection

    # -- cursors -------------------------------------------------------------------------------------------------

    def _cursor(self, name: Any = None) -> Any:
        lease = self._leased()
        if lease is None or get_ident() != lease.ident:
            cursor = super()._cursor(name)  # type: ignore[misc]
            if lease is not None and lease.place is not None:
                cursor = tracked(cursor, lease, named=name is not None)
            return cursor
        if lease.has_left_cursors:
            lease.tidy()
        lease.depth += 1
        try:
            cursor = super()._cursor(name)  # type: ignore[misc]
            if lease.place is not None:
                cursor = tracked(cursor, lease, named=name is not None)
        finally:
            lease.depth -= 1
            if not lease.open:
                lease.settle()  # there is none: it failed
        return cursor

    # -- transactions --------------------------------------------------------------------------------------------

    def get_autocommit(self) -> bool:
        if vars(self)["connection"] is None and not self.in_atomic_block and self._leased() is not None:
            return cast("bool", self.settings_dict["AUTOCOMMIT"])  # what a connection of the pool has
        return cast("bool", _kept(self, super().get_autocommit))  # type: ignore[misc]

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:  # noqa: FBT001  (Django's signature)
        lease = self._leased()
        if lease is None or get_ident() != lease.ident:
            super().set_autocommit(autocommit, *args, **kwargs)  # type: ignore[misc]
            return
        lease.depth += 1
        try:
            super().set_autocommit(autocommit, *args, **kwargs)  # type: ignore[misc]
        finally:
            lease.depth -= 1
            lease.settle()

    def run_and_clear_commit_hooks(self) -> None:
        """The connection goes back before the hooks run, which may take long."""
        lease = self._lease
        if lease is None or get_ident() != lease.ident or lease.is_connecting:
            super().run_and_clear_commit_hooks()  # type: ignore[misc]
            return
        # Django says so after the hooks. One of them may connect anew, which must not run the others.
        self.run_commit_hooks_on_set_autocommit_on = False
        depth, lease.depth = lease.depth, 0
        try:
            lease.settle()
            super().run_and_clear_commit_hooks()  # type: ignore[misc]
        finally:
            lease.depth = depth

    @_at_work
    def _commit(self) -> Any:
        return super()._commit()  # type: ignore[misc]

    @_at_work
    def _rollback(self) -> Any:
        return super()._rollback()  # type: ignore[misc]

    # -- the end -------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        lease = self._lease
        if lease is None or lease.place is None:
            super()._close()  # type: ignore[misc]
            return
        # As on stock it stays, closed, until the block ends. (Any other reference would look like somebody's.)
        closed = vars(self)["connection"] if self.in_atomic_block else None
        with self.wrap_database_errors:
            lease.end(self)
        vars(self)["connection"] = closed

    def close_if_unusable_or_obsolete(self) -> None:
        """As on stock; where stock would keep the connection for the thread's next request, the pool gets it."""
        _kept(self, super().close_if_unusable_or_obsolete)  # type: ignore[misc]
        lease = self._lease
        if lease is None or lease.depth:
            return
        if lease.place is None:
            lease.end(self)
            return
        lease.tidy()
        if not (lease.open or self.in_atomic_block or self._thread_sharing_count) and self.autocommit:
            self.close()

    @contextmanager
    def _nodb_cursor(self) -> Iterator[Any]:
        """Databases are created, cloned and dropped by it, to which no connection may be open."""
        pools.close_idle(self.alias)
        with super()._nodb_cursor() as cursor:  # type: ignore[misc]
            yield cursor


def _call(wrapper: Any, djangos: Callable[[], Any]) -> Any:
    return djangos()


_kept = _at_work(_call)
_classes: dict[type[Any], type[Any]] = {}


def _set_class(wrapper: Any, cls: type[Any]) -> None:
    object.__dict__["__class__"].__set__(wrapper, cls)


def adopt(wrapper: Any) -> None:
    """Has a wrapper that Django made for a thread take its connections from the pool, if that is switched on."""
    cls = type(wrapper)
    if issubclass(cls, LeasedWrapper) or not isinstance(wrapper, BaseDatabaseWrapper):
        return
    if wrapper.connection is not None or not pools.has_pool(wrapper.alias):
        return
    found = _classes.get(cls)
    if found is None:
        names = {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
            # What connection_created has for its sender, and what a wrapper for another database is made of.
            "__class__": property(lambda _: cls, _set_class),
            "_by_request": any(overrides(cls, name) for name in _OF_ITS_CONNECTION),
        }
        found = _classes[cls] = type(cls.__name__, (LeasedWrapper, cls), names)
    wrapper.__class__ = found
