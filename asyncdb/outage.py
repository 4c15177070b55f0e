"""Connecting while the server is away: one caller tries at a time, and less and less often.

An outage with a hundred callers would else be a storm of logins upon a server that is just coming back. The first
failure begins it, the first success ends it. Whoever comes meanwhile waits for the attempt that is made for all, and
shares its outcome.
"""

from __future__ import annotations

import asyncio
import random
import time

from .errors import ConnectFailed

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two attempts. The longest is below a second, so that a server that is back is soon found."""


class Outage:
    """What one pool knows of its server's absence."""

    def __init__(self) -> None:
        self.error: ConnectFailed | None = None
        """Why the last attempt failed, while it lasts."""
        self._pause = 0.0
        self._next = 0.0
        self._attempt: asyncio.Future[ConnectFailed | None] | None = None

    def anew(self) -> ConnectFailed:
        """The error of the last attempt, for another caller."""
        assert self.error is not None
        return _again(self.error)

    async def turn(self) -> None:
        """Returns to the one who is to make the next attempt, when its time has come, or when the outage is over.

        - **errors**: ``ConnectFailed`` for those who waited for an attempt that failed;
        - **cancel**: the next in line makes the attempt.
        """
        while self.error is not None:
            if self._attempt is None:
                self._attempt = asyncio.get_running_loop().create_future()
                try:
                    await asyncio.sleep(max(0.0, self._next - time.monotonic()))
                except BaseException:
                    self._settle(None)
                    raise
                return
            if (error := await asyncio.shield(self._attempt)) is not None:
                raise _again(error)

    def failed(self, error: BaseException) -> None:
        """Called when an attempt failed, by whoever made it."""
        if isinstance(error, ConnectFailed):
            self.error = error
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._next = time.monotonic() + self._pause * random.uniform(0.5, 1.0)  # noqa: S311  (spreads load)
            self._settle(error)
        else:
            self._settle(None)  # it was cancelled, say: the next one tries

    def over(self) -> None:
        """Called when an attempt succeeded."""
        self.error = None
        self._pause = 0.0
        self._settle(None)

    def _settle(self, outcome: ConnectFailed | None) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.set_result(outcome)


def _again(error: ConnectFailed) -> ConnectFailed:
    return ConnectFailed(error.message, error.orig or error)
