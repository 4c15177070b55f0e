"""What happened, as frozen dataclasses, for whoever wants to be told: a monitor, a repair job.

A hook is called where it happened, in the task and on the event loop that it happened in, and must not wait. What it
raises is logged and goes no further.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CommitLeftInDoubt", "Event", "Hook", "publish", "subscribe"]

log = logging.getLogger("asyncdb.events")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a database."""

    alias: str


@dataclass(frozen=True, slots=True)
class CommitLeftInDoubt(Event):
    """A COMMIT was sent and its reply was not seen: nobody knows whether it was applied.

    ``cancelled`` tells the two cases apart: its task was cancelled and heard of the doubt as a note alone, or the
    reply was lost and :class:`~asyncdb.errors.CommitInDoubt` raised.
    """

    cancelled: bool


Hook = Callable[[Event], None]
_hooks: list[tuple[Hook]] = []


def subscribe(hook: Hook) -> Callable[[], None]:
    """Has ``hook`` called with each event of this process from now on; call what is returned to end that."""
    entry = (hook,)  # of its own: who subscribes twice is told twice, and ends one of the two
    _hooks.append(entry)

    def end() -> None:
        _hooks[:] = [other for other in _hooks if other is not entry]

    return end


def publish(event: Event) -> None:
    """Tells the subscribers."""
    for (hook,) in tuple(_hooks):
        try:
            hook(event)
        except Exception:
            log.exception("a subscriber to events failed at %s", type(event).__name__)
