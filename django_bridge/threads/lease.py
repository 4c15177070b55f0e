"""What a thread holds of the pool, and when it goes back.

A lease belongs to one of Django's wrappers, and so to one thread. It takes a place at the first statement. The place
goes back when a cursor is closed or a transaction ends, and nothing is held:

- an open cursor or stream;
- a transaction: an ``atomic`` block, autocommit switched off, one that SQL began, one that was closed within;
- session state: what a statement left on the session (``asyncdb.drivers.residue``);
- the wrapper, while other threads may use it;
- the driver's connection itself, in the hands of somebody who asked for it.

What is held so goes back at ``connection.close()``, at the end of a request (``close_old_connections``), or with the
thread.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from random import random
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from django.db.transaction import TransactionManagementError
from django.db.utils import Error as DjangoError

from asyncdb.drivers.physical import Liveness
from asyncdb.drivers.residue import Residue, first_word, residue
from asyncdb.drivers.sockets import shut_down

from .pool import Place
from .watchdog import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from .alias_pool import AliasPool

__all__ = ["Facts", "Lease", "leases"]

log = logging.getLogger("django_bridge.threads")
leases: weakref.WeakSet[Lease] = weakref.WeakSet()
"""All of this process."""
_BEGINS: Final = frozenset({"BEGIN", "START", "XA"})
_ENDS: Final = frozenset({"COMMIT", "ROLLBACK", "END"})
_COMMENTS: Final = re.compile(r"/\*.*?\*/|--[^\n]*|#[^\n]*", re.DOTALL)
_CHAINS: Final = re.compile(r"\band\s+chain\b", re.IGNORECASE)
"""A COMMIT or ROLLBACK upon which the next transaction begins."""
_IDS: Final = re.compile(r"last_insert_id|last_insert_rowid|identity|lastval|currval", re.IGNORECASE)
_MAKES_IDS: Final = re.compile(r"\b(?:insert|replace|nextval|call|copy|merge)\b", re.IGNORECASE)
_JITTER: Final = 0.1
_OF_IDLE_LIMIT: Final = 0.9
"""Part of the server's own idle limit after which a connection is replaced."""


@dataclass(slots=True)
class Facts:
    """What is known of one physical connection."""

    made_of: dict[str, Any] = field(repr=False)
    """The wrapper's settings when it was opened."""
    time_zone: str
    look: Callable[[], Liveness]
    state: Any
    """What was set on the driver's object when it was new."""
    references: int
    """How many there were to the driver's object, but for cursors."""
    expires: float
    alive: set[int]
    """The cursors of this connection that were not collected yet, closed or not, whichever thread has them, by ``id``;
    by ``~id`` too where a cursor that has sent something refers to its connection twice."""
    unusable: bool = False
    """Whether something interrupted the driver amid a statement."""


