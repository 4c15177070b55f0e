"""Opens connections: tries again where the server may be back in a moment, one caller at a time while it is away.

While all is well everybody connects for himself. After a failure one caller tries for all: the others wait for what
becomes of it, so that an outage is no storm of logins.

Sources: MySQL 8.4 manual, "Client Error Message Reference" (2002, 2003) and 1040 of the server's; PostgreSQL manual,
"PostgreSQL Error Codes", class 08, 53300, 57P03. libpq gives no SQLSTATE for a login that failed, only words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .attempts import attempts
from .codes import code_of
from .config import DatabaseConfig
from .drivers.physical import PhysicalConnection
from .errors import ConnectFailed
from .greenlets import await_
from .statistics import PoolCounts

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
    """Whether the next attempt to connect may succeed: not with a wrong password, nor after a silence."""
    if not isinstance(error, ConnectFailed):
        return False
    code = code_of(error)
    if code is None:
        words = str(error.orig).lower()
        return not isinstance(error.orig, TimeoutError) and any(one in words for one in _WORDS_THAT_MAY_PASS)
    return code in _MAY_PASS or (isinstance(code, str) and code.startswith(_CONNECTION_EXCEPTION))


class Opening:
    """Opens the connections of one pool."""

    def __init__(
        self, open_connection: Callable[[], PhysicalConnection], config: DatabaseConfig, counts: PoolCounts
    ) -> None:
        self._open_connection = open_connection
        self._config = config
        self._counts = counts
        self._away = False
        """Whether the last attempt found the server away."""
        self._found_out: asyncio.Future[ConnectFailed | None] | None = None
        """What the caller who tries for all will have found; None: the server is back, or he was cancelled."""

    def open(self) -> PhysicalConnection:
        """Opens one. In a greenlet.

        - **errors**: ``ConnectFailed``, also one that somebody else met while this caller waited for him;
        - **cancel**: whoever waited for it tries himself.
        """
        failed: ConnectFailed | None = None
        if not self._away:
            try:
                return self._open_connection()
            except ConnectFailed as err:
                if self._config.connect_attempts == 1 or not may_pass(err):
                    raise
                self._away, failed = True, err
        while self._away and (one_tries := self._found_out) is not None:
            if (found := await_(_outcome(one_tries))) is not None:
                raise ConnectFailed(found.message, found.orig or found) from found.orig
        return self._try_for_all(failed) if self._away else self._open_connection()

    def _try_for_all(self, failed: ConnectFailed | None) -> PhysicalConnection:
        """Tries as often as may be; ``failed`` is what the first attempt has met already."""
        config = self._config
        mine = self._found_out = asyncio.get_running_loop().create_future()
        found: ConnectFailed | None = None
        turns = attempts(
            may_pass,
            number=config.connect_attempts,
            wait=config.retry_wait,
            wait_max=config.retry_wait_max,
            within=config.connect_timeout,
        )
        try:
            while True:
                attempt = await_(anext(turns))
                with attempt:
                    if failed is not None:
                        error, failed = failed, None
                        raise error
                    self._counts.retried += attempt.num > 1
                    connection = self._open_connection()
                    self._away = False
                    return connection
        except ConnectFailed as err:
            found = err
            raise
        finally:
            self._found_out = None
            mine.set_result(found)


async def _outcome(future: asyncio.Future[ConnectFailed | None]) -> ConnectFailed | None:
    return await asyncio.shield(future)
