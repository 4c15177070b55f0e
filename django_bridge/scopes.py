"""The scope: the span, owned by one task, in which an alias means one connection to Django's ORM and to threads.

::

    Scope                 one task's; for each alias one Seat
      Seat                takes a connection from the pool for a statement, keeps it as long as it must,
                          and gives it back when the operation ends

Only its owner uses a scope: whoever else reaches it by an inherited context gets a scope of its own, or an error
where that would hide a transaction.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NoReturn, Protocol, TypeVar

from django.db import DatabaseError

from asyncdb.collecting import collecting
from asyncdb.errors import NoEventLoop
from asyncdb.greenlets import spawned
from asyncdb.opener import Opener

from .errors import ScopeClosed, ScopeInTwoPlaces, ScopeOwnedByTask
from .lending import adopted, is_lent
from .loops import run_on
from .ownership import (
    Errand,
    acts_for,
    at_the_end_of_its_errand,
    errand_of_this_thread,
    has_sync_caller,
    runs_for,
)
from .seats import Seat

__all__ = [
    "OUTSIDE",
    "Scope",
    "changed_seat",
    "has_caller",
    "has_its_own_scope",
    "hidden",
    "inherited",
    "is_in_its_thread",
    "on_the_pool",
    "scope",
    "usable",
]

T = TypeVar("T")
log = logging.getLogger("django_bridge.scope")


class _Outside:
    """Where a view asked to be left to Django."""


OUTSIDE: Final = _Outside()
_current: ContextVar[Scope | _Outside | None] = ContextVar("django_bridge_scope", default=None)
inherited: Final = _current.get
"""``inherited()`` is the scope that this context carries, whoever owns it."""
enter: Final = _current.set
"""``enter(place)`` makes ``place`` the scope of this context; what it returns is for :func:`leave`."""
_enabled = False
_on_the_pool = False


class InItsThread(Protocol):
    """A wrapper of a thread's own, on a connection of the thread's."""

    @property
    def carries_state(self) -> bool:
        """Whether its connection carries what another would lack: a transaction, or something left on the session."""


class Scope:
    """The connections of one task; see :func:`scope`."""

    closed = False
    view_of: Scope | None = None
    """The scope whose view of its connections (query log, execute wrappers) this one shares."""
    _host: Scope | None = None
    _depth = 0
    _acting: asyncio.Task[Any] | None = None
    _was_of: str | None = None

    def __init__(
        self, owner: asyncio.Task[Any] | None, loop: asyncio.AbstractEventLoop, *, brief: bool = False
    ) -> None:
        self.owner = owner
        self.opener: Opener | None = None
        """Who opened the stream that it is for, where it has no owner."""
        self.brief = brief
        """Whether it is for one operation only."""
        self.loop = loop
        self.seats: dict[str, Seat] = {}
        self.wrappers: dict[str, Any] = {}
        self.elsewhere: dict[str, Any] = {}
        """What stands on the loop for the aliases that stay in threads."""
        self.in_its_thread: dict[str, InItsThread] = {}
        """The wrappers of the request's own thread, by alias, where that is on the pool of threads."""
        self.guests: set[Scope] = set()
        self._errands: list[Errand] = []
        """Whose threads may use it, until they end or the owner goes on. While there is one, no connection leaves."""
        self._waiting: list[Errand] = []
        """Those of them that wait by ``async_to_sync`` and so are amid nothing."""
        self.had_threads = False
        """Whether a thread has ever used it, which may keep a wrapper of it."""

    def __repr__(self) -> str:
        return f"<Scope of {self.owner_name}{' closed' if self.closed else ''}>"

    # -- who may use it ------------------------------------------------------------------------------------------

    def belongs_to(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether ``task`` is the owner, or acts for it while it waits."""
        return task is self.owner or task is self._acting or (self.owner is not None and acts_for(self.owner, task))

    def adopt(self, task: asyncio.Task[Any] | None = None) -> None:
        """Lets ``task``, by default the running one, own a scope whose owner has ended: it reads a streaming body."""
        if self.owner is not None and self.owner.done() and not self.closed:
            self.owner = asyncio.current_task() if task is None else task
            if self.owner is not None:
                self.owner.add_done_callback(lambda _: self.close())

    def require_task(self) -> None:
        """Raises unless the running task may use this scope."""
        task = asyncio.current_task()
        if self.closed:
            if self.opener is not None:
                self._refuse_without_its_opener()
            raise ScopeClosed(f"{task_name(task)} asked a scope that has ended: open one there (async with scope())")
        self.note_reader()
        if not self.admits(task):
            self.refuse(task)

    def note_reader(self) -> None:
        """Called where the running task reads of a stream: which ends with its opener unless another has read of it."""
        if self.opener is not None:
            self.opener.note_reader()

    def admits(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether ``task`` may use this scope while it lasts: nobody's is for whoever reads the stream."""
        return self.owner is None or self.belongs_to(task)

    def refuse(self, task: asyncio.Task[Any] | None) -> NoReturn:
        """Raises the error that names both tasks and the remedy."""
        held = ", ".join(repr(alias) for alias, seat in list(self.seats.items()) if seat.holds_state) or "of none"
        raise ScopeOwnedByTask(
            f"the connection {held} belongs to the scope of {self.owner_name}, which holds a transaction or a "
            f"changed session on it, and {task_name(task)} reached it by an inherited context: await one after another "
            "in the owner's task (asyncio.gather makes tasks, and so does asyncio.wait_for on Python 3.11: use "
            "asyncio.timeout), or open a scope in the task (async with scope())",
        )

    def _refuse_without_its_opener(self) -> NoReturn:
        aliases = ", ".join(map(repr, self.seats))
        raise ScopeClosed(
            f"the stream on {aliases} was closed when the task that opened it ended, or its scope: read it there, or "
            "open it in the task that reads it",
        )

    @property
    def holds_state(self) -> bool:
        """Whether one of its connections carries a transaction or a changed session."""
        return any(seat.holds_state for seat in list(self.seats.values()))

    def is_in_its_thread(self, alias: str | None = None) -> bool:
        """Whether the request's thread has a transaction open, or has changed its session: then all is done there.

        ``alias``: whether it is so on that alias.

        - **errors**: ``ScopeInTwoPlaces`` where the scope's own connection carries something too.
        """
        if not self.in_its_thread:
            return False
        carrying = [name for name, wrapper in list(self.in_its_thread.items()) if wrapper.carries_state]
        for name in carrying:
            seat = self.seats.get(name)
            if seat is not None and seat.holds_state:
                self.refuse_two_places(name)
        return bool(carrying) if alias is None else alias in carrying

    def refuse_two_places(self, alias: str) -> NoReturn:
        """Raises the error that names the two connections of an alias that both carry something."""
        raise ScopeInTwoPlaces(
            f"{self.owner_name} has a transaction or a changed session on {alias!r} in two places at once: on its "
            "thread's connection, where sync code made it, and on its own, where async code did, so that nobody can "
            "tell for which of them this statement is: end one first, or make both in one place (run_django)",
        )

    @property
    def owner_name(self) -> str:
        """Whose it is, or was, as errors name it."""
        return self._was_of or task_name(self.owner)

    @property
    def holder(self) -> asyncio.Task[Any] | None:
        """Whose connections they are to the pool; None for the running task."""
        return self._host.owner if self.owner is None and self._host is not None else self.owner

    @property
    def in_operation(self) -> bool:
        """Whether an operation runs, at whose end the connections are looked after."""
        return self._depth > 0

    # -- operations ----------------------------------------------------------------------------------------------

    async def run(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> T:
        """Runs ``function`` in a greenlet as one operation, after which clean connections go back to the pool.

        - **cancel**: a connection cancelled amid a statement is closed, the others go back.
        """
        before, self._acting = self._acting, asyncio.current_task()
        if self._errands and self._acting is self.owner:
            self._errands.clear()  # who acts waits for no thread
            self._waiting.clear()
        self._depth += 1
        try:
            return await spawned(function, args, kwargs)
        finally:
            self._acting = before
            self._depth -= 1
            if not self._depth:
                self.soon(self._look_after_connections)

    def _look_after_connections(self) -> None:
        for seat in list(self.seats.values()):
            if seat.link is not None:
                seat.give_back() if self.closed or self.brief else seat.settle()

    # -- threads -------------------------------------------------------------------------------------------------

    def take_on(self, errand: Errand) -> None:
        """Lets the thread of ``errand`` use it without asking again, until that call ends or the owner goes on.

        Until then no connection leaves the scope: the thread looks at its wrappers while the loop goes on, and one
        that was taken away between two of its steps would be missing in the second.
        """
        if not self.serves(errand):
            self._errands.append(errand)
            self.had_threads = True

    def serves(self, errand: Errand) -> bool:
        """Whether the owner still waits for the thread of ``errand``, which may not even look at the wrappers else."""
        return any(one is errand for one in self._errands)

    @property
    def serves_a_thread(self) -> bool:
        """Whether a thread may be amid its work here."""
        return len(self._errands) > len(self._waiting)

    def until_it_ends(self, errand: Errand) -> None:
        """Has the thread of ``errand``, which calls this, let go of the scope when its call ends."""
        at_the_end_of_its_errand(partial(self.soon, partial(self._let_go, errand)))

    def wait_for(self, errand: Errand) -> None:
        """Notes that the thread of ``errand`` waits by ``async_to_sync``: nothing has to stay for it meanwhile."""
        if self.serves(errand):
            self._waiting.append(errand)
            self._settle()

    async def go_on(self, errand: Errand) -> None:
        """Notes that it goes on; it finds what has left missing, and takes another connection."""
        self._waiting = [one for one in self._waiting if one is not errand]

    def _let_go(self, errand: Errand) -> None:
        self._errands = [one for one in self._errands if one is not errand]
        self._waiting = [one for one in self._waiting if one is not errand]
        self._settle()

    def _settle(self) -> None:
        if not self._depth:
            for seat in list(self.seats.values()):
                seat.settle()

    def call_from_thread(self, seat: Seat, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` in a greenlet on the loop for a thread that the owner waits for; blocks the thread."""
        errand = errand_of_this_thread()
        if errand is None:
            raise DatabaseError(
                f"the connection {seat.alias!r} of {self.owner_name} was handed to a thread of its own, and can "
                "only be used by threads that sync_to_async starts while the task waits",
            )
        if self.closed or self.loop.is_closed():
            self._refuse_thread()
        if self.owner is not None and not self.serves(errand):
            self.until_it_ends(errand)
        return run_on(self.loop, self._run_for_thread(errand, seat, function, args))

    async def _run_for_thread(self, errand: Errand, seat: Seat, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        if self.owner is not None:
            if self.closed or not runs_for(self.owner, errand):
                self._refuse_thread()
            self.take_on(errand)
        elif self.closed:
            self._refuse_thread()
        before, self._acting = self._acting, asyncio.current_task()
        self._depth += 1
        try:
            return await spawned(function, args, {})
        finally:
            self._acting = before
            self._depth -= 1
            if self.has_ended():
                self.soon(seat.give_back)  # it may have come after the end
            elif not self._depth:
                self.soon(seat.settle)

    def has_ended(self) -> bool:
        """Whether it was closed meanwhile."""
        return self.closed

    def _refuse_thread(self) -> NoReturn:
        raise ScopeClosed(
            f"a thread asked for the connection of {self.owner_name}, which does not wait for that thread (any "
            "more): its scope has ended, it was cancelled, or it went on; nothing was sent",
        )

    def cut_short(self) -> None:
        """Closes connections on which somebody else is amid a statement: a thread that its cancelled caller left."""
        acting, task = self._acting, asyncio.current_task()
        if acting is None or acting is task or acts_for(acting, task):
            return
        for seat in list(self.seats.values()):
            if seat.link is not None:
                seat.link.doom = seat.link.doom or "its owner went on amid a statement of a thread"
                seat.link.abort()

    def outlive(self, apart: Scope) -> None:
        """Ends ``apart``, which a stream opened, with this scope.

        One for a single operation ends before its stream, which then ends with the task that opened it.
        """
        if not self.brief:
            self.guests.add(apart)
            apart._host = self
        elif apart.opener is not None:
            apart.opener.when_it_ends(partial(_end, weakref.ref(apart)))

    def emptied(self) -> None:
        """Called when a seat was left: a stream's scope is over then."""
        if self.opener is not None:
            self.opener.forget()
        if self._host is not None:
            self._host.guests.discard(self)

    def soon(self, function: Callable[[], None]) -> None:
        """Calls ``function`` on the loop: now if this is its thread, else as soon as it can."""
        if asyncio._get_running_loop() is self.loop and not collecting():
            function()
        else:
            self.later(function)

    def later(self, function: Callable[[], None]) -> None:
        """Calls ``function`` on the loop, never at once: the caller may be the garbage collector, amid anything."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            log.debug("the loop of %r is closed", self)

    def close(self) -> None:
        """Ends the scope: clean connections go back to the pool, the others are closed. Never waits.

        Where the garbage collector ends the coroutine that opened it, in whatever thread, the loop does so.
        """
        self.closed = True
        if asyncio._get_running_loop() is not self.loop or collecting():
            self.later(self.close)
            return
        if self.opener is not None:
            self.opener.forget()
        if self._host is not None:
            self._host.guests.discard(self)
        while self.guests:
            self.guests.pop().close()
        for seat in list(self.seats.values()):
            if self._depth and seat.link is not None:
                seat.link.doom = seat.link.doom or "its scope ended amid a statement"
                seat.link.abort()
            seat.give_back()
        # A wrapper keeps its last scope until another has it, or the collector comes; and a task keeps the error that
        # left it, with all that its frames have, streams among it.
        if self.owner is not None:
            self._was_of, self.owner = task_name(self.owner), None


class scope:  # noqa: N801  (a context manager, named as a noun)
    """``async with scope():`` the ORM's connections of this task, for consumers, background tasks and scripts.

    Under ``ScopeMiddleware`` each request has one. Inside another scope of the same task it is that one. A connection
    is taken for each operation and given back after it, unless a transaction is open or a statement left something
    on its session: that one is kept to the end of the scope, and then closed.

    Beneath sync code that waits by ``async_to_sync`` (a command, a WSGI view, a ``TestCase``) everything is left to
    Django, on the caller's own connection and in its transaction.

    - **errors**: ``NoEventLoop`` outside asyncio; inside, ``ScopeOwnedByTask`` for another task that reaches a
      transaction here by an inherited context;
    - **cancel**: what is clean goes back to the pool, what is not is closed.
    """

    def __init__(self) -> None:
        self._made: Scope | None = None
        self._token: Any = None
        self._left_to_django = False

    async def __aenter__(self) -> Scope:
        task = _running_task()
        there = _current.get()
        if isinstance(there, Scope) and not there.closed and there.belongs_to(task):
            return there
        self._made = made = Scope(task, asyncio.get_running_loop())
        if isinstance(there, Scope):
            made.in_its_thread = there.in_its_thread
        if _enabled:
            self._left_to_django = has_caller()
            self._token = _current.set(OUTSIDE if self._left_to_django else made)
        return made

    async def __aexit__(self, *_: object) -> None:
        made = self._made
        try:
            if made is not None:
                made.close()
        finally:
            self.leave_open()

    def leave_open(self) -> Scope | _Outside | None:
        """Leaves the scope without ending it; returns it if it was opened here, for who is to end it.

        Where it has left all to Django, it is ``OUTSIDE``.
        """
        made, self._made = self._made, None
        if made is not None and self._token is not None:
            leave(self._token)
            if self._left_to_django:
                return OUTSIDE
        return made


def _end(ended: weakref.ref[Scope]) -> None:
    if (kept := ended()) is not None:
        kept.close()


def enable(enabled: bool) -> None:  # noqa: FBT001
    """Lets scopes have effect, or leaves everything to Django; called by ``hooks``."""
    global _enabled  # noqa: PLW0603  (one switch for the process)
    _enabled = enabled


def enabled() -> bool:
    """Whether scopes have effect in this process."""
    return _enabled


def _running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        raise NoEventLoop("scope() needs a running asyncio event loop (trio is not supported)") from None


def leave(token: Any) -> None:
    """Gives the context back the scope that it had."""
    try:
        _current.reset(token)
    except ValueError:  # left in another context than it was entered in, as some fixtures and generators do
        _current.set(None)


@contextmanager
def entered(place: Scope | _Outside | None) -> Iterator[None]:
    """Makes ``place`` the scope of this context."""
    token = enter(place)
    try:
        yield
    finally:
        leave(token)


@contextmanager
def hidden() -> Iterator[None]:
    """Leaves what runs inside to Django: its threads, its connections."""
    with entered(OUTSIDE):
        yield


def usable() -> Scope | None:
    """The scope that the running task may use; None where a new one is due.

    - **errors**: ``ScopeOwnedByTask`` where the inherited one holds state that a new one would not have.
    """
    there = _current.get()
    if not isinstance(there, Scope) or there.closed or there.loop is not asyncio.get_running_loop():
        return None
    there.adopt()
    task = asyncio.current_task()
    if there.belongs_to(task):
        return there
    if there.holds_state:
        there.refuse(task)
    return None


def changed_seat(alias: str) -> Seat | None:
    """The seat of ``alias`` in the scope of this task, if a statement has changed its session.

    - **errors**: ``ScopeOwnedByTask`` in a task that inherited such a scope: it would go on without the change.
    """
    there = _current.get()
    if not isinstance(there, Scope) or there.closed or there.loop is not asyncio._get_running_loop():
        return None
    seat = there.seats.get(alias)
    if seat is None or not seat.session_changed:
        return None
    there.adopt()
    there.require_task()
    return seat


def has_its_own_scope() -> bool:
    """Whether the running task has opened the scope that it is in."""
    there = _current.get()
    return isinstance(there, Scope) and not there.closed and there.owner is asyncio.current_task()


def has_caller() -> bool:
    """Whether sync code waits beneath this task, or a test whose connections the loop uses."""
    return (has_sync_caller() and not _on_the_pool) or is_lent() or adopted()


@contextmanager
def on_the_pool() -> Iterator[None]:
    """Has async code beneath sync callers use the pool, too, as it does in production: for tests that commit."""
    global _on_the_pool  # noqa: PLW0603  (tests of one process run one after the other)
    before, _on_the_pool = _on_the_pool, True
    try:
        yield
    finally:
        _on_the_pool = before


def left_to_django() -> bool:
    """Whether this call is left to Django: a view asked for it, or sync code waits for it outside of any scope.

    So it is where the thread of the scope has a transaction open, or has changed its session (``is_in_its_thread``).
    """
    there = _current.get()
    if isinstance(there, Scope):
        return there.is_in_its_thread()
    return there is OUTSIDE or (there is None and has_caller())


def is_in_its_thread(alias: str) -> bool:
    """Whether what this task asks of ``alias`` belongs to the thread of its request."""
    there = _current.get()
    return isinstance(there, Scope) and there.is_in_its_thread(alias)


def task_name(task: asyncio.Task[Any] | None) -> str:
    """A task, as errors name it."""
    return f"task {task.get_name()!r}" if task is not None else "no task"
