"""The fields of ``django.contrib.postgres``."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres import fields as postgres
from django.contrib.postgres.search import SearchVectorField
from django.db import models

from .custom import EncryptedField, EnumField


class Arrays(models.Model):
    integers = postgres.ArrayField(models.IntegerField(null=True), null=True)
    nested = postgres.ArrayField(postgres.ArrayField(models.IntegerField(), size=2), null=True)
    chars = postgres.ArrayField(models.CharField(max_length=50), null=True)
    texts = postgres.ArrayField(models.TextField(), null=True)
    decimals = postgres.ArrayField(models.DecimalField(max_digits=10, decimal_places=2), null=True)
    jsons = postgres.ArrayField(models.JSONField(), null=True)
    inets = postgres.ArrayField(models.GenericIPAddressField(), null=True)
    dates = postgres.ArrayField(models.DateField(), null=True)
    moments = postgres.ArrayField(models.DateTimeField(), null=True)
    uuids = postgres.ArrayField(models.UUIDField(), null=True)
    booleans = postgres.ArrayField(models.BooleanField(), null=True)
    colours = postgres.ArrayField(EnumField(), null=True)
    secrets = postgres.ArrayField(EncryptedField(), null=True)


class Ranges(models.Model):
    integers = postgres.IntegerRangeField(null=True)
    bigs = postgres.BigIntegerRangeField(null=True)
    decimals = postgres.DecimalRangeField(null=True)
    dates = postgres.DateRangeField(null=True)
    moments = postgres.DateTimeRangeField(null=True)


class Stores(models.Model):
    store = postgres.HStoreField(null=True)
    stores = postgres.ArrayField(postgres.HStoreField(), null=True)
    vector = SearchVectorField(null=True)


POSTGRES: list[type[Any]] = [Arrays, Ranges, Stores]
