"""Waiting for a state of the world, with a bound: for what has no event to wait on."""

from __future__ import annotations

import time
from collections.abc import Callable

_PAUSE = 0.01


def until(condition: Callable[[], object], *, within: float = 5.0) -> None:
    """Asks again and again until ``condition()`` is true; fails after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"did not come true within {within:g} s"
        time.sleep(_PAUSE)
