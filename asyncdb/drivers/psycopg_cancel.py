"""PostgreSQL's cancel request: it ends what a connection runs, and outlives the connection's socket.

The server knows the request by a key that it gave to this one connection at its login (PostgreSQL manual, "Canceling
Requests in Progress"), so it can reach no other. Read in psycopg 3.3.9 (``generators.py``: ``cancel``;
``waiting.py``: ``wait_conn_async``; ``capabilities``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import capabilities, generators
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.waiting import wait_conn_async

_AT_ONCE = 4
"""Requests on their way at a time; each is a connection of its own to the server."""
_INTERVAL = 0.1
_AGAIN_AFTER = 0.1
"""A server process that has not read the statement yet forgets the request that comes before it, and then runs the
statement. So there is a second request, this long after the first, in seconds."""


def request_to_cancel(pgconn: Any) -> Any:
    """The request for what runs on ``pgconn``, whose socket may be closed meanwhile; None where nothing runs."""
    if pgconn.status != ConnStatus.OK or pgconn.transaction_status != TransactionStatus.ACTIVE:
        return None
    with contextlib.suppress(psycopg.Error):
        return pgconn.cancel_conn() if capabilities.has_cancel_safe() else pgconn.get_cancel()
    return None


async def send_requests(requests: Sequence[Any]) -> int:
    """Sends them, and once more; returns how many the server has taken.

    - **errors**: the last one's, if it has taken none;
    - **cancel**: they can be sent anew.
    """
    outcomes = await _send(requests)
    taken = [request for request, error in zip(requests, outcomes, strict=True) if error is None]
    errors = [error for error in outcomes if error is not None]
    if taken:
        await asyncio.sleep(_AGAIN_AFTER)
        await _send(taken)
    for request in requests:
        if hasattr(request, "finish"):
            request.finish()
    if errors and not taken:
        raise errors[-1]
    return len(taken)


async def _send(requests: Sequence[Any]) -> list[BaseException | None]:
    free = asyncio.Semaphore(_AT_ONCE)

    async def sent(request: Any) -> None:
        async with free:
            if not hasattr(request, "poll"):  # libpq < 17: in clear text, and it blocks
                await asyncio.to_thread(request.cancel)
                return
            request.reset()
            request.start()
            await wait_conn_async(generators.cancel(request), _INTERVAL)

    return await asyncio.gather(*map(sent, requests), return_exceptions=True)
