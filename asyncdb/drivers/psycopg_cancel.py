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
    """Sends them; returns how many the server has taken.

    - **errors**: the last one's, if it has taken none.
    """
    free = asyncio.Semaphore(_AT_ONCE)

    async def sent(request: Any) -> None:
        async with free:
            await _send(request)

    outcomes = await asyncio.gather(*map(sent, requests), return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if errors and len(errors) == len(outcomes):
        raise errors[-1]
    return len(outcomes) - len(errors)


async def _send(request: Any) -> None:
    if not hasattr(request, "poll"):  # libpq < 17: in clear text, and it blocks
        await asyncio.to_thread(request.cancel)
        await asyncio.sleep(_AGAIN_AFTER)
        await asyncio.to_thread(request.cancel)
        return
    try:
        await _ask(request)
        await asyncio.sleep(_AGAIN_AFTER)
        await _ask(request)
    except Exception:
        request.finish()
        raise
    except BaseException:
        request.reset()  # it is sent anew as the loop ends
        raise
    request.finish()


async def _ask(request: Any) -> None:
    request.reset()
    request.start()
    await wait_conn_async(generators.cancel(request), _INTERVAL)
