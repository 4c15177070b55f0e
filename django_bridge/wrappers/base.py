"""What holds of Django's wrapper on a scope's seat, whatever the family.

The wrapper is of a class made of the project's own wrapper class and of the family's mixin beneath it, so that what the
project (or a third party) put into its class is called as on stock (``extension``, ``own``). It never connects by
itself: the seat has the connection.

Read in Django 5.2 and 6.1 (``db/backends/base/base.py``); the methods are listed in ``drift.json``.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import get_ident
from typing import Any, ClassVar, NoReturn, TypeVar, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.backends.utils import debug_transaction
from django.db.transaction import TransactionManagementError
from django.db.utils import OperationalError

import asyncdb
from asyncdb.drivers.bounds import ends_the_same_again
from asyncdb.drivers.physical import Begun, TransactionOptions
from asyncdb.drivers.residue import residue
from asyncdb.drivers.statements import Kind, is_plain_read
from asyncdb.errors import ConnectFailed, PoolError, TransactionMisuse, TransactionPoisoned
from asyncdb.greenlets import in_greenlet
from asyncdb.listening import tell, unheard
from asyncdb.opener import Opener

from ..errors import CommitInDoubt, ScopeClosed
from ..loops import on_the_loop
from ..scopes import Scope
from ..seats import Seat
from .hooked import Hooked
from .own import HookFailed
from .rest import Rest
from .shares import Shares, awaited
from .view import Viewed

T = TypeVar("T")
EAGER = TransactionOptions(eager=True)
_BOOKKEEPING = frozenset({
    "_brought", "_due", "_insert_id", "_lost_alone", "_manual", "_other", "_rest", "_seated", "heard",
    "_sets_autocommit", "_switches", "_was_closed", "autocommit", "begins_with", "facade", "health_checks_enabled",
    "hooks_wait", "login_parameters", "making", "rollback_asked", "seat", "shared", "state_by_new_connection",
})  # fmt: skip
"""What the bridge itself keeps on a wrapper."""


class _EnsureConnection:
    """Django's method; on the loop outside of a greenlet nothing is needed before the first statement.

    What it leads to is looked up where it is asked for, as it is on Django's wrapper: tests forbid the database, or
    count connections, by replacing the method of Django's class (Django 6.1 ``SimpleTestCase``, pytest-django).
    """

    def __get__(self, wrapper: Any, owner: type | None = None) -> Callable[..., None]:
        if wrapper is None:
            return BaseDatabaseWrapper.ensure_connection
        if in_greenlet() or not on_the_loop():
            return partial(_ensure, wrapper, super(OnSeat, wrapper).ensure_connection)  # type: ignore[misc]  # Any
        return _nothing


def _ensure(wrapper: Any, djangos: Callable[[], None]) -> None:
    if wrapper.connection is None:
        djangos()


def _nothing() -> None:
    """Nothing to do."""


class OnSeat(Viewed, Hooked, Shares):
    """Mixin of the project's own wrapper: its connection is the one on the seat."""

    project_class: ClassVar[type[BaseDatabaseWrapper]]
    autocommit: bool
    _thread_sharing_count: int
    seat: Seat
    _was_closed = False
    _brought: Sequence[Any] = ()
    """Execute wrappers that receivers of ``connection_created`` put on the connection that sits here."""
    _rest: Rest | None = None
    _lost_alone = False
    """Whether the connection was lost with a statement beside which it carried nothing."""
    _manual = False
    """Whether the user switched autocommit off, so that a transaction follows upon another."""
    begins_with = EAGER
    """What the next BEGIN says."""
    begins_by_autocommit = False
    """Whether Django would begin by ``_set_autocommit(False)``, in which its class has a say."""
    remembers = False
    """Whether something was put on the wrapper that may be true of the connection that is there, and of no other."""
    _is_djangos_own = False
    _sets_autocommit = _switches = False

    def take_seat(self, seat: Seat) -> None:
        """Becomes the wrapper of ``seat``."""
        self.seat = seat
        seat.wrapper = self
        self.autocommit = True
        self._was_closed = False
        self.queries_log = deque(maxlen=self.queries_limit)
        self.execute_wrappers = []
        self._other = None
        self._thread_ident = get_ident()
        if self._rest is None:
            self._rest = Rest(self, _BOOKKEEPING)

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left of who used it, so that another scope may have it: Django's own class, unchanged."""
        return self._is_djangos_own and not self._is_in_use and self._rest is not None and self._rest.restore(self)

    @property
    def _is_in_use(self) -> bool:
        return bool(
            self.connection is not None
            or self.in_atomic_block
            or self.run_on_commit
            or self.execute_wrappers
            or self.queries_log
            or self.force_debug_cursor
            or self.needs_rollback
            or cast("Any", self).rollback_exc
            or self.closed_in_transaction
            or self._manual
            or self._thread_sharing_count
        )

    # -- connecting ----------------------------------------------------------------------------------------------

    ensure_connection = _EnsureConnection()

    def _cursor(self, name: Any = None) -> Any:
        if on_the_loop() and not in_greenlet():  # DJANGO_ALLOW_ASYNC_UNSAFE lets it come here
            self.seat.call(_nothing)
        return super()._cursor(name)  # type: ignore[misc]  # Django's, which its stubs leave out

    def sit(self) -> None:
        """Becomes connected: by the connection on the seat, whatever has to be done for each physical one is done."""
        if not self.in_atomic_block:  # in one, only the seat was left for a moment before its first statement
            self._begin_anew()
        self.health_check_done, self.health_checks_enabled = True, self.settings_dict["CONN_HEALTH_CHECKS"]
        self.connection = self.seated_connection()
        if in_greenlet() or connection_created.receivers:
            self.seat.call(self.taken)  # now, for a receiver may bring execute wrappers
        if self._was_closed:
            self._was_closed = False
            self._tell_again()

    def _tell_again(self) -> None:
        """Sends ``connection_created`` to who closed the connection by name: for them this one is new."""
        del self.execute_wrappers[: len(self._brought)]
        others = list(self.execute_wrappers)
        with unheard():
            connection_created.send(sender=self.project_class, connection=self)
        self._brought = [one for one in self.execute_wrappers if one not in others]
        self.execute_wrappers[:] = [*self._brought, *others]

    def _begin_anew(self) -> None:
        self.closed_in_transaction = self.needs_rollback = self.errors_occurred = False
        self.savepoint_ids, self.atomic_blocks, self.run_on_commit = [], [], []
        if self.seat.link is None or self.seat.link.begun is Begun.NO:
            self.autocommit, self._manual = True, False

    def seated_connection(self) -> Any:
        """What Django calls the connection: its family's DB-API connection, as far as Django uses it."""
        raise NotImplementedError

    def unseated(self) -> None:
        """Called when the connection leaves the seat."""
        if self.shared is not None:
            self.shared.unseated()
        if not self.closed_in_transaction:
            self.connection = None
        if not self.in_atomic_block:
            self.autocommit, self._manual = True, False
        if self._brought:
            del self.execute_wrappers[: len(self._brought)]
            self._brought = ()
        if self._rest is not None:
            self._rest.learn(self)

    def copy(self, alias: str | None = None) -> Any:
        """Another connection, Django's own: nobody's seat."""
        return self.of_django(alias)

    def of_django(self, alias: str | None = None) -> Any:
        """A wrapper of the project's own class with the same settings, which connects by Django's own driver."""
        return self.project_class(copy.deepcopy(self.settings_dict), alias or self.alias)

    @contextmanager
    def _nodb_cursor(self) -> Iterator[Any]:
        with cast("Any", self.of_django())._nodb_cursor() as cursor:
            yield cursor

    def get_autocommit(self) -> bool:
        if self.closed_in_transaction and not self.in_atomic_block:
            self._begin_anew()  # Django connects here, with which it begins anew
        return self.autocommit

    @property
    def failed_on_server(self) -> bool:
        """Whether the server will commit nothing of this transaction, because a statement of it failed."""
        return False

    def close_if_health_check_failed(self) -> None:
        """The pool has looked when the connection was taken; Django looks again after a request, if it is to."""
        if self.connection is None or self.health_check_done or not self.health_checks_enabled:
            return
        self.health_check_done = True
        if not self.is_usable() and (link := self.seat.link) is not None:
            link.doom = link.doom or "it failed its health check"
            self.close()

    def close_if_unusable_or_obsolete(self) -> None:
        """Looks as Django does, and gives the connection back if nothing keeps it; one too old the pool replaces."""
        super().close_if_unusable_or_obsolete()
        if not self.in_atomic_block:
            self.seat.lost = None
        if in_greenlet() or self.connection is None:
            return  # what an operation has taken goes back when that ends
        if on_the_loop():
            self.seat.settle()
        else:
            self.seat.call(self.seat.rest)

    def is_usable(self) -> bool:
        link = self.seat.link
        return not self._was_closed and (link is None or link.doom is None)

    def validate_thread_sharing(self) -> None:
        """Whose turn it is, the seat checks at each call."""

    def close(self) -> None:
        if on_the_loop() and not in_greenlet() and not self.in_atomic_block:
            self.seat.give_back()  # async code that closes all connections holds none: there is nothing to wait for
        else:
            super().close()
        if self.connection is None:  # not so in a transaction, nor with SQLite's database in memory
            self._was_closed = True
            self.seat.lost = None

    def _close(self) -> None:
        self.let_go()

    def let_go(self) -> None:
        """What ``close()`` of the driver's connection does: this one goes back to its pool."""
        self._was_closed = True
        with contextlib.suppress(ScopeClosed):  # with its scope the connection went
            self.seat.call(self.seat.give_back)

    def released(self) -> None:
        """Called when a thread of its own closes the wrapper that stands there for this one."""
        if not self.in_atomic_block:
            self.connection = None
            self.seat.scope.soon(self.seat.settle)

    def lend(self, own: Any) -> None:
        """Gives a wrapper for a thread of its own what it cannot do without."""

    # -- streams -------------------------------------------------------------------------------------------------

    def chunked_cursor(self) -> Any:
        """A cursor that streams has a connection of its own, so that others can be asked between its rows.

        In a transaction it must be the transaction's own, and where the session was changed the one that carries it:
        there the family decides, as in Django. So it does in a thread, and wherever a connection is held already: who
        holds one and waits for another would wait for those who do the same.
        """
        held = not in_greenlet() or self.seat.link is not None or self.seat.session_changed
        if held or self.in_atomic_block or not self.autocommit or self.remembers:
            return super().chunked_cursor()
        apart = self._apart()
        with apart.seat.held():
            return apart.stream_cursor()

    def stream_cursor(self) -> Any:
        """A cursor for one stream, on a seat that nothing else uses."""
        return super().chunked_cursor()

    def _apart(self) -> OnSeat:
        """Another wrapper with a seat of its own, in nobody's scope: whoever reads the stream may use it."""
        here = self.seat.scope
        apart = Scope(None, here.loop)
        apart.opener = Opener()
        wrapper: Any = type(self)(self.settings_dict, self.alias)
        wrapper.take_seat(self.seat.beside(apart))
        share_view(wrapper, self)
        here.outlive(apart)
        return cast("OnSeat", wrapper)

    # -- the transaction -----------------------------------------------------------------------------------------

    def _start_transaction_under_autocommit(self) -> None:
        tell("Django", self.alias, "BEGIN")
        with debug_transaction(self, "BEGIN"), self.wrap_database_errors:
            if self.begins_by_autocommit:
                self._sets_autocommit = True
                self._set_autocommit(False)  # noqa: FBT003  (Django's signature)
            else:
                self.seat.call(self._want_transaction)

    def _want_transaction(self) -> None:
        link = self.taken()
        if link.begun is not Begun.NO and self.autocommit:
            self._refuse_beside_a_session(link)
        link.options = self.begins_with
        link.want_transaction()

    def _set_autocommit(self, autocommit: bool) -> None:  # noqa: FBT001  (Django's signature)
        begins, self._sets_autocommit = self._sets_autocommit, False
        with self.wrap_database_errors:
            if begins and not autocommit:
                self.seat.call(self._want_transaction)
                return
            manual, self._manual = self._manual, not autocommit
            if not autocommit:
                self.seat.call(self._want_transaction)
            elif manual:
                self.seat.call(self._end, "COMMIT")  # as a DB-API connection does when autocommit is switched on

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:  # noqa: FBT001  (Django's signature)
        if autocommit and self.connection is None and self.autocommit and not self.in_atomic_block:
            return  # a block ends whose connection was lost: to connect would hide its error behind another
        self._switches = True
        try:
            super().set_autocommit(autocommit, *args, **kwargs)
        finally:
            self._switches = False

    def switch_driver(self, autocommit: bool) -> None:  # noqa: FBT001
        """What the driver's own switch does, by which a project's ``_set_autocommit()`` may go."""
        if self._switches:
            OnSeat._set_autocommit(self, autocommit)
        else:
            self.set_autocommit(autocommit)

    def _commit(self) -> None:
        if self.connection is None and not self.autocommit:
            _refuse_commit()
        cast("Any", super())._commit()

    def _end(self, sql: str) -> None:
        link = self.seat.link
        if link is None:
            if sql == "COMMIT":
                _refuse_commit()
            return
        try:
            link.end(sql)
        except TransactionPoisoned as err:
            raise TransactionManagementError(str(err)) from err
        except asyncdb.CommitInDoubt as err:
            raise CommitInDoubt(str(err), err.orig or err) from err
        finally:
            if self._manual:
                self._want_transaction()
            elif link.doom is not None and not self.in_atomic_block:
                self.seat.lose()  # the next statement takes another

    def abandon(self, reason: str) -> None:
        """Gives the transaction up from whatever task: the connection is closed, with which the server rolls back."""
        seat = self.seat
        if seat.link is not None:
            seat.link.doom = seat.link.doom or reason
            seat.link.abort()
        self.in_atomic_block = self.closed_in_transaction = self.needs_rollback = False
        self.savepoint_ids, self.atomic_blocks, self.run_on_commit = [], [], []
        self.autocommit, self._manual = True, False
        seat.lose()

    def in_place(self, function: Callable[..., T], *args: Any) -> T:
        return self.seat.call(function, *args)

    def logged_as(self, sql: str) -> AbstractContextManager[None]:
        return debug_transaction(self, sql)

    # -- hooks ---------------------------------------------------------------------------------------------------

    def on_commit(self, func: Callable[[], Any], robust: bool = False) -> None:  # noqa: FBT001, FBT002  (Django's)
        if self.in_atomic_block:
            self._require_task()
        elif callable(func) and self.autocommit:  # it runs now
            if inspect.iscoroutinefunction(func) and on_the_loop() and not in_greenlet():
                raise TransactionMisuse("on_commit() outside of a transaction runs its hook now: await the hook itself")
            func = awaited(func)
        super().on_commit(func, robust)

    def set_rollback(self, rollback: bool) -> None:  # noqa: FBT001  (Django's signature)
        self._require_task()
        super().set_rollback(rollback)

    def _require_task(self) -> None:
        if on_the_loop():  # whose thread it is was asked when it looked for its connection
            self.seat.scope.require_task()

    # -- statements ----------------------------------------------------------------------------------------------

    def taken(self) -> Any:
        """The physical connection on the seat, taken from the pool if there is none. In a greenlet.

        - **errors**: ``django.db.OperationalError`` if the pool or the server has none to give.
        """
        seat = self.seat
        if seat.link is not None:
            return seat.link
        try:
            link = seat.taken()
        except HookFailed as err:
            raise (err.orig or err) from None  # as on stock: it is the project's own
        except (ConnectFailed, PoolError) as err:
            raise OperationalError(str(err)) from err
        if link.execute_wrappers:
            self._brought = [one for one in link.execute_wrappers if one not in self.execute_wrappers]
            self.execute_wrappers[:0] = self._brought
        return link

    def before(self, statement: str) -> Any:
        """Prepares for one statement: takes the connection, sends BEGIN where one is due. In a greenlet."""
        seat = self.seat
        found = residue(statement)
        link = seat.link if seat.link is not None else self.taken()
        if self.shared is not None:
            self.shared.before(statement)
            seat.used = True
        if found.reads_left and not found.left and not seat.used and link.made is None and not self.in_atomic_block:
            _refuse_reading(seat.alias)
        seat.used = True
        beside = link.begun is not Begun.NO and self.autocommit and not self.in_atomic_block
        if beside and link.begun is Begun.SENT and not is_plain_read(statement):
            self._refuse_beside_a_session(link)
        may_have_written = link.may_have_written
        try:
            if beside and link.begun is Begun.WANTED:
                link.begun = Begun.NO  # the session's transaction has not begun: this statement is not in it
                link.before(Kind.OPAQUE)
                link.begun = Begun.WANTED
            else:
                link.before(Kind.OPAQUE)
        except TransactionPoisoned as err:
            raise TransactionManagementError(str(err)) from err
        if link.limit != link._limit_of_config and statement.startswith("ROLLBACK"):
            link.forget_limit()
        if not may_have_written and is_plain_read(statement):
            link.may_have_written = False
        link.note_what_is_left(statement, found)
        return link

    def _refuse_beside_a_session(self, link: Any) -> NoReturn:
        raise TransactionManagementError(
            f"a session() is in a transaction on the connection of {self.alias!r}, which it shares because {link.left} "
            "changed the session: commit it or end it first, or let atomic() begin one transaction for both",
        )

    def may_ask_again(self, statement: str) -> bool:
        """Whether this is a plain read whose reply was just lost, with nothing else that its connection knew."""
        lost, self._lost_alone = self._lost_alone, False
        if not (lost and is_plain_read(statement)):
            return False
        self.seat.note_retry()
        return True

    def failed(self, error: BaseException) -> None:
        """Draws the conclusions of a statement's error. In a greenlet."""
        seat, link = self.seat, self.seat.link
        self._lost_alone = False
        if link is None:
            return
        if not isinstance(error, Exception):
            link.doom = link.doom or "cancelled amid a statement"
        else:
            link.note_error(error)
            if seat.is_disconnect(error):
                link.doom = link.doom or "the server ended it"
        if not self.in_atomic_block and self.autocommit:
            if link.doom is not None:
                alone = not (link.left or seat.streams or self.shared or seat.is_lent or self.remembers)
                lost = isinstance(error, Exception) and not ends_the_same_again(error)
                self._lost_alone = alone and lost and link.config.retry_lost_reads
                seat.lose()  # the next statement takes another
            elif link.begun is Begun.NO:
                link.errors_met = False  # a statement that fails in autocommit leaves no transaction

    def adopt_cursor(self, cursor: Any, *, streams: bool = False) -> Any:
        """Makes sure that a cursor, from wherever the project's class has it, is one of the bridge's."""
        return cursor

    def register(self, cursor: object, *, streams: bool = False) -> None:
        """Keeps the connection while ``cursor`` is open, unless the operation that runs keeps it anyway."""
        if streams or not in_greenlet() or not self.seat.scope.in_operation:
            self.seat.hold_for(cursor, streams=streams)


def _refuse_commit() -> NoReturn:
    raise OperationalError("the transaction went with its connection: nothing of it was committed")


def _refuse_reading(alias: str) -> NoReturn:
    raise TransactionManagementError(
        f"this statement reads what an earlier one left on its connection, and {alias!r} gives each its own outside "
        "of a transaction: run both inside transaction.atomic(), or on one open cursor",
    )


def share_view(wrapper: Any, other: Any) -> None:
    """Gives a wrapper the query log, the execute wrappers and the debug flag of another one of its alias."""
    wrapper.queries_log = other.queries_log
    wrapper.execute_wrappers = list(other.execute_wrappers)
    wrapper.force_debug_cursor = other.force_debug_cursor
    if isinstance(other, OnSeat) and other._is_djangos_own and other._rest is not None:
        vars(wrapper).update(other._rest.put_on(other, plain=True))
