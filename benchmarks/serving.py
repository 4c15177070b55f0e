"""Waiting until a server process that was just started takes connections."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import Any

_WITHIN = 60.0


async def takes_connections(process: subprocess.Popen[Any], port: int) -> None:
    """Returns when a connection to ``port`` can be made.

    - **errors**: ``AssertionError`` if the process ends first, or none could be made within a minute.
    """
    deadline = time.monotonic() + _WITHIN
    while True:
        try:
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
            return
        except OSError:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            await asyncio.sleep(0.05)
