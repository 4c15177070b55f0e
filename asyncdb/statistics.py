"""What a pool counts: cheap enough to be always on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field


@dataclass(slots=True)
class PoolCounts:
    """What has happened since the pool was made; ``*_ms`` are milliseconds in all."""

    checkouts: int = 0
    waits: int = 0
    """Checkouts that had to stand in line."""
    wait_ms: float = 0.0
    timeouts: int = 0
    """Callers who got ``PoolTimeout``."""
    overloads: int = 0
    """Callers who got ``PoolOverloaded``."""
    connects: int = 0
    connect_ms: float = 0.0
    connect_errors: int = 0
    pings: int = 0
    recycled: int = 0
    """Connections replaced because of their age."""
    found_dead: int = 0
    """Idle connections found dead at checkout and replaced."""
    reset: int = 0
    """Connections on which something was left and that the server was told to forget it."""
    invalidated: dict[str, int] = field(default_factory=dict)
    """Connections dropped in use, by cause: ``cancelled`` or ``timed out`` amid a statement, ``cut`` by a shutdown,
    ``lost`` with an error, ``unclean`` when it came back."""
    killed: int = 0
    """Statements that nobody waited for any more and that were ended on the server."""
    retried: int = 0
    """Statements and transactions that were run again."""
    in_doubt: int = 0
    """Commits of which nobody knows whether they were applied."""
    leaks: int = 0
    """Connections held longer than ``leak_after``."""

    def copy(self) -> PoolCounts:
        """The counts as they are now."""
        return dataclasses.replace(self, invalidated=dict(self.invalidated))


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The pool at one moment, in connections and callers, and what has happened since it was made."""

    size: int
    """Connections that may be open at once: ``pool_size + max_overflow``."""
    checked_out: int
    idle: int
    waiting: int
    counts: PoolCounts