class _EndOfThread:
    """Kept by a thread alone: is collected as the thread ends."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.leases: weakref.WeakSet[Lease] = weakref.WeakSet()

    def __del__(self) -> None:
        if sys is None or sys.is_finalizing() or self.pid != os.getpid():  # a fork ends the parent's other threads
            return
        for lease in list(self.leases):
            lease.abandon()


_here = threading.local()


class Lease:
    """See the module. Every method but ``collected``, ``leave`` and ``abandon`` is the owning thread's."""

    def __init__(self, wrapper: Any, pool: AliasPool, *, by_request: bool) -> None:
        self.place: Place | None = None
        self.last: Place | None = None
        self.token = object()
        self.pool = pool
        self.ident: int = wrapper._thread_ident  # noqa: SLF001  (Django's)
        self.depth = 0
        """Above 0 the wrapper is amid something that needs its connection."""
        self.open: set[int] = set()
        """The cursors that are open, by ``id``."""
        self.alive: set[int] = set()
        """Those of ``Facts`` of the connection that it has."""
        self.left: str | None = None
        """The statement that left something on the session."""
        self.raw = False
        """Whether somebody has the driver's connection in hand."""
        self.by_hand = False
        """Whether SQL began a transaction, of which the driver cannot tell."""
        self.suspect = False
        """Whether more than the wrapper and its cursors referred to the driver's connection."""
        self._by_request = by_request
        self._knows_parameters = False
        self.used = self.made_ids = False
        """Whether a statement was sent on the connection since it was taken; whether one that makes ids."""
        self._stranger = False
        """Whether what is left on the connection is not this thread's, or what this thread left is on another."""
        self._had_one = False
        """Whether it had a connection since the last request, or the last ``close()``."""
        self._announcing = False
        self._left_cursors: deque[Any] = deque()
        self._wrapper = weakref.ref(wrapper)
        self._pid = os.getpid()
        leases.add(self)
        if self.ident == get_ident():
            if not hasattr(_here, "end"):
                _here.end = _EndOfThread()
            _here.end.leases.add(self)

    @property
    def is_connecting(self) -> bool:
        """Whether a connection is being made, of which nothing is known yet."""
        return self.place is not None and self.place.facts is None

    def change(self, pool: AliasPool) -> None:
        """Goes over to a pool that was made anew."""
        self.pool, self.last, self._knows_parameters = pool, None, False

    # -- taking --------------------------------------------------------------------------------------------------

    def take(self, wrapper: Any, connect: Callable[[], None]) -> None:
        """Makes the wrapper connected; ``connect`` is Django's own, for a new connection.

        - **errors**: those of :meth:`ThreadPool.checkout`, and of the login.
        """
        pool = self.pool
        self.used = self.made_ids = False
        self.open.clear()
        if self.place is not None:  # something from outside has interrupted its way back
            self._drop(wrapper)
        try:
            place = pool.places.checkout(self)
            if place.connection is not None and not self._is_fit(wrapper, place):
                pool.close(place)
            if place.connection is None:
                self._open(wrapper, place, connect)
            else:
                self._put_on(wrapper, place)
            self._stranger = place.user is not self.token and (place.user is not None or self._had_one)
            place.user = self.token
            self.last = place
            self._had_one = True
        except BaseException:
            self._drop(wrapper)
            raise

    def _is_fit(self, wrapper: Any, place: Place) -> bool:
        pool, counts, facts = self.pool, self.pool.places.counts, place.facts
        now = time.monotonic()
        look = facts.look()
        if look is Liveness.DEAD:
            counts.found_dead += 1
            return False
        if (
            place.generation != pool.places.generation
            or now >= facts.expires
            or facts.made_of != wrapper.settings_dict
            or facts.time_zone != wrapper.timezone_name
        ):
            counts.recycled += 1
            return False
        limits = pool.limits
        due = limits.pool_pre_ping and now - place.idle_since >= limits.ping_after
        if look is not Liveness.SUSPECT and not due:
            return True
        counts.pings += 1
        try:
            with within(limits.ping_timeout, pool.driver.fileno(place.connection)):
                pool.driver.ping(place.connection)
            return True
        except Exception as err:  # whatever it is, there was no sign of life
            counts.found_dead += 1
            pool.places.suspect()
            log.warning(
                "%r: an idle connection did not answer a ping (%s); all idle connections are replaced",
                pool.alias,
                type(err).__name__,
            )
            return False

    def _open(self, wrapper: Any, place: Place, connect: Callable[[], None]) -> None:
        pool, started = self.pool, time.monotonic()
        pool.put_facts_on(wrapper)
        self._knows_parameters = True
        self.alive = set()
        self._announcing = True
        try:
            connect()
        except BaseException:
            pool.places.counts.connect_errors += 1
            raise
        finally:
            self._announcing = False
        connection = vars(wrapper)["connection"]
        place.connection = connection
        place.generation = pool.places.generation
        place.user = None
        del connection
        pool.learn(wrapper, place.connection)
        driver, limits = pool.driver, pool.limits
        driver.note_rest(place.connection)
        lifetime = limits.pool_recycle if limits.pool_recycle > 0 else float("inf")
        if pool.idle_limit is not None:
            lifetime = min(lifetime, pool.idle_limit * _OF_IDLE_LIMIT)
        now = time.monotonic()
        place.facts = Facts(
            made_of=pool.copy_of_settings(wrapper),
            time_zone=wrapper.timezone_name,
            look=driver.look(place.connection),
            state=driver.state(place.connection),
            references=self._references(place),
            expires=now + lifetime * (1 - _JITTER * random()),  # noqa: S311  (spreads load, guards no secret)
            alive=self.alive,
        )
        counts = pool.places.counts
        counts.connects += 1
        counts.connect_ms += (now - started) * 1000

    def _put_on(self, wrapper: Any, place: Place) -> None:
        """What Django's ``connect()`` does to the wrapper itself."""
        if wrapper.in_atomic_block:
            wrapper.in_atomic_block = False
            wrapper.savepoint_ids, wrapper.atomic_blocks = [], []
        settings = wrapper.settings_dict
        wrapper.needs_rollback = wrapper.closed_in_transaction = wrapper.errors_occurred = False
        wrapper.health_check_enabled, wrapper.health_check_done = settings["CONN_HEALTH_CHECKS"], True
        max_age = settings["CONN_MAX_AGE"]
        wrapper.close_at = None if max_age is None else time.monotonic() + max_age
        wrapper.autocommit = settings["AUTOCOMMIT"]
        vars(wrapper)["connection"] = place.connection
        self.alive = place.facts.alive
        if not self._knows_parameters:
            self._knows_parameters = True
            self.pool.put_facts_on(wrapper)
            self.pool.ask_for_parameters(wrapper)
        if self.pool.has_receivers():  # since it was opened: else it would have been closed with its request
            self._announcing = True
            try:
                self.pool.announce(wrapper)
            finally:
                self._announcing = False
        if wrapper.run_on_commit:
            wrapper.run_on_commit = []

    # -- what is held --------------------------------------------------------------------------------------------

    def before(self, cursor: Any, sql: Any) -> None:
        """Called before a statement is sent."""
        if self.place is None:
            return
        if self.pool.driver.refers_twice:
            self.alive.add(~id(cursor))
        if self._announcing:
            return
        statement = sql if isinstance(sql, str) else _text(sql, self.place.connection)
        found = _judged(statement, self.pool.family)
        if found.plain:
            self.used = True
            self.made_ids = self.made_ids or found.makes_ids
            return
        used = self.made_ids if found.reads_ids else self.used
        if found.reads_left and self._stranger and not used and not found.left:
            raise TransactionManagementError(
                "this statement reads what an earlier one left on its connection, and the connection that this thread "
                f"had on {self.pool.alias!r} went to another one, or was replaced: run both inside "
                "transaction.atomic(), or on one open cursor",
            )
        self.used = True
        self.made_ids = self.made_ids or found.makes_ids
        if found.several:
            cursor._unread = True  # noqa: SLF001  (the mixin's)
        if found.begins is not None and not self.pool.driver.tells_transaction:
            self.by_hand = found.begins
        if found.defines_routines:
            self.pool.routines.forget()
        if self.left is None and (found.left or (found.calls and not self._leave_nothing(found))):
            self.left = first_word(statement)

    def _leave_nothing(self, found: _Judged) -> bool:
        routines, place = self.pool.routines, self.place
        asked = routines.unknown(found.calls)
        if asked and place is not None and not found.reads_left:
            names = sorted({name.lstrip(".") for name in asked})
            try:
                routines.learn(asked, self.pool.driver.ask(place.connection, names))
            except Exception as err:  # in a transaction that has failed, say: it is asked another time
                log.debug("%r: could not ask about %s: %s", self.pool.alias, names, type(err).__name__)
                return False
        return routines.leave_nothing(found.calls)

    def failed(self, error: BaseException) -> None:
        """Called where a statement failed: after what is no error of the database nobody knows where the driver is."""
        place = self.place
        if place is None or place.facts is None:
            return
        if not isinstance(error, DjangoError):
            place.facts.unusable = True
        # The traceback refers to the driver's frames, and they to the connection, until the garbage collector comes by:
        # the one that Django raises is part of a cycle (``DatabaseErrorWrapper.__exit__``).
        unclosed = 0 if self.pool.driver.keeps_closed_cursors else len(self.open)
        place.facts.references = max(place.facts.references, self._references(place) - unclosed)

    def opened(self, cursor: Any) -> None:
        """Keeps the connection while ``cursor`` is open."""
        key = id(cursor)
        self.open.add(key)
        self.alive.add(key)
        cursor._alive = self.alive  # noqa: SLF001  (the mixin's)

    def closed(self, cursor: object) -> None:
        """Called when a cursor is closed."""
        self.open.discard(id(cursor))
        if not self.open and not self.depth:
            self.settle()

    def leave(self, cursor: object) -> None:
        """Called where another thread closes a cursor: the owner closes it as soon as it comes by."""
        self._left_cursors.append(cursor)

    def collected(self, cursor: Any) -> None:
        """Called by the finalizer of a cursor, in any thread."""
        key = id(cursor)
        cursor._alive.discard(key)  # noqa: SLF001  (the mixin's)
        cursor._alive.discard(~key)  # noqa: SLF001
        if key not in self.open:
            return
        if cursor._named or cursor._unread:  # noqa: SLF001  (the mixin's)
            self._left_cursors.append(_Unclosed(cursor.cursor, key))
            return
        self.open.discard(key)
        vars(cursor).pop("cursor", None)  # which refers to the connection
        if not self.open and not self.depth and get_ident() == self.ident:
            self.settle(at_once=True)

    @property
    def has_left_cursors(self) -> bool:
        """Whether there are cursors to be closed that others have left."""
        return bool(self._left_cursors)

    def tidy(self) -> None:
        """Closes the cursors that others have left."""
        while self._left_cursors:
            left = self._left_cursors.popleft()
            self.open.discard(left.key if isinstance(left, _Unclosed) else id(left))
            try:
                left.cursor.close()
            except Exception as err:  # it went with its transaction, or its connection
                log.debug("%r: a cursor that was left could not be closed: %s", self.pool.alias, type(err).__name__)

    def _is_held(self, wrapper: Any) -> bool:
        return bool(
            self.open
            or self.left is not None
            or self.raw
            or self.by_hand
            or self._by_request
            or self.pool.release == "request"
            or self.pool.has_receivers()  # nobody knows what they set, for whom
            or not wrapper.autocommit
            or wrapper.in_atomic_block
            or wrapper.closed_in_transaction
            or wrapper._thread_sharing_count  # noqa: SLF001  (Django's)
        )

    def carries_state(self, wrapper: Any) -> bool:
        """Whether a transaction is open, or something was left on the session."""
        place = self.place
        if place is None:
            return False
        if self.left is not None or self.by_hand or not wrapper.autocommit:
            return True
        connection = place.connection
        return connection is not None and self.pool.driver.in_transaction(connection)

    def _references(self, place: Place) -> int:
        """How many there are to the driver's connection, but for those of cursors that were not collected yet."""
        return sys.getrefcount(place.connection) - (len(self.alive) if self.pool.driver.keeps_closed_cursors else 0)

    # -- giving back ---------------------------------------------------------------------------------------------

    def settle(self, *, at_once: bool = False) -> None:
        """Gives the connection back if nothing is held; ``at_once``: from a finalizer, without any I/O or wait."""
        wrapper = self._wrapper()
        place = self.place
        if place is None or place.facts is None or wrapper is None or self.depth:
            return
        if self._left_cursors:
            if at_once:
                return
            self.tidy()
        if self._is_held(wrapper):
            return
        driver, facts = self.pool.driver, place.facts
        if driver.tells_transaction and not facts.unusable and driver.in_transaction(place.connection):
            return
        if self._references(place) > facts.references:
            self.suspect = True  # somebody has it in hand, or the traceback of an error: the next settlement will tell
            return
        fine = (
            not self.suspect
            and not facts.unusable
            and not wrapper.errors_occurred
            and driver.state(place.connection) == facts.state
        )
        if at_once:
            if fine:
                self._detach(wrapper)
                if not self.pool.places.checkin_at_once(self):
                    vars(wrapper)["connection"] = place.connection
            return
        if fine or (self._is_still_usable(wrapper, place) and (not self.suspect or self._reset(wrapper, place))):
            self._give_back(wrapper)
        else:
            self._drop(wrapper)

    def end(self, wrapper: Any) -> None:
        """Gives the connection back whatever is held; what cannot be given to another is closed."""
        place = self.place
        self._had_one = False
        if place is None:
            return
        self.depth += 1
        try:
            self.tidy()
            pool, facts = self.pool, place.facts
            whole = (
                not self.open
                and not self.by_hand
                and not pool.has_receivers()
                and not wrapper.in_atomic_block
                and wrapper.autocommit
                and not pool.driver.in_transaction(place.connection)
                and self._references(place) <= facts.references
                and self._is_still_usable(wrapper, place)
                and ((self.left is None and not self.raw and not self.suspect) or self._reset(wrapper, place))
            )
        except BaseException:
            self._drop(wrapper)
            raise
        finally:
            self.depth -= 1
        if whole:
            self._give_back(wrapper)
        else:
            self._drop(wrapper)

    def _is_still_usable(self, wrapper: Any, place: Place) -> bool:
        pool, facts = self.pool, place.facts
        if facts.unusable or pool.driver.state(place.connection) != facts.state:
            pool.count_invalidated("unclean")
            return False
        if not wrapper.errors_occurred:
            return True
        if facts.look() is not Liveness.DEAD:
            self.depth += 1
            try:
                with within(pool.limits.ping_timeout, pool.driver.fileno(place.connection)):
                    if wrapper.is_usable():
                        wrapper.errors_occurred = False
                        return True
            finally:
                self.depth -= 1
        pool.count_invalidated("lost")
        return False

    def _reset(self, wrapper: Any, place: Place) -> bool:
        """Has the server forget what was left; False where it cannot."""
        pool, connection = self.pool, place.connection
        self._announcing = True
        self.depth += 1
        try:
            with within(pool.limits.ping_timeout, pool.driver.fileno(connection)):
                if not pool.driver.reset(wrapper, connection, wrapper.get_connection_params()):
                    return False
                wrapper.init_connection_state()
        except Exception as err:  # whatever it is, the session is not as it should be
            log.info("%r: a connection could not be reset (%s) and is closed", pool.alias, type(err).__name__)
            return False
        finally:
            self.depth -= 1
            self._announcing = False
        pool.places.counts.reset += 1
        place.user = None
        return True

    def _give_back(self, wrapper: Any) -> None:
        self._detach(wrapper)
        unwanted = self.pool.places.checkin(self)
        if unwanted is not None:
            self.pool.close_connection(unwanted)

    def _drop(self, wrapper: Any) -> None:
        """Gives the place back without the connection, which is closed."""
        place, connection = self.place, None
        if place is not None:  # one that failed in its making is not in its place yet
            connection = vars(wrapper)["connection"] if place.connection is None else place.connection
        self._detach(wrapper)
        self.last = None
        self.pool.places.vacate(self)
        if connection is not None:
            self.pool.close_connection(connection)

    def _detach(self, wrapper: Any) -> None:
        vars(wrapper)["connection"] = None
        self.left, self.raw, self.by_hand, self.suspect = None, False, False, False
        wrapper.errors_occurred = False

    def forget(self) -> None:
        """Called where somebody has taken the connection off the wrapper: it is closed."""
        wrapper = self._wrapper()
        if wrapper is not None and self.place is not None:
            self._drop(wrapper)

    def abandon(self) -> None:
        """Closes the connection and frees the place, without a wait: the thread, or the wrapper, is no more."""
        place = self.place
        if place is None or self._pid != os.getpid() or sys.is_finalizing():
            return
        wrapper = self._wrapper()
        if wrapper is not None and wrapper._thread_sharing_count:  # noqa: SLF001  (others may go on with it)
            return
        self.place = self.last = None
        connection, place.connection, place.facts, place.user = place.connection, None, None, None
        if connection is not None:
            fileno = self.pool.driver.fileno(connection)
            if fileno is not None:
                shut_down(fileno)
            self.pool.close_connection(connection, at_once=True)
        self.pool.places.abandon(place)

    def __del__(self) -> None:
        if self.place is not None:
            self.abandon()

    # -- fork ----------------------------------------------------------------------------------------------------

    def begin_anew_after_fork(self) -> None:
        """Leaves the parent's connection alone; a transaction of the parent's cannot go on here."""
        self._pid = os.getpid()
        if self.ident == get_ident() and hasattr(_here, "end"):
            _here.end.pid = self._pid
        self.place = self.last = None
        self.depth = 0
        self.open.clear()
        self._left_cursors.clear()
        wrapper = self._wrapper()
        if wrapper is None or vars(wrapper).get("connection") is None:
            return
        if wrapper.in_atomic_block:
            wrapper.closed_in_transaction = wrapper.needs_rollback = True
        else:
            wrapper.autocommit = wrapper.settings_dict["AUTOCOMMIT"]
        self._detach(wrapper)


