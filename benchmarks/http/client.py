"""A load of HTTP requests on connections that stay open, by hand: the client is to cost little of the two cores."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

_WITHIN = 30.0


@dataclass(frozen=True)
class Load:
    """What came of one slice."""

    answered: int
    seconds: float


async def load(port: int, path: str, *, clients: int, seconds: float) -> Load:
    """Sends GETs by so many clients, each one after the other, for so many seconds.

    - **errors**: ``AssertionError`` for an answer that is not 200.
    """
    began = time.perf_counter()
    answered = await asyncio.gather(*(_client(port, path, began + seconds) for _ in range(clients)))
    return Load(sum(answered), time.perf_counter() - began)


async def _client(port: int, path: str, over: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request, answered = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode(), 0
    try:
        while time.perf_counter() < over:
            writer.write(request)
            async with asyncio.timeout(_WITHIN):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head.decode(errors="replace")
                lowered = head.lower()
                length = int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
            answered += 1
    finally:
        writer.close()
    return answered
