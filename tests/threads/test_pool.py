"""The pool by itself: real threads, a connection that is none, thousands of schedules."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asyncdb.errors import DatabaseClosed, PoolTimeout
from django_bridge.threads.pool import Place, PoolExhaustedByThreads, ThreadPool
from tests.polling import until

SCHEDULES = 10_000
WORKERS = 4


class Thread:
    """Who takes a place, as a lease does."""

    def __init__(self) -> None:
        self.place: Place | None = None
        self.last: Place | None = None
        self.token = object()


class Killed(BaseException):
    """What ends a thread."""


class Opened:
    """How many connections are open, and were at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0

    def open(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def close(self) -> None:
        with self._lock:
            self.now -= 1


class Line(deque[Any]):
    """The line, which remembers who came when; it is changed under the pool's lock alone."""

    def __init__(self) -> None:
        super().__init__()
        self.overtaken: dict[int, int] = {}
        self.most_overtaken = 0

    def append(self, waiter: Any) -> None:
        self.overtaken[id(waiter)] = 0
        super().append(waiter)

    def popleft(self) -> Any:
        return self._served(super().popleft())

    def pop(self) -> Any:  # type: ignore[override]
        return self._served(super().pop())

    def remove(self, waiter: Any) -> None:
        super().remove(waiter)
        self.overtaken.pop(id(waiter))

    def passes(self) -> None:
        """Somebody is served who came after all who wait."""
        for waiter in self:
            self.overtaken[id(waiter)] += 1

    def _served(self, waiter: Any) -> Any:
        self.most_overtaken = max(self.most_overtaken, self.overtaken.pop(id(waiter)))
        for earlier in self:
            if earlier.since < waiter.since:
                self.overtaken[id(earlier)] += 1
        return waiter


class Watched(ThreadPool):
    """A pool that tells who overtook whom, and in which threads die while they wait."""

    def __init__(self, **options: Any) -> None:
        super().__init__("default", **options)
        self._line = Line()
        self.dies: Callable[[], float] = lambda: 1.0

    def _take(self, holder: Any, owner: int) -> Place | None:
        place = super()._take(holder, owner)
        if place is not None:
            self._line.passes()  # type: ignore[attr-defined]
        return place

    def _wait(self, waiter: Any) -> Place:
        chance = self.dies()
        if chance < 0.05:
            raise Killed
        place = super()._wait(waiter)
        if chance < 0.1:
            raise Killed
        return place


@pytest.fixture(autouse=True)
def _many_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def take(pool: ThreadPool, thread: Thread | None = None, opened: Opened | None = None) -> Thread:
    thread = thread or Thread()
    place = pool.checkout(thread)
    assert thread.place is place
    if place.connection is None:
        place.connection = object()
        if opened is not None:
            opened.open()
    place.user = thread.token
    thread.last = place
    return thread


def in_thread(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


class Schedule:
    """What each worker does, by chance: hold, fail to open, give up, die in line, die with a connection in hand."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.size = self.random.randint(1, 3)
        self.pool = Watched(size=self.size, timeout=self.random.choice([0.0, 0.0002, 30.0]))
        self.opened = Opened()
        self.seeds = [self.random.random() for _ in range(WORKERS)]
        self.failures: list[str] = []

    def work(self, number: int) -> None:
        chance = random.Random(self.seeds[number])
        thread = Thread()
        self.pool.dies = chance.random
        for _ in range(chance.randint(1, 2)):
            try:
                take(self.pool, thread, self.opened)
            except (PoolTimeout, Killed):
                if thread.place is not None:
                    self.failures.append("a thread that gave up has a place")
                continue
            except PoolExhaustedByThreads:
                self.failures.append("threads that wait for nobody were refused")
                continue
            place = thread.place
            assert place is not None
            end = chance.random()
            if end < 0.7:
                self.pool.checkin(thread)
            elif end < 0.85:
                self.opened.close()
                self.pool.vacate(thread)
            else:
                thread.place = thread.last = None
                self.opened.close()
                place.connection = None
                self.pool.abandon(place)

    def check(self) -> None:
        stats = self.pool.stats()
        assert not self.failures
        assert (stats.checked_out, stats.waiting) == (0, 0), stats
        assert self.opened.most <= self.size
        assert self.opened.now == stats.idle
        assert self.pool._line.most_overtaken <= self.size  # type: ignore[attr-defined]
        holders = [take(self.pool) for _ in range(self.size)]
        assert self.pool.stats().checked_out == self.size
        for holder in holders:
            self.pool.checkin(holder)


def test_in_ten_thousand_schedules_nothing_is_lost_nobody_overtaken_and_the_cap_holds() -> None:
    seed = int(time.time())
    schedules: list[Schedule | None] = [None] * SCHEDULES
    broken: list[str] = []
    done = 0

    def next_round() -> None:
        nonlocal done
        before = schedules[done - 1] if done else None
        if before is not None:
            try:
                before.check()
            except AssertionError as err:
                broken.append(f"schedule {seed + done - 1}: {err!r}")
        schedules[done - 1] = None
        if done < SCHEDULES:
            schedules[done] = Schedule(seed + done)
        done += 1

    together = threading.Barrier(WORKERS, action=next_round)

    def worker(number: int) -> None:
        for turn in range(SCHEDULES + 1):
            together.wait(30)
            if turn == SCHEDULES or broken:
                together.abort()
                return
            schedule = schedules[turn]
            assert schedule is not None
            try:
                schedule.work(number)
            except BaseException as err:
                broken.append(f"schedule {seed + turn}: {err!r}")

    def until_over(number: int) -> None:
        try:
            worker(number)
        except threading.BrokenBarrierError:
            return

    threads = [threading.Thread(target=until_over, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not broken, broken[:3]
    assert done == SCHEDULES + 1


def test_a_thread_gets_the_connection_that_it_had() -> None:
    pool = ThreadPool("default", size=3, timeout=1.0)
    one, other = take(pool), take(pool)
    mine = one.place
    pool.checkin(one)
    pool.checkin(other)
    assert take(pool, one).place is mine


def test_a_connection_that_another_has_used_is_not_the_one_that_a_thread_had() -> None:
    pool = ThreadPool("default", size=1, timeout=1.0)
    one = take(pool)
    pool.checkin(one)
    pool.checkin(take(pool))
    assert one.last is not None
    assert one.last.user is not one.token
    assert pool.checkout(one).user is not one.token


def test_the_last_one_that_came_back_is_taken_first() -> None:
    pool = ThreadPool("default", size=3, timeout=1.0)
    first, second = take(pool), take(pool)
    last = second.place
    pool.checkin(first)
    pool.checkin(second)
    assert take(pool).place is last


def test_the_time_in_line_counts_from_the_last_time_that_a_place_came_free() -> None:
    pool = ThreadPool("default", size=1, timeout=0.4)
    holder = take(pool)
    served: list[int] = []

    def one_after_another(number: int) -> None:
        thread = take(pool)
        time.sleep(0.15)  # the pool's own time is what is tested: five of these are more than its timeout, one is less
        served.append(number)
        pool.checkin(thread)

    threads = []
    for number in range(5):
        threads.append(in_thread(lambda number=number: one_after_another(number)))  # type: ignore[misc]
        until(lambda number=number: pool.stats().waiting == number + 1)  # type: ignore[misc]
    pool.checkin(holder)
    for thread in threads:
        thread.join(10)
    assert served == [0, 1, 2, 3, 4], "each waited less than 0.4 s since the last hand-over, and more in all"
    assert pool.stats().counts.timeouts == 0


def test_who_waits_while_nothing_comes_free_is_told_the_numbers() -> None:
    pool = ThreadPool("default", size=1, timeout=0.05)
    there = threading.Event()
    in_thread(lambda: (take(pool), there.set()))
    assert there.wait(5)
    with pytest.raises(
        PoolTimeout, match=r"'default' within 0.05 s.*size 1, checked out 1, waiting 1.*thread_pool_size"
    ):
        take(pool)
    assert pool.stats().waiting == 0
    assert pool.stats().counts.timeouts == 1


def test_threads_that_all_hold_one_and_want_another_are_not_left_waiting() -> None:
    pool = ThreadPool("default", size=2, timeout=30.0)
    refused: list[BaseException] = []
    holding = threading.Barrier(2)
    began = time.monotonic()

    def greedy() -> None:
        first = take(pool)
        holding.wait(5)
        try:
            pool.checkin(take(pool))
        except PoolExhaustedByThreads as err:
            refused.append(err)
        pool.checkin(first)

    threads = [in_thread(greedy) for _ in range(2)]
    for thread in threads:
        thread.join(10)
    assert len(refused) == 1
    assert time.monotonic() - began < 10
    assert pool.stats().checked_out == 0


def test_a_connection_that_could_not_be_opened_frees_its_place_for_the_next_in_line() -> None:
    pool = ThreadPool("default", size=1, timeout=5.0)
    failing = Thread()
    pool.checkout(failing)
    got: list[Thread] = []
    waiting = in_thread(lambda: got.append(take(pool)))
    until(lambda: pool.stats().waiting == 1)
    pool.vacate(failing)
    waiting.join(5)
    assert got
    assert failing.place is None


def test_a_finalizer_that_finds_the_lock_taken_by_its_own_thread_does_not_wait() -> None:
    pool = ThreadPool("default", size=1, timeout=5.0)
    thread = take(pool)
    place, thread.place = thread.place, None
    assert place is not None
    place.connection = None
    with pool._lock:
        pool.abandon(place)
        assert not pool.checkin_at_once(take_nothing())
    assert pool.stats().checked_out == 0, "whoever had the lock has taken it in"


def take_nothing() -> Thread:
    return Thread()


def test_closing_wakes_who_waits_and_what_is_in_use_is_closed_when_it_comes_back() -> None:
    pool = ThreadPool("default", size=1, timeout=30.0)
    holder = take(pool)
    mine = holder.place.connection if holder.place else None
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            take(pool)
        except DatabaseClosed as err:
            errors.append(err)

    waiting = in_thread(wait)
    until(lambda: pool.stats().waiting == 1)
    assert pool.close() == []
    waiting.join(5)
    assert len(errors) == 1
    assert not pool.wait_closed(0)
    assert pool.checkin(holder) is mine
    assert pool.wait_closed(0)
    with pytest.raises(DatabaseClosed):
        take(pool)


def test_after_a_fork_the_pool_is_empty_and_the_parents_connections_are_kept() -> None:
    pool = ThreadPool("default", size=2, timeout=0.1)
    idle, held = take(pool), take(pool)
    parents = {id(thread.place.connection) for thread in (idle, held) if thread.place is not None}
    pool.checkin(idle)
    pool._lock.acquire()  # another thread of the parent had it at that moment
    kept = pool.begin_anew_after_fork()
    assert {id(connection) for connection in kept} == parents
    stats = pool.stats()
    assert (stats.checked_out, stats.idle) == (0, 0)
    both = [take(pool), take(pool)]
    assert all(thread.place is not None and id(thread.place.connection) not in parents for thread in both)