class _Unclosed:
    """A cursor of the driver's whose wrapper was collected."""

    __slots__ = ("cursor", "key")

    def __init__(self, cursor: Any, key: int) -> None:
        self.cursor = cursor
        self.key = key


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a statement is to its thread's lease."""

    plain: bool
    left: bool = False
    reads_left: bool = False
    calls: frozenset[str] = frozenset()
    defines_routines: bool = False
    begins: bool | None = None
    several: bool = False
    reads_ids: bool = False
    makes_ids: bool = False


_PLAIN: Final = _Judged(plain=True)
_PLAIN_THAT_MAKES_IDS: Final = _Judged(plain=True, makes_ids=True)


@functools.lru_cache(maxsize=1024)
def _judged(statement: str, family: str) -> _Judged:
    found: Residue = residue(statement)
    bare = _COMMENTS.sub(" ", statement)
    word = first_word(bare)
    begins = None
    if word in _BEGINS or (word in _ENDS and _CHAINS.search(bare)):
        begins = True
    elif word in _ENDS and " TO " not in f" {bare.upper()} ":
        begins = False
    several = ";" in bare.rstrip().rstrip(";")
    left = found.left or family in found.left_on or word == "XA"
    makes_ids = _MAKES_IDS.search(bare) is not None
    if not (left or found.reads_left or found.calls or found.defines_routines or several or begins is not None):
        return _PLAIN_THAT_MAKES_IDS if makes_ids else _PLAIN
    return _Judged(
        plain=False,
        left=left,
        reads_left=found.reads_left,
        calls=found.calls,
        defines_routines=found.defines_routines,
        begins=begins,
        several=several,
        reads_ids=_IDS.search(bare) is not None,
        makes_ids=makes_ids,
    )


def _text(sql: Any, connection: Any) -> str:
    """The words of a statement that is no string: psycopg composes them, and takes bytes."""
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    try:
        return str(sql.as_string(connection))
    except Exception:
        return "?"  # nobody knows: it leaves something
