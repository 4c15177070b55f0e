"""The tables as Django's models, for the paths that stand on its ORM."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from .base import Path, Place

_ENGINES = {"mysql": "django.db.backends.mysql", "postgresql": "django.db.backends.postgresql"}


@cache
def _models(engine: str) -> Any:
    """Configures Django for this process and maps the tables, once."""
    from django.conf import settings

    settings.configure(
        DATABASES={"default": {"ENGINE": engine}},
        INSTALLED_APPS=["django_bridge", "benchmarks"],
        USE_TZ=False,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    import django

    django.setup()
    from django_bridge import hooks

    hooks.uninstall()  # until the native path is served: the other paths are Django as it is
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

    class Station(models.Model):  # noqa: DJ008  (nobody prints it)
        country = models.ForeignKey(Country, models.CASCADE)
        code = models.CharField(max_length=8)
        name = models.CharField(max_length=80)
        latitude = models.FloatField()
        longitude = models.FloatField()
        height = models.DecimalField(max_digits=8, decimal_places=2)
        manned = models.BooleanField()
        founded = models.DateField()
        passengers = models.BigIntegerField()
        updated = models.DateTimeField()

        class Meta:
            app_label, db_table, managed = "benchmarks", "station", False

    return SimpleNamespace(City=City, Account=Account, Transfer=Transfer, Station=Station)


def models_on(place: Place) -> Any:
    """The models, with Django configured for ``place``."""
    found = _models(_ENGINES[place.family])
    from django.db import connections

    # Read by each new wrapper.
    connections.settings["default"].update({name.upper(): value for name, value in place.login("name").items()})
    return found


class DjangoPath(Path):
    """A path on Django's ORM."""

    async def open(self) -> None:
        self._models = models_on(self.place)

    def _transfer(self, source: int, target: int, amount: int) -> None:
        """As a project writes it, for a thread or for ``run_django``: ``atomic()`` refuses to run on the bare loop."""
        from django.db.models import F
        from django.db.transaction import atomic

        accounts = self._models.Account.objects
        with atomic():
            accounts.filter(pk=source).update(balance=F("balance") - amount)
            accounts.filter(pk=target).update(balance=F("balance") + amount)
            self._models.Transfer.objects.create(source=source, target=target, amount=amount)

    def _debit(self, source: int, target: int, amount: int) -> None:
        from django.db.transaction import atomic

        accounts = self._models.Account.objects
        with atomic():
            account = accounts.select_for_update().get(pk=source)
            accounts.filter(pk=account.pk).update(balance=account.balance - amount)
            self._models.Transfer.objects.create(source=account.pk, target=target, amount=amount)
