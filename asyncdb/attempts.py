"""One thing tried several times, with a pause of full jitter in between; stamina counts and waits.

``stamina.set_active(False)`` switches every retry off, and ``stamina.set_testing()`` the pauses: in tests, say.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable

import stamina

__all__ = ["attempts"]


def attempts(
    worth_it: Callable[[Exception], bool], *, number: int, wait: float, wait_max: float
) -> AsyncIterator[stamina.Attempt]:
    """Yields blocks, one for each attempt, until one ends well or its error is not ``worth_it``; that error goes on.

    - **units**: ``wait`` and ``wait_max`` are the longest pause after the first failure and after any, in seconds.
    """
    failed = 0

    def pause(error: Exception) -> bool | float:
        nonlocal failed
        if not isinstance(error, Exception) or not worth_it(error):  # a cancellation is none, whatever the types say
            return False
        failed += 1
        return random.random() * min(wait_max, wait * 2.0 ** (failed - 1))  # noqa: S311  (spreads load, guards no secret)

    return aiter(stamina.retry_context(on=pause, attempts=number, timeout=None))
