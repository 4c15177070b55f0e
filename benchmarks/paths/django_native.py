"""Django's ORM on the event loop and on our pool: the same calls as the stock path's, with the bridge installed.

Each ``a*`` call has a scope of its own, as in a view without ``ScopeMiddleware``; ``debit`` has one around all of it,
as in a view with it, and takes SQLAlchemy's session in the same transaction. The hooks are there only while this
path is asked, so that the stock paths of the same process are Django as it is; what stays is the storage behind
``django.db.connections``, which costs them less than a microsecond a look.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..schema import CITY_COLUMNS
from ..workloads import to_json
from . import statements
from .base import fill
from .django_models import DjangoPath


class NativePath(DjangoPath):
    """A path with the bridge."""

    config = "django_bridge with its defaults, the same pool size; no scope is open around the calls, but around W5"

    async def open(self) -> None:
        await super().open()
        from django.conf import settings

        from django_bridge import database

        settings.ASYNC_DB = {"default": {"pool_size": self.place.pool_size}}
        with self.in_place():
            await fill(database().engine.connect, self.place.pool_size)

    async def close(self) -> None:
        from asyncdb import registry

        await registry.close_all()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        from django_bridge import hooks

        hooks.install()
        try:
            yield
        finally:
            hooks.uninstall()


class NativeORM(NativePath):
    name = "django-native"
    title = "ours, Django's async ORM, native"

    async def point(self, key: int) -> tuple[Any, ...]:
        return statements.as_tuple(await self._models.City.objects.aget(pk=key))

    async def page(self, first: int, last: int) -> bytes:
        found = self._models.City.objects.filter(id__range=(first, last)).order_by("id").values(*CITY_COLUMNS)
        return to_json([row async for row in found])

    async def join(self, country: int, limit: int) -> list[tuple[Any, ...]]:
        cities = self._models.City.objects.filter(country_id=country).select_related("country").order_by("id")
        return [statements.as_joined(city) async for city in cities[:limit]]

    async def transfer(self, source: int, target: int, amount: int) -> None:
        from django_bridge import run_django

        await run_django(self._transfer, source, target, amount)

    async def debit(self, source: int, target: int, amount: int) -> None:
        from django_bridge import atomic, scope

        async with scope(), atomic() as db:
            account = await self._models.Account.objects.select_for_update().aget(pk=source)
            await db.execute(statements.set_balance(account.pk, account.balance - amount))
            await self._models.Transfer.objects.acreate(source=account.pk, target=target, amount=amount)


class NativeBuiltOnce(NativePath):
    name = "django-native-built-once"
    title = "ours, SQLAlchemy's part built once"
    config = "as django-native; the UPDATE of W5 is a module's constant with bound parameters, as hot code has it"

    async def debit(self, source: int, target: int, amount: int) -> None:
        from django_bridge import atomic, scope

        async with scope(), atomic() as db:
            account = await self._models.Account.objects.select_for_update().aget(pk=source)
            await db.execute(statements.SET_BALANCE, {"key": account.pk, "left": account.balance - amount})
            await self._models.Transfer.objects.acreate(source=account.pk, target=target, amount=amount)
