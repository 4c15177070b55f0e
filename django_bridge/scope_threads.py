"""The scope that a thread works in: told from who waits for it, asked of the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import ScopeClosed
from .loops import run_on
from .ownership import Errand, errand_of_this_thread, loop_of_this_thread, runs_for, waiter_for
from .scopes import Scope, enabled, entered, has_caller, inherited, task_name

__all__ = ["scope_from_thread", "scope_of_this_thread"]

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
def scope_from_thread() -> Iterator[Scope | None]:
    """A scope of the task that waits for this thread, where ``sync_to_async`` started it; none elsewhere (WSGI)."""
    errand, loop = errand_of_this_thread(), loop_of_this_thread()
    there = inherited()
    made = None
    if enabled() and errand is not None and loop is not None and there is None and not has_caller():
        made = run_on(loop, _opened_for(errand))
    if made is None:
        yield there if isinstance(there, Scope) else None
        return
    with entered(made):
        try:
            yield made
        finally:
            run_on(made.loop, _closed(made))


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
    if waiter is None:
        raise ScopeClosed(
            f"a thread that {task_name(there.owner)} started asked for a connection, and nobody waits for that thread "
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
