"""Django's ORM in an async view, as its ASGI handler lets it run.

The handler gives each request a ``ThreadSensitiveContext``, hence a thread of its own, in which the connection is
opened; ``request_finished`` closes it there, ``CONN_MAX_AGE`` being 0. Both are done here; the rest of the handler
(middleware, signals before the view) is left out, to Django's advantage.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async

from ..schema import CITY_COLUMNS
from ..workloads import to_json
from . import statements
from .base import Path

_ENGINES = {"mysql": "django.db.backends.mysql", "postgresql": "django.db.backends.postgresql"}


@cache
def _models(engine: str) -> Any:
    """Configures Django for this process and maps the tables, once."""
    from django.conf import settings

    settings.configure(
        DATABASES={"default": {"ENGINE": engine}}, USE_TZ=False, DEFAULT_AUTO_FIELD="django.db.models.AutoField"
    )
    import django

    django.setup()
    from django.db import models

    class Country(models.Model):  # noqa: DJ008  (nobody prints it)
        name = models.CharField(max_length=80)
        continent = models.CharField(max_length=2)

        class Meta:
            app_label, db_table, managed = "benchmarks", "country", False

    class City(models.Model):  # noqa: DJ008  (nobody prints it)
        country = models.ForeignKey(Country, models.CASCADE)
        name = models.CharField(max_length=80)
        population = models.BigIntegerField()
        latitude = models.FloatField()
        longitude = models.FloatField()
        updated = models.DateTimeField()

        class Meta:
            app_label, db_table, managed = "benchmarks", "city", False

    class Account(models.Model):  # noqa: DJ008  (nobody prints it)
        balance = models.BigIntegerField()

        class Meta:
            app_label, db_table, managed = "benchmarks", "account", False

    class Transfer(models.Model):  # noqa: DJ008  (nobody prints it)
        source = models.IntegerField()
        target = models.IntegerField()
        amount = models.BigIntegerField()

        class Meta:
            app_label, db_table, managed = "benchmarks", "transfer", False

    return SimpleNamespace(City=City, Account=Account, Transfer=Transfer)


@asynccontextmanager
async def _request() -> AsyncIterator[None]:
    from django.db import close_old_connections

    async with ThreadSensitiveContext():
        try:
            yield
        finally:
            await sync_to_async(close_old_connections)()


class DjangoORM(Path):
    name = "django"
    title = "Django's async ORM under ASGI"
    config = (
        "DATABASES with Django's defaults (mysqlclient or psycopg, CONN_MAX_AGE=0, no pool): "
        "under ASGI a higher age only strands connections"
    )
    connects_by_design = True

    async def open(self) -> None:
        self._models = _models(_ENGINES[self.place.family])
        from django.db import connections

        # Read by each thread's new wrapper.
        connections.settings["default"].update(
            {name.upper(): value for name, value in self.place.login("name").items()}
        )

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

    def _transfer(self, source: int, target: int, amount: int) -> None:
        """``atomic()`` refuses to run on the loop, so that this is what a project writes."""
        from django.db.models import F
        from django.db.transaction import atomic

        accounts = self._models.Account.objects
        with atomic():
            accounts.filter(pk=source).update(balance=F("balance") - amount)
            accounts.filter(pk=target).update(balance=F("balance") + amount)
            self._models.Transfer.objects.create(source=source, target=target, amount=amount)
