"""``KILL``: ends a connection of ours that the server still works for, though its socket is closed here.

Nothing is killed on trust. At its login each connection asks how the server calls itself, and notes how the server sees
it: as USER(), on the port of its own socket. The server's list of connections, which takes a lock that every login
waits for, is read only when a kill is due. The side connection that kills must have found the same server, and the
list must show that number as what was noted.

Behind a proxy the list shows the proxy's ports; the side connection learns this from its own entry. There a number has
to be the one that the handshake gave, for both: a proxy that shares connections gives its own. And the server must have
been up since before the login: after a restart it counts anew. ``KILL QUERY`` is never used: it could end what somebody
else began meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

IDENTITY = "CONNECTION_ID(), CONCAT_WS(' ', @@hostname, @@port, @@server_id, @@datadir), USER()"
"""What a connection asks at its login, in three columns."""
_NO_SUCH_THREAD = 1094


@dataclass(frozen=True, slots=True)
class Identity:
    """A connection, as its server names it."""

    number: int
    server: str
    seen_as: str | None
    """``user@host:port`` where no proxy changes the port, ``user@host`` on a Unix socket; None where it did not say."""
    own_number: bool = False
    """Whether the number is also the handshake's: it is not where a proxy speaks the protocol itself."""
    began: tuple[float, float] = field(default_factory=lambda: (time.monotonic(), time.time()))

    @classmethod
    def of(cls, raw: Any, number: int, server: str, user: str | None) -> Identity:
        """Returns that of asyncmy's connection ``raw``, from what it has been told for ``IDENTITY``."""
        place = raw._transport.get_extra_info("sockname")
        port = f":{place[1]}" if isinstance(place, tuple) else ""
        return cls(number, server, user and user + port, raw.thread_id() == number)

    def age(self) -> float:
        """Seconds since the login, at least: one clock stands while the machine sleeps, the other may be put back."""
        return max(time.monotonic() - self.began[0], time.time() - self.began[1])


async def kill(raw: Any, here: Identity, victims: Sequence[Identity]) -> int:
    """Kills, over ``raw``, those of ``victims`` that are certain; returns how many. ``here`` is ``raw``'s own.

    - **errors**: asyncmy's.
    """
    known = [victim for victim in victims if victim.server == here.server and victim.seen_as]
    if not known:
        return 0
    listed = await _listed(raw, [here.number, *(victim.number for victim in known)])
    uptime = 0.0
    if here.own_number and listed.get(here.number) not in {None, here.seen_as}:
        [(_, seconds)] = await _rows(raw, "SHOW STATUS LIKE 'Uptime'")
        uptime = float(seconds)
    killed = 0
    for victim in known:
        seen_as = listed.get(victim.number)
        through_proxy = (
            victim.own_number
            and victim.age() <= uptime
            and _without_port(seen_as) == _without_port(listed.get(here.number))
        )
        if seen_as is not None and (seen_as == victim.seen_as or through_proxy):
            killed += await _kill(raw, victim.number)
    return killed


async def _listed(raw: Any, numbers: Sequence[int]) -> dict[int, str]:
    """Returns ``user@host:port`` of those numbers that the server's list has."""
    place = "information_schema"
    if "MariaDB" not in raw.get_server_info() and (await _rows(raw, "SELECT @@performance_schema"))[0][0]:
        place = "performance_schema"  # no lock, and MySQL's other list is deprecated
    chosen = ", ".join(str(int(number)) for number in numbers)
    found = await _rows(raw, f"SELECT id, CONCAT(user, '@', host) FROM {place}.processlist WHERE id IN ({chosen})")  # noqa: S608
    return {int(number): seen_as for number, seen_as in found if seen_as}


async def _rows(raw: Any, sql: str) -> Sequence[Any]:
    await raw.query(sql)
    rows: Sequence[Any] = raw._result.rows
    return rows


def _without_port(seen_as: str | None) -> str | None:
    return seen_as and seen_as.rpartition(":")[0]


async def _kill(raw: Any, number: int) -> bool:
    try:
        await raw.query(f"KILL {number}")
    except Exception as err:
        if err.args and err.args[0] == _NO_SUCH_THREAD:  # it has ended by itself
            return False
        raise
    return True
