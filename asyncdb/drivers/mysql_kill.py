"""``KILL``: ends a connection of ours that the server still works for, though its socket is closed here.

Nothing is killed on trust. At its login each connection asks how the server calls itself, and as whom it sees the
connection (user, client's host and port). The side connection that kills must have found the same server, and the
server must still say the same of that number: behind a balancer or a proxy that shares connections it says something
else. ``KILL QUERY`` is never used: it could end what somebody else began meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

IDENTITY = (
    "CONNECTION_ID(), CONCAT_WS(' ', @@hostname, @@port, @@server_id, @@datadir), "
    "(SELECT CONCAT(user, '@', host) FROM information_schema.processlist WHERE id = CONNECTION_ID())"
)
"""What a connection asks at its login, in three columns."""
_NO_SUCH_THREAD = 1094


@dataclass(frozen=True, slots=True)
class Identity:
    """A connection, as its server names it."""

    number: int
    server: str
    seen_as: str | None
    """``user@host:port``; None where the server's list has no such number."""


async def kill(raw: Any, here: Identity, victims: Sequence[Identity]) -> int:
    """Kills, over ``raw``, those of ``victims`` that are certain; returns how many. ``here`` is ``raw``'s own.

    - **errors**: asyncmy's.
    """
    known = {victim.number: victim for victim in victims if victim.server == here.server and victim.seen_as}
    if not known:
        return 0
    numbers = ", ".join(map(str, known))
    await raw.query(f"SELECT id, CONCAT(user, '@', host) FROM information_schema.processlist WHERE id IN ({numbers})")  # noqa: S608
    found = {int(number): seen_as for number, seen_as in raw._result.rows}
    killed = 0
    for victim in known.values():
        if found.get(victim.number) == victim.seen_as:
            killed += await _kill(raw, victim.number)
    return killed


async def _kill(raw: Any, number: int) -> bool:
    try:
        await raw.query(f"KILL {number}")
    except Exception as err:
        if err.args and err.args[0] == _NO_SUCH_THREAD:  # it has ended by itself
            return False
        raise
    return True
