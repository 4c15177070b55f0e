"""The scope that a thread works in: told from who waits for it, asked of the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Self

from .errors import ScopeClosed
from .loops import run_on
from .ownership import Errand, errand_of_this_thread, loop_of_this_thread, runs_for, waiter_for
from .scopes import Scope, enabled, enter, has_caller, inherited, leave

__all__ = ["scope_from_thread", "scope_of_this_thread", "waiting_for_the_loop"]

_of_this_thread = threading.local()


def scope_of_this_thread() -> Scope | None:
    """The scope that a thread works in: its caller's, or one for a task that is not the inherited scope's owner.

    - **errors**: ``ScopeClosed`` where nobody waits for this thread any more.
    """
    there = inherited()
    if not isinstance(there, Scope):
        return None
    errand = errand_of_this_thread()
    if errand is None:
        return None
    known: tuple[Scope, Errand, Scope] | None = getattr(_of_this_thread, "known", None)
    if known is not None and known[0] is there and known[1] is errand and known[2].serves(errand):
        return known[2]
    if there.loop.is_closed():
        return None
    found = run_on(there.loop, _taken_on(there, errand))
    found.until_it_ends(errand)
    _of_this_thread.known = (there, errand, found)
    return found


@contextmanager
def waiting_for_the_loop() -> Iterator[None]:
    """Around ``async_to_sync`` in a thread: what it has used may go back to the pool while it waits.

    A sync middleware waits so for a whole request, whose children may want connections of their own.
    """
    errand = errand_of_this_thread()
    known: tuple[Scope, Errand, Scope] | None = getattr(_of_this_thread, "known", None)
    if errand is None or known is None or known[1] is not errand or not known[2].serves(errand):
        yield
        return
    place = known[2]
    place.soon(partial(place.wait_for, errand))
    try:
        yield
    finally:
        # On the loop, so that nothing which it has begun to take away is taken under the thread's hands.
        with suppress(ScopeClosed):
            run_on(place.loop, place.go_on(errand))


class scope_from_thread:  # noqa: N801  (a context manager, named as a noun)
    """A scope of the task that waits for this thread, where ``sync_to_async`` started it; none elsewhere (WSGI)."""

    def __init__(self) -> None:
        self._made: Scope | None = None
        self._token: Any = None

    def __enter__(self) -> Self:
        errand, loop = errand_of_this_thread(), loop_of_this_thread()
        if enabled() and errand is not None and loop is not None and inherited() is None and not has_caller():
            self._made = made = run_on(loop, _opened_for(errand))
            if made is not None:
                self._token = enter(made)
        return self

    def __exit__(self, *_: object) -> None:
        made = self._made
        try:
            if made is not None:
                run_on(made.loop, _closed(made))
        finally:
            self.leave_open()

    def leave_open(self) -> Scope | None:
        """Leaves the scope without ending it; returns it if it was opened here, for who is to end it."""
        made, self._made = self._made, None
        if made is not None:
            leave(self._token)
        return made


async def _opened_for(errand: Errand) -> Scope | None:
    waiter = waiter_for(errand)
    return None if waiter is None else Scope(waiter, asyncio.get_running_loop())


async def _closed(ended: Scope) -> None:
    ended.close()


async def _taken_on(there: Scope, errand: Errand) -> Scope:
    found = await _scope_for(there, errand)
    found.take_on(errand)
    return found


async def _scope_for(there: Scope, errand: Errand) -> Scope:
    if not there.closed and there.owner is not None and runs_for(there.owner, errand):
        return there
    waiter = waiter_for(errand)
    if waiter is not None and there.owner is not None and there.owner.done() and not there.closed:
        there.adopt(waiter)
        return there
    if waiter is None:
        raise ScopeClosed(
            f"a thread that {there.owner_name} started asked for a connection, and nobody waits for that thread "
            "any more: its caller was cancelled or has gone on; nothing was sent",
        )
    if not there.closed and there.holds_state:
        there.refuse(waiter)
    for guest in there.guests:
        if guest.owner is waiter and not guest.closed:
            return guest
    made = Scope(waiter, there.loop)
    made.view_of = there
    if not there.closed:
        there.outlive(made)
    waiter.add_done_callback(lambda _: made.close())
    return made
