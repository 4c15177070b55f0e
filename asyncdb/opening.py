"""Opens connections: tries again where the server may be back in a moment, one caller at a time while it is away.

While all is well everybody connects for himself. The first failure begins an outage, the first success ends it. In an
outage one caller tries for all, and less and less often; the others wait for what becomes of it. A hundred callers
would else be a storm of logins upon a server that is just coming back.

Sources: MySQL 8.4 manual, "Client Error Message Reference" (2002, 2003) and 1040 of the server's; PostgreSQL manual,
"PostgreSQL Error Codes", class 08, 53300, 57P03. libpq gives no SQLSTATE for a login that failed, only words.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .attempts import attempts
from .codes import code_of
from .config import DatabaseConfig
from .drivers.physical import PhysicalConnection
from .errors import ConnectFailed
from .greenlets import await_, greenlet_spawn
from .statistics import PoolCounts

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two attempts at least. The longest is below a second, so that a server that is back is soon found."""
_MAY_PASS = frozenset({2002, 2003, 1040, "53300", "57P03"})
_CONNECTION_EXCEPTION = "08"
"""The class of SQLSTATEs that tell of the connection itself."""
_WORDS_THAT_MAY_PASS = (
    "connection refused",
    "connection reset",
    "server closed the connection unexpectedly",
    "is starting up",
    "is shutting down",
    "too many clients",
    "too many connections",
    "remaining connection slots",
)


def may_pass(error: BaseException) -> bool:
    """Whether the next attempt to connect may succeed: not with a wrong password, no TLS, or a silence."""
    if not isinstance(error, ConnectFailed) or _of_tls(error):
        return False
    code = code_of(error)
    if code is None:
        words = str(error.orig).lower()
        return not isinstance(error.orig, TimeoutError) and any(one in words for one in _WORDS_THAT_MAY_PASS)
    return code in _MAY_PASS or (isinstance(code, str) and code.startswith(_CONNECTION_EXCEPTION))


def _of_tls(error: BaseException | None) -> bool:
    """Whether the peer failed the TLS handshake, which asyncmy puts among the servers that cannot be reached (2003)."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


class Opening:
    """Opens the connections of one pool, and knows whether its server is away."""

    def __init__(
        self, open_connection: Callable[[], PhysicalConnection], config: DatabaseConfig, counts: PoolCounts
    ) -> None:
        self._open_connection = open_connection
        self._config = config
        self._counts = counts
        self.error: ConnectFailed | None = None
        """Why the last attempt failed, while the outage lasts."""
        self._pause = 0.0
        self._not_before = 0.0
        self._found_out: asyncio.Future[ConnectFailed | None] | None = None
        """What the caller who tries for all will have found; None: the server is back, or he was cancelled."""

    def open(self) -> PhysicalConnection:
        """Opens one, at most ``connect_timeout`` seconds after it was asked. In a greenlet.

        - **errors**: ``ConnectFailed``, also one that somebody else met while this caller waited for him;
        - **cancel**: of those who waited for it one tries himself.
        """
        failed: ConnectFailed | None = None
        ends = asyncio.get_running_loop().time() + self._config.connect_timeout
        if self.error is None:
            try:
                return self._attempt()
            except ConnectFailed as err:
                if self._config.connect_attempts == 1 or not may_pass(err):
                    raise
                failed = err
        return await_(self._open_in_outage(failed, ends))

    def failure(self) -> ConnectFailed:
        """The error of the last attempt, for another caller."""
        if self.error is not None:
            return _again(self.error)
        late = TimeoutError("connect_timeout")
        return ConnectFailed(f"no login to {self._config} within its connect_timeout, part of which was waited", late)

    def _attempt(self) -> PhysicalConnection:
        begun = time.perf_counter()
        try:
            connection = self._open_connection()
        except BaseException as err:
            self._counts.connect_errors += 1
            if isinstance(err, ConnectFailed):
                self._note_outage(err)
            raise
        self._counts.connects += 1
        self._counts.connect_ms += (time.perf_counter() - begun) * 1000
        self.error, self._pause = None, 0.0
        return connection

    def _note_outage(self, error: ConnectFailed) -> None:
        self.error = error
        now = time.monotonic()
        if now >= self._not_before:  # else others, who began before they could know, fail beside this one
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._not_before = now + self._pause * random.uniform(0.5, 1.0)  # noqa: S311  (spreads load)

    async def _open_in_outage(self, failed: ConnectFailed | None, ends: float) -> PhysicalConnection:
        """``failed`` is what this caller has met already, ``ends`` the loop's time at which he is told so."""
        while True:
            if self.error is not None and self._found_out is None:
                return await self._try_for_all(failed, ends)
            async with self._until(ends):
                if self._found_out is None:
                    try:
                        return await greenlet_spawn(self._attempt)
                    except ConnectFailed as err:
                        if not may_pass(err):
                            raise
                        failed = err
                elif (found := await asyncio.shield(self._found_out)) is not None:
                    raise _again(found)

    async def _try_for_all(self, failed: ConnectFailed | None, ends: float) -> PhysicalConnection:
        config = self._config
        mine = self._found_out = asyncio.get_running_loop().create_future()
        found: ConnectFailed | None = None
        try:
            async with asyncio.timeout_at(ends):
                async for attempt in attempts(
                    may_pass, number=config.connect_attempts, wait=config.retry_wait, wait_max=config.retry_wait_max
                ):
                    with attempt:
                        if failed is not None:  # the first has been made
                            error, failed = failed, None
                            raise error
                        self._counts.retried += attempt.num > 1
                        await asyncio.sleep(self._not_before - time.monotonic())
                        return await greenlet_spawn(self._attempt)
        except TimeoutError as err:  # his time is over, that of the next in line is not
            failure = self.failure()
            self._note_outage(failure)
            raise failure from err
        except ConnectFailed as err:
            found = err
            raise
        finally:
            self._found_out = None
            mine.set_result(found)
        raise AssertionError("the last attempt returned or raised")

    @asynccontextmanager
    async def _until(self, ends: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(ends):
                yield
        except TimeoutError as err:
            raise self.failure() from err


def _again(error: ConnectFailed) -> ConnectFailed:
    return ConnectFailed(error.message, error.orig or error)
