"""Django's sync ORM on a connection that stays open, as in a WSGI worker with ``CONN_MAX_AGE``: the cheapest Django.

One thread, one request after another. The loop waits for the whole of a slice, so that no hop is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import statements
from .django_models import DjangoPath


class SyncORM(DjangoPath):
    name = "django-sync"
    title = "Django's sync ORM, persistent"
    config = "Django's defaults in one thread, whose connection stays open; one request at a time, without a handler"

    async def open(self) -> None:
        await super().open()
        self._thread = ThreadPoolExecutor(1)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connect)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    async def point(self, key: int) -> tuple[Any, ...]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._point, key)

    async def debit(self, source: int, target: int, amount: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._debit, source, target, amount)

    async def serve(self, method: str, requests: Iterator[tuple[Any, ...]], tasks: int) -> None:
        blocking = getattr(self, f"_{method}")

        def work() -> None:
            for arguments in requests:
                blocking(*arguments)

        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _point(self, key: int) -> tuple[Any, ...]:
        return statements.as_tuple(self._models.City.objects.get(pk=key))

    def _connect(self) -> None:
        from django.db import connection

        connection.ensure_connection()

    def _disconnect(self) -> None:
        from django.db import connection

        connection.close()
