"""A bounded pool of connections for threads. It knows nothing of Django, and nothing of what a connection is.

A place is the right to one open connection. The pool has ``size`` places; whoever has a place and no connection in it
opens one. Taking a place, giving it back and handing it to the next in line are changes of state under one lock. No
I/O happens under the lock and no connection is deallocated there: closing is done by the caller, outside.

Threads wait in the order of their arrival. A place that comes back goes to the first of them directly, so that nobody
is overtaken.

A garbage collector may run in any thread at any line, also while that thread has the lock. So what is given back by a
finalizer (:meth:`ThreadPool.abandon`) goes through a queue that needs no lock, and is taken in by whoever has the lock,
or by the finalizer itself if nobody has.

A signal handler, or another thread, may raise in a thread at any line (Celery's soft time limit). So the lock is taken
by its own ``with``, which nothing comes between, and a place changes hands in an order in which it is never nobody's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from asyncdb.errors import DatabaseClosed, PoolError, PoolTimeout
from asyncdb.statistics import PoolCounts, PoolStats

__all__ = ["Holder", "Place", "PoolExhaustedByThreads", "ThreadPool"]


class PoolExhaustedByThreads(PoolError):
    """Every thread that holds a connection waits for one itself, so that none would ever come back."""


class Place:
    """The right to one open connection, and that connection."""

    __slots__ = ("connection", "facts", "generation", "idle", "idle_since", "owner", "user")

    def __init__(self, generation: int) -> None:
        self.connection: Any = None
        """None before it is opened, and after it was closed."""
        self.facts: Any = None
        """What the opener has noted of the connection."""
        self.generation = generation
        """That of the pool when the connection was opened: an older one is not used again."""
        self.idle = False
        self.idle_since = 0.0
        self.owner: int | None = None
        """The thread that has it."""
        self.user: object = None
        """Who used the connection last; None for a new one."""


class Holder(Protocol):
    """Who takes a place. The pool writes ``place`` while it has the lock, so that no interruption can lose it."""

    place: Place | None
    last: Place | None
    """The place that it had before, which it gets again if that is idle and nobody has used it."""
    token: object
    """By which a place knows who used it."""


class _Waiter:
    __slots__ = ("closed", "holder", "owner", "place", "since", "woken")

    def __init__(self, holder: Holder, owner: int, since: float) -> None:
        self.holder = holder
        self.owner = owner
        self.since = since
        self.place: Place | None = None
        self.closed = False
        self.woken = threading.Lock()
        self.woken.acquire()


class ThreadPool:
    """See the module.

    - **units**: ``size`` in connections, ``timeout`` in seconds, counted from the last time that a place came free.
    """

    def __init__(self, alias: str, *, size: int, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.alias = alias
        self.size = size
        self.timeout = timeout
        self.counts = PoolCounts()
        self.closed = False
        self.generation = 0
        """Counts the times that every idle connection became suspect."""
        self._clock = clock
        self._places: set[Place] = set()
        self._idle: list[Place] = []
        self._line: deque[_Waiter] = deque()
        self._left: deque[Place] = deque()
        self._handed_over = 0.0
        self._lock = threading.Lock()
        self._all_back = threading.Event()

    # -- taking --------------------------------------------------------------------------------------------------

    def checkout(self, holder: Holder) -> Place:
        """Gives ``holder`` a place: the one that it had, another idle one, one in which nothing is open, or in line.

        - **errors**: ``PoolTimeout`` if no place came free for anybody in ``timeout`` seconds;
          ``PoolExhaustedByThreads`` if all who have one wait for another; ``DatabaseClosed``.
        """
        owner, waiter = threading.get_ident(), None
        with self._lock:
            self._take_in()
            if self.closed:
                self._refuse_closed()
            place = self._take(holder, owner)
            if place is None:
                self._refuse_if_all_wait(owner)
                waiter = _Waiter(holder, owner, self._clock())
                self._line.append(waiter)
        if place is not None:
            self._take_in_now()
            return place
        assert waiter is not None
        try:
            self._take_in_now()
            return self._wait(waiter)
        except BaseException:
            self._leave_line(waiter)
            raise

    def _take(self, holder: Holder, owner: int) -> Place | None:
        idle = self._idle
        last = holder.last
        if idle:  # then nobody waits
            if last is not None and last.idle and last.user is holder.token:
                holder.place = last
                idle.remove(last)
            else:
                holder.place = last = idle[-1]
                idle.pop()
            last.idle = False
            last.owner = owner
            self.counts.checkouts += 1
            return last
        if len(self._places) < self.size:
            place = Place(self.generation)
            place.owner = owner
            holder.place = place  # first: one that is interrupted after it is given back as none of the pool's
            self._places.add(place)
            self.counts.checkouts += 1
            return place
        return None

    def _wait(self, waiter: _Waiter) -> Place:
        while True:
            ends = max(waiter.since, self._handed_over) + self.timeout
            waiter.woken.acquire(timeout=max(ends - self._clock(), 0.0))
            with self._lock:
                now = self._clock()
                self._take_in()
                if waiter.place is None:
                    if waiter.closed:
                        self._refuse_closed()
                    if now < max(waiter.since, self._handed_over) + self.timeout:
                        continue
                    self.counts.timeouts += 1
                    raise PoolTimeout(
                        f"no connection for a thread on {self.alias!r} within {self.timeout:g} s, in which none came "
                        f"free at all ({self._numbers()}): raise thread_pool_size or shorten transactions",
                    )
                self.counts.waits += 1
                self.counts.wait_ms += (now - waiter.since) * 1000
                return waiter.place

    def _leave_line(self, waiter: _Waiter) -> None:
        """Takes a thread that gives up, or dies, out of the line; what it was given meanwhile goes to the next."""
        with self._lock:
            if waiter in self._line:
                self._line.remove(waiter)
            if waiter.place is not None:
                self._let_go(waiter.holder, waiter.place)
                waiter.place = None
        self._take_in_now()

    def _refuse_if_all_wait(self, owner: int) -> None:
        waiting = {waiter.owner for waiter in self._line}
        waiting.add(owner)
        if all(place.owner in waiting for place in self._places):
            self.counts.overloads += 1
            raise PoolExhaustedByThreads(
                f"every thread that holds a connection for {self.alias!r} waits for a further one "
                f"({self._numbers()}), which would never come: nest less, or raise thread_pool_size",
            )

    def _refuse_closed(self) -> NoReturn:
        raise DatabaseClosed(f"the thread pool of {self.alias!r} is closed")

    # -- giving back ---------------------------------------------------------------------------------------------

    def checkin(self, holder: Holder) -> Any:
        """Takes back the place of ``holder``, with its connection, for the next user.

        Returns a connection that the caller must close, because the pool is closed; else None.
        """
        unwanted = None
        with self._lock:
            place = holder.place
            if place is None:
                return None
            place.idle_since = self._clock()
            if self.closed:
                unwanted, place.connection = place.connection, None
            self._let_go(holder, place)
        self._take_in_now()
        return unwanted

    def checkin_at_once(self, holder: Holder) -> bool:
        """The same from a finalizer; does nothing and returns False if somebody has the lock, or the pool is closed."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self.closed or (place := holder.place) is None:
                return False
            place.idle_since = self._clock()
            self._let_go(holder, place)
            return True
        finally:
            self._lock.release()

    def vacate(self, holder: Holder) -> None:
        """Takes back the place of ``holder``, whose connection the caller closes or has closed."""
        with self._lock:
            if (place := holder.place) is not None:
                place.connection = place.facts = place.user = None
                self._let_go(holder, place)
        self._take_in_now()

    def abandon(self, place: Place) -> None:
        """Takes back a place from a finalizer: never waits. Its connection was closed."""
        place.owner = None
        self._left.append(place)
        self._take_in_now()

    def suspect(self) -> None:
        """Has every connection that is idle now replaced before it is used again."""
        with self._lock:
            self._take_in()
            self.generation += 1
        self._take_in_now()

    def _let_go(self, holder: Holder, place: Place) -> None:
        """Takes a place from its holder. Under the lock; whatever interrupts it, the place is in the pool's hands."""
        place.owner = None
        self._left.append(place)
        holder.place = None
        self._take_in()

    def _take_in(self) -> None:
        """Hands over what was left. Under the lock; each is forgotten last, so that an interruption repeats it."""
        while self._left:
            place = self._left[0]
            if place in self._places and place.owner is None and place not in self._idle:
                self._hand_over(place)
            self._left.popleft()

    def _take_in_now(self) -> None:
        """Takes in what finalizers have left, unless somebody has the lock, who will."""
        while self._left and self._lock.acquire(blocking=False):
            try:
                self._take_in()
            finally:
                self._lock.release()

    def _hand_over(self, place: Place) -> None:
        """Gives a place to the first in line, or makes it idle, or gives it up. Under the lock."""
        self._handed_over = self._clock()
        line = self._line
        while line and line[0].place is not None:  # what gave it a place was interrupted before it could say so
            self._wake(line.popleft())
        if line and not self.closed:
            waiter = line[0]
            waiter.place = waiter.holder.place = place
            place.owner = waiter.owner
            line.popleft()
            self.counts.checkouts += 1
            self._wake(waiter)
        elif place.connection is not None:
            self._idle.append(place)
            place.idle = True
        else:
            self._places.discard(place)
            if self.closed and not self._places:
                self._all_back.set()

    @staticmethod
    def _wake(waiter: _Waiter) -> None:
        if waiter.woken.locked():
            waiter.woken.release()

    # -- looking -------------------------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """The pool at this moment."""
        with self._lock:
            self._take_in()
            idle, waiting = len(self._idle), len(self._line)
            found = PoolStats(self.size, len(self._places) - idle, idle, waiting, self.counts.copy())
        self._take_in_now()
        return found

    def _numbers(self) -> str:
        return f"size {self.size}, checked out {len(self._places) - len(self._idle)}, waiting {len(self._line)}"

    # -- closing -------------------------------------------------------------------------------------------------

    def take_idle(self) -> list[Any]:
        """Gives up every idle connection; the caller closes them."""
        with self._lock:
            self._take_in()
            closing = self._give_up_idle()
        self._take_in_now()
        return closing

    def close(self) -> list[Any]:
        """Closes the pool: threads in line get ``DatabaseClosed``, and what is in use is closed when it comes back.

        Returns the idle connections, which the caller closes.
        """
        with self._lock:
            self._take_in()
            self.closed = True
            while self._line:
                waiter = self._line.popleft()
                waiter.closed = True
                self._wake(waiter)
            closing = self._give_up_idle()
            if not self._places:
                self._all_back.set()
        self._take_in_now()
        return closing

    def wait_closed(self, timeout: float) -> bool:
        """Waits until a closed pool has everything back; False if that took longer than ``timeout`` seconds."""
        return self._all_back.wait(timeout)

    def _give_up_idle(self) -> list[Any]:
        closing = []
        while self._idle:
            place = self._idle.pop()
            place.idle = False
            closing.append(place.connection)
            place.connection = place.facts = place.user = None
            self._places.discard(place)
        return closing

    # -- fork ----------------------------------------------------------------------------------------------------

    def begin_anew_after_fork(self) -> list[Any]:
        """Makes the pool of a child process an empty one; returns the parent's connections, which nobody may close."""
        parents = [place.connection for place in self._places if place.connection is not None]
        self._places, self._idle = set(), []
        self._line.clear()
        self._left.clear()
        self._lock = threading.Lock()
        self._all_back = threading.Event()
        self.counts = PoolCounts()
        return parents
