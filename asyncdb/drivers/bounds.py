"""How long a connection waits for a reply, and what it leaves behind on the server when it waits no more."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
from contextvars import Context
from typing import Any, TypeVar

from ..config import DatabaseConfig
from ..greenlets import await_
from ..limits import UNSAID

T = TypeVar("T")
NO_REPLY = "no reply"
NO_ANSWER = "no answer to a ping"
TOO_LARGE = "max_reply_bytes"
_AFTER_THE_SERVER = 1.0
"""Seconds that the server has for saying that it stopped a statement."""


def ends_the_same_again(error: BaseException | None) -> bool:
    """Whether a connection was given up for what would happen again: no reply in time, or one that is too large."""
    return any(word in str(error) for word in (NO_REPLY, TOO_LARGE))


class Bounds:
    """Mixin of :class:`~asyncdb.drivers.physical.PhysicalConnection`: every reply within a time."""

    config: DatabaseConfig
    doom: str | None
    """Why its state is not known any more, so that it never goes back to the pool."""
    running: Any = None
    """What ends the statement that the server still works on though nobody waits for it; see ``asyncdb.ending``."""
    gave_up: str | None = None
    """Why somebody stopped waiting for a reply: ``cancelled`` or ``timed out``."""
    _loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]  # a joined connection has none
    _overdue: float | None = None
    """When the reply is overdue that somebody waits for."""
    _watchdog: asyncio.TimerHandle | None = None
    counted = False
    """Whether the pool has counted its end."""
    asked_at = 0.0
    """When the last statement was sent, on the clock of ``time.monotonic``."""
    _committing = False
    limit: float | None = None
    """Seconds that a statement may take, as the server was told last."""
    limits_on_server = True
    """Whether the server can be told; its own word then comes a second before we stop waiting."""
    _reply_within: float | None = None
    _limit_of_config: float | None = None
    _limit_in_transaction = False

    # -- the driver's part ---------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Closes the socket at once, without a goodbye, from any state; never waits, never raises."""
        raise NotImplementedError

    async def probe(self) -> None:
        """Asks the server for a sign of life: one round trip; raises the driver's error if there is none."""
        raise NotImplementedError

    def what_runs(self) -> Any:
        """What the dialect's ``end_running`` needs to end the statement that runs; None where nothing can, or has to.

        Called before the socket is closed.
        """
        return None

    async def tell_limit(self, seconds: float | None) -> None:
        """Tells the server how long a statement may take; None: as long as its session allows by itself."""

    # -- the statement's limit -----------------------------------------------------------------------------------

    def begin_limits(self) -> None:
        """Takes the configuration's limits, which the session was made with."""
        self._limit_of_config = self.limit = self.config.statement_timeout
        self._bound_reply(self.limit)
        self._limit_in_transaction = False

    def _bound_reply(self, limit: float | None) -> None:
        self._reply_within = self.config.read_timeout
        if limit is not None:
            self._reply_within = limit + _AFTER_THE_SERVER if self.limits_on_server else limit
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    async def change_limit(self, seconds: float | None, *, in_transaction: bool) -> None:
        """Makes ``seconds`` the limit of the statements that follow."""
        self._bound_reply(seconds)
        if self.limits_on_server:
            self.limit = UNSAID  # until it is told
            await self.bounded(self.tell_limit(seconds))
            self._limit_in_transaction = in_transaction
        self.limit = seconds

    def forget_limit(self) -> None:
        """Called when the transaction, or a part of it, was rolled back, and with it what the server was told in it."""
        if self._limit_in_transaction:
            self._limit_in_transaction = False
            self.limit = UNSAID

    # -- waiting -------------------------------------------------------------------------------------------------

    async def bounded(self, work: Awaitable[T]) -> T:
        """Waits for a reply, at most ``read_timeout`` seconds; then the socket is closed and the driver raises.

        - **cancel**: the statement is noted as running, for the pool to end it on the server.
        """
        self._expect()
        try:
            return await work
        except BaseException as err:
            if not isinstance(err, Exception):
                self._leave_running("cancelled")
            raise
        finally:
            self._overdue = None

    def wait_for(self, work: Awaitable[T]) -> T:
        """:meth:`bounded`, for a greenlet that waits."""
        self._expect()
        try:
            return await_(work)
        except BaseException as err:
            if not isinstance(err, Exception):
                self._leave_running("cancelled")
            raise
        finally:
            self._overdue = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is asked beside its own loop: in another thread, or after the loop's end."""
        return self._loop is not None and asyncio._get_running_loop() is not self._loop

    @property
    def waits_for_reply(self) -> bool:
        """Whether a statement is on its way."""
        return self._overdue is not None

    def _expect(self) -> None:
        limit = self._reply_within
        self.asked_at = now = time.monotonic()
        if limit is None:
            self._overdue = math.inf
            return
        self._overdue = now + limit
        if self._watchdog is None:
            self._watch_in(limit)

    def _watch_in(self, seconds: float) -> None:
        # Not in this task's context: the timer would keep what that holds, and so the task, for as long as it runs.
        self._watchdog = self._loop.call_later(seconds, self._watch, context=Context())

    def _watch(self) -> None:
        """Looks after a reply that is due; one timer for all statements of a while, since most never need it."""
        self._watchdog = None
        if self._overdue is None:
            return
        left = self._overdue - time.monotonic()
        if left > 0:
            self._watch_in(left)
        else:
            self._leave_running("timed out")
            name = "read_timeout" if self.limit is None else "statement_timeout"
            self._give_up(f"{self._reply_within:g} s ({name})")

    def _give_up(self, limit: str) -> None:
        self.doom = f"{NO_REPLY} within {limit}"
        self.abort()

    def unwatch(self) -> None:
        """Ends the watch, for a connection that is closed; what it waits for is noted as running."""
        if self._overdue is not None:
            self._leave_running("cut")
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _leave_running(self, reason: str) -> None:
        if self.gave_up is None:
            self.gave_up = reason
            # To end a COMMIT would be to choose its outcome when its caller is told that nobody knows it.
            self.running = None if self._committing else self.what_runs()

    async def prove_alive(self, *, within: float) -> None:
        """Asks for a sign of life; raises ``TimeoutError`` or the driver's error if none comes in time.

        Unless it answered, the connection is never used again: its reply may still come.
        """
        # The socket is closed under the driver, whatever it is in the midst of.
        watchdog = self._loop.call_later(within, self._give_up, f"{within:g} s ({NO_ANSWER})")
        try:
            await self.probe()
        except BaseException:
            self.doom = self.doom or NO_ANSWER
            raise
        finally:
            watchdog.cancel()
        if self.doom is not None:
            raise TimeoutError(self.doom)
