"""The pool: SQLAlchemy's ``AsyncAdaptedQueuePool`` with liveness, lifetimes, a bounded line and statistics.

It has no listeners of its own. Read in SQLAlchemy 2.1.9: ``pool/impl.py`` (``QueuePool._do_get``,
``_do_return_conn``, ``_inc_overflow``, ``_dec_overflow``) and ``pool/base.py`` (``_ConnectionRecord.checkout``,
``Pool._invalidate_time``).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, cast

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util import queue as sqla_queue

from .checkout import Checkout, told_when_forgotten
from .config import DatabaseConfig
from .drivers.physical import Liveness, PhysicalConnection
from .ending import Ending, EndRunning
from .errors import DatabaseClosed, PoolExhaustedByTask, PoolOverloaded, PoolTimeout
from .greenlets import await_, greenlet_spawn, in_greenlet
from .leaks import LeakFinder
from .opening import Opening
from .statistics import PoolCounts, PoolStats
from .waiting import WaitingLine

log = logging.getLogger("asyncdb.pool")

_EXPIRES, _IDLE_SINCE = "asyncdb.expires", "asyncdb.idle_since"
_JITTER = 0.1
_TURNS = 20
"""Turns of the loop in which what was left a moment ago is closed: generators within generators, one after another."""
_A_MOMENT = 0.5
"""Seconds of a close that are kept for ending on the server what was cut; twice as many where there is time."""
_OF_IDLE_LIMIT = 0.9
"""The server counts idleness on its own clock, from its own side of the wire; a tenth earlier is safely before it."""


class Pool(AsyncAdaptedQueuePool):
    """A bounded pool of healthy connections for one event loop.

    - **cancel**: a caller cancelled in line, or while its connection is made, leaves nothing checked out.
    """

    _queue_class = WaitingLine
    _pool: WaitingLine
    _invalidate_time: float
    listeners_of_ours = 0
    """Listeners to ``connect`` that SQLAlchemy added for the dialect; further ones may have made settings."""
    admit: Callable[[], None] | None = None
    """Asked before each checkout, which it refuses by an error of its own."""

    def __init__(
        self,
        open_connection: Callable[[], PhysicalConnection],
        config: DatabaseConfig,
        end_running: EndRunning | None = None,
        **kw: Any,
    ) -> None:
        self.config = config
        self._ending = Ending(config.alias, end_running)
        self._end_running = end_running
        self.counts = PoolCounts()
        self.closed = self._disposed = False
        self._open_connection = open_connection
        self._opening = Opening(open_connection, config, self.counts)
        self._records: set[ConnectionPoolEntry] = set()
        self._holders: dict[ConnectionPoolEntry, weakref.ref[asyncio.Task[Any]] | None] = {}
        """Weakly: a task that nobody can wake any more would be kept by the connection that it holds."""
        self._leaks = LeakFinder(config, self.counts) if LeakFinder.wanted(config) else None
        self._returned = asyncio.Event()
        super().__init__(
            cast("Any", self._connect),
            pool_size=1 if config.in_memory else config.pool_size,
            max_overflow=0 if config.in_memory else config.max_overflow,
            timeout=config.pool_timeout,
            use_lifo=True,
            **kw,
        )

    def dispose(self) -> None:
        """Closes what is idle; what is in use goes on, and is replaced when it is asked for again.

        ``engine.dispose()`` calls it, and has the pool made anew; this one stays, with its counts, its bound, those who
        stand in line, and whatever keeps a reference to it.
        """
        self._disposed = True
        self._invalidate_time = time.time()
        while not self._pool.empty():
            record = self._pool.get(block=False)
            self._records.discard(record)
            self._dec_overflow()
            self._pool.wake_one()
            _close(record)

    def recreate(self) -> Pool:
        if self._disposed:
            self._disposed = False
            return self
        return self._another()  # for a child process, which leaves this one to its parent

    def _another(self) -> Pool:
        made = Pool(
            self._open_connection,
            self.config,
            self._end_running,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )
        made.listeners_of_ours, made.admit = self.listeners_of_ours, self.admit
        return made

    @property
    def checks_in_silently(self) -> bool:
        """Whether a check-in waits for nothing: the pool is open, and nobody listens who might."""
        return not (self.closed or self.dispatch.checkin or self.dispatch.reset)

    def stats(self) -> PoolStats:
        """Counts connections and callers now; costs no wait and no round trip."""
        self.counts.killed = self._ending.ended
        counts = self.counts.copy()
        return PoolStats(
            size=self.size() + self._max_overflow,
            checked_out=max(0, self.checkedout()),
            idle=sum(record.dbapi_connection is not None for record in self._pool.idle),
            waiting=self._pool.waiting,
            counts=counts,
        )

    # -- connecting ----------------------------------------------------------------------------------------------

    def _connect(self, connection_record: ConnectionPoolEntry) -> PhysicalConnection:
        connection = self._opening.open()
        now = time.monotonic()
        connection_record.info[_EXPIRES] = now + self._lifetime(connection)
        connection_record.info[_IDLE_SINCE] = now
        return connection

    def _lifetime(self, connection: PhysicalConnection) -> float:
        if self.config.in_memory:
            return float("inf")
        lifetime = self.config.pool_recycle if self.config.pool_recycle > 0 else float("inf")
        if connection.idle_limit is not None:
            lifetime = min(lifetime, connection.idle_limit * _OF_IDLE_LIMIT)
        return lifetime * (1 - _JITTER * random.random())  # noqa: S311  (spreads load, guards no secret)

    # -- checkout ------------------------------------------------------------------------------------------------

    def connect(self) -> Any:
        return told_when_forgotten(super().connect())

    def checkout(self, holder: asyncio.Task[Any] | None = None) -> Any:
        """Takes a connection for ``holder``, by default the running task. In a greenlet.

        Its user gives it back clean by ``close()``, or else calls ``invalidate()``.

        - **errors**: those of ``connect()``.
        """
        if self.dispatch.checkout or self.dispatch.reset or self.dispatch.checkin:
            return self.connect()
        record: Any = self._get_for(holder or asyncio.current_task())
        return Checkout(record, self._do_return_conn)

    def _do_get(self) -> ConnectionPoolEntry:
        return self._get_for(asyncio.current_task())

    def _get_for(self, holder: asyncio.Task[Any] | None) -> ConnectionPoolEntry:
        if self.admit is not None:
            self.admit()
        record = self._take(holder)
        try:
            self._replace_if_unfit(record)
            connection: Any = cast("Any", record).get_connection()
            if connection._at_rest is None:  # what listeners to new connections have done is everybody's
                connection.note_rest()
                connection.left = None
                connection.come_back()
            connection.implies_begin = True
        except BaseException as err:
            try:
                record.invalidate(err)
            finally:
                self._do_return_conn(record)
            raise
        self.counts.checkouts += 1
        self._holders[record] = None if holder is None else weakref.ref(holder)
        if self._leaks is not None:
            self._leaks.took(record, holder)
        return record

    def _take(self, holder: asyncio.Task[Any] | None) -> ConnectionPoolEntry:
        """Takes an idle record, makes one while there is room, or stands in line."""
        in_line_since: float | None = None
        try:
            while True:
                if self.closed:
                    raise DatabaseClosed(f"database {self.config.alias!r} is closed")
                try:
                    return self._pool.get(block=False)  # type: ignore[no-any-return]  # the queue holds records
                except sqla_queue.Empty:
                    pass
                if self._inc_overflow():
                    return self._make_record()
                now = time.monotonic()
                if in_line_since is None:
                    self._refuse_if_it_would_wait_for_itself(holder)
                    self._refuse_if_overloaded()
                    in_line_since = now
                remaining = in_line_since + self.config.pool_timeout - now
                if remaining <= 0:
                    self._time_out()
                try:
                    return self._pool.get(timeout=remaining)  # type: ignore[no-any-return]  # the queue holds records
                except sqla_queue.Empty:
                    pass  # out of time, or woken because there is room: the next turn tells
        finally:
            if in_line_since is not None:
                self.counts.waits += 1
                self.counts.wait_ms += (time.monotonic() - in_line_since) * 1000

    def _make_record(self) -> ConnectionPoolEntry:
        try:
            record = self._create_connection()
        except BaseException:
            self._dec_overflow()
            self._pool.wake_one()
            raise
        self._records.add(record)
        return record

    def _refuse_if_it_would_wait_for_itself(self, task: asyncio.Task[Any] | None) -> None:
        """One task that holds every connection would only wait for what it can never give back."""
        for _ in range(_TURNS):
            if task is None or self._held_for_good(task) < self.size() + self._max_overflow:
                return
            await_(asyncio.sleep(0))
        self.counts.overloads += 1
        raise PoolExhaustedByTask(
            f"task {cast('Any', task).get_name()!r} holds every connection for {self.config.alias!r} "
            f"({self._numbers()}) and asks for one more, which would never come: nest less (a session beside atomic(), "
            "a stream left open), or raise pool_size",
        )

    def _held_for_good(self, task: asyncio.Task[Any]) -> int:
        mine, held = weakref.ref(task), self._holders.items()
        return sum(holder == mine and not _comes_back(record) for record, holder in held)

    def _refuse_if_overloaded(self) -> None:
        limit = self.config.max_waiting
        if limit is not None and self._pool.waiting >= limit:
            self.counts.overloads += 1
            raise PoolOverloaded(
                f"{self._pool.waiting} callers wait for a connection for {self.config.alias!r} already "
                f"(max_waiting {limit}, {self._numbers()}): answer 503, raise pool_size or shorten transactions",
            )

    def _time_out(self) -> NoReturn:
        self.counts.timeouts += 1
        if self._opening.error is not None:
            raise self._opening.failure()  # this is why none came free
        raise PoolTimeout(self.why_exhausted(self.config.pool_timeout))

    @property
    def is_exhausted(self) -> bool:
        """Whether every connection is in somebody's use; those whose login is on its way are not."""
        return len(self._holders) >= self.size() + self._max_overflow

    def why_exhausted(self, waited: float) -> str:
        """What is told to a caller who has waited in vain."""
        return (
            f"no connection for {self.config.alias!r} within {waited:g} s "
            f"({self._numbers()}): raise pool_size or shorten transactions"
        )

    def _numbers(self) -> str:
        stats = self.stats()
        return f"size {stats.size}, checked out {stats.checked_out}, waiting {stats.waiting}"

    def _replace_if_unfit(self, record: ConnectionPoolEntry) -> None:
        """Drops the connection of a record that is dead or too old; SQLAlchemy then connects anew."""
        connection: Any = record.dbapi_connection
        if connection is None:
            return
        if connection.washing and not self._washed(record, connection):
            return
        look = connection.look()
        now = time.monotonic()
        if look is Liveness.DEAD:
            self.counts.found_dead += 1
            connection.counted = True
            record.invalidate()
        elif now >= record.info[_EXPIRES]:
            self.counts.recycled += 1
            record.invalidate(soft=True)
        elif look is Liveness.SUSPECT or (
            now - record.info[_IDLE_SINCE] >= self.config.ping_after and self._ping_is_due(record)
        ):
            self._ping(record, connection)

    def _ping_is_due(self, record: Any) -> bool:
        """Whether a connection that was idle for long is pinged: not where SQLAlchemy replaces it anyway."""
        return self.config.pool_pre_ping and self._invalidate_time <= record.starttime and not record.fresh

    def _ping(self, record: ConnectionPoolEntry, connection: PhysicalConnection) -> None:
        self.counts.pings += 1
        try:
            await_(connection.prove_alive(within=self.config.ping_timeout))
        except Exception as err:  # whatever it is, there was no sign of life
            self.counts.found_dead += 1
            log.warning(
                "%r: an idle connection did not answer a ping (%s); all idle connections are replaced",
                self.config.alias,
                type(err).__name__,
            )
            record.invalidate(err)
            self._invalidate_time = time.time()

    # -- checkin -------------------------------------------------------------------------------------------------

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self._holders.pop(record, None)
        if self._leaks is not None:
            self._leaks.gave_back(record)
        connection: Any = record.dbapi_connection
        if connection is not None:
            connection.come_back()
        if connection is not None and not connection.nothing_to_end:
            self._drop_unclean(record, connection)
        elif connection is not None and connection.is_altered:
            connection.counted = True
            record.invalidate()
        elif connection is not None and connection.left:
            self._wash(record, connection)
        record.info[_IDLE_SINCE] = time.monotonic()
        if getattr(record, "fresh", False):
            record.fresh = False  # type: ignore[attr-defined]  # SQLAlchemy's flag, which only its own ping clears
        try:
            if self.closed:
                raise sqla_queue.Full
            self._pool.put(record, block=False)
        except sqla_queue.Full:
            self._records.discard(record)
            self._dec_overflow()
            _close(record)
            self._pool.wake_one()
        if self.closed:
            self._returned.set()  # for ``drain``

    def _wash(self, record: ConnectionPoolEntry, connection: Any) -> None:
        """Has the server forget what was left on the session; where it cannot, or somebody else made it, it goes."""
        if len(list(self.dispatch.connect)) <= self.listeners_of_ours and connection.begin_to_wash():
            self.counts.reset += 1
        else:
            connection.counted = True
            record.invalidate()

    def _washed(self, record: ConnectionPoolEntry, connection: Any) -> bool:
        try:
            await_(connection.end_washing(within=self.config.ping_timeout))
        except Exception as err:  # whatever it is, the session is not as it should be
            self.counts.found_dead += 1
            log.info("%r: a connection could not be reset (%s) and is replaced", self.config.alias, type(err).__name__)
            connection.counted = True
            record.invalidate()
            self._invalidate_time = time.time()  # as after a ping that nobody answered
            return False
        return True

    def _drop_unclean(self, record: ConnectionPoolEntry, connection: Any) -> None:
        """No connection with an open transaction, or in a state that is not known, comes back, whatever went wrong."""
        if connection.doom is None:
            log.warning("%r: a connection came back with a transaction open, and is dropped", self.config.alias)
            connection.doom = "it came back with a transaction open"
        record.invalidate()

    def _close_connection(self, connection: Any, *, terminate: bool = False) -> None:
        if terminate:
            self._count(connection)
        if connection.stream_unfinished and connection.running is None:
            connection.running = connection.what_runs()  # the server works on rows that nobody will read
        try:
            super()._close_connection(connection, terminate=terminate)
        finally:
            self._end(connection)

    def _count(self, connection: Any) -> None:
        if connection.counted:
            return
        connection.counted = True
        self.counts.in_doubt += connection.in_doubt
        if (cause := connection.cause) is not None:
            self.counts.invalidated[cause] = self.counts.invalidated.get(cause, 0) + 1

    def _end(self, connection: Any) -> None:
        """Has the server end what it still runs for a connection that is closed here."""
        running, connection.running = connection.running, None
        if running is not None:
            self._ending.soon(running)

    # -- closing -------------------------------------------------------------------------------------------------

    async def drain(self, timeout: float) -> int:
        """Closes the pool: idle connections now, the others as they come back, what is left after ``timeout`` by force.

        What these leave running is ended on the server, within the same time.

        - **units**: seconds; returns the connections that had to be closed by force;
        - **cancel**: what is left is closed by force before the cancellation goes on.
        """
        self.closed = True
        self._pool.wake_all()
        ends = time.monotonic() + timeout
        try:
            async with asyncio.timeout(max(timeout - _A_MOMENT, timeout / 2)):
                await self._close_idle()
                while self.checkedout() > 0:
                    self._returned.clear()
                    await self._returned.wait()
        except TimeoutError:
            pass
        except BaseException:
            self.abandon()
            self._ending.abandon()
            raise
        left = self.abandon()
        await self._ending.drain(min(max(_A_MOMENT, ends - time.monotonic()), 2 * _A_MOMENT))
        return left

    async def _close_idle(self) -> None:
        idle = []
        while not self._pool.empty():
            record = self._pool.get(block=False)
            self._records.discard(record)
            self._dec_overflow()
            idle.append(record)
        await asyncio.gather(*(greenlet_spawn(record.close) for record in idle))

    def retire(self) -> None:
        """Closes what is idle, without waiting; what is in use is closed when it comes back."""
        self.closed = True
        self._pool.wake_all()
        for record in list(self._records):
            if record.dbapi_connection is not None and not record.in_use:
                self._records.discard(record)
                record.dbapi_connection.discard()

    def abandon(self) -> int:
        """Closes the socket of every connection that is still open, without a word and without waiting."""
        self.closed = True
        left: list[Any] = [record for record in self._records if record.dbapi_connection is not None]
        self._records.clear()
        for record in left:
            if record.in_use:
                record.dbapi_connection.abort()
                self._count(record.dbapi_connection)
                self._end(record.dbapi_connection)
            else:
                record.dbapi_connection.discard()
        return len(left)


def _close(record: ConnectionPoolEntry) -> None:
    if in_greenlet():
        record.close()
    else:
        record.invalidate()


def _comes_back(record: ConnectionPoolEntry) -> bool:
    """Whether it was a stream's that its task has left."""
    connection: Any = record.dbapi_connection
    return connection is not None and bool(connection.coming_back)
