"""Django's ORM in an async view, as its ASGI handler lets it run.

The handler gives each request a ``ThreadSensitiveContext``, hence a thread of its own, in which the connection is
opened; ``request_finished`` closes it there, ``CONN_MAX_AGE`` being 0. Both are done here; the rest of the handler
(middleware, signals before the view) is left out, to Django's advantage.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async

from ..schema import CITY_COLUMNS
from ..workloads import to_json
from . import statements
from .django_models import DjangoPath


@asynccontextmanager
async def _request() -> AsyncIterator[None]:
    from django.db import close_old_connections

    async with ThreadSensitiveContext():
        try:
            yield
        finally:
            await sync_to_async(close_old_connections)()


class DjangoORM(DjangoPath):
    name = "django"
    title = "Django's async ORM under ASGI"
    config = (
        "DATABASES with Django's defaults (mysqlclient or psycopg, CONN_MAX_AGE=0, no pool): "
        "under ASGI a higher age only strands connections"
    )
    connects_by_design = True

    async def point(self, key: int) -> tuple[Any, ...]:
        async with _request():
            return statements.as_tuple(await self._models.City.objects.aget(pk=key))

    async def page(self, first: int, last: int) -> bytes:
        async with _request():
            found = self._models.City.objects.filter(id__range=(first, last)).order_by("id").values(*CITY_COLUMNS)
            rows = [row async for row in found]
        return to_json(rows)

    async def join(self, country: int, limit: int) -> list[tuple[Any, ...]]:
        async with _request():
            cities = self._models.City.objects.filter(country_id=country).select_related("country").order_by("id")
            return [statements.as_joined(city) async for city in cities[:limit]]

    async def transfer(self, source: int, target: int, amount: int) -> None:
        async with _request():
            await sync_to_async(self._transfer)(source, target, amount)

    async def debit(self, source: int, target: int, amount: int) -> None:
        async with _request():
            await sync_to_async(self._debit)(source, target, amount)
