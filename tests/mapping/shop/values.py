"""One column for each field that Django has, and for those of ``custom``."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F
from django.db.models.functions import Now

from .custom import (
    CITextField,
    CodeField,
    CopyField,
    EncryptedField,
    EnumField,
    HexIntegerField,
    MoneyField,
    SetDecoder,
    SetEncoder,
    UpperField,
)


class Everything(models.Model):
    """Every built-in field that is a column, nullable."""

    big = models.BigIntegerField(null=True)
    binary = models.BinaryField(null=True)
    boolean = models.BooleanField(null=True)
    char = models.CharField(max_length=200, null=True)
    date = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    decimal = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    duration = models.DurationField(null=True)
    email = models.EmailField(null=True)
    file = models.FileField(upload_to="files", max_length=200, null=True)
    path = models.FilePathField(path="/", max_length=200, null=True)
    double = models.FloatField(null=True)
    address = models.GenericIPAddressField(null=True)
    integer = models.IntegerField(null=True)
    json = models.JSONField(null=True)
    positive_big = models.PositiveBigIntegerField(null=True)
    positive = models.PositiveIntegerField(null=True)
    positive_small = models.PositiveSmallIntegerField(null=True)
    slug = models.SlugField(max_length=200, null=True)
    small = models.SmallIntegerField(null=True)
    text = models.TextField(null=True)
    time = models.TimeField(null=True)
    url = models.URLField(null=True)
    uuid = models.UUIDField(null=True)


class Small(models.Model):
    id = models.SmallAutoField(primary_key=True)
    name = models.CharField(max_length=20, default="")


class Middle(models.Model):
    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=20, default="")


class ByUUID(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=20, default="")


class OfUUID(models.Model):
    parent = models.ForeignKey(ByUUID, models.CASCADE, null=True, related_name="children")


class Custom(models.Model):
    """Fields of third parties."""

    code = CodeField(null=True)
    ci = CITextField(null=True)
    secret = EncryptedField(null=True)
    colour = EnumField(null=True)
    money = MoneyField(null=True)
    hexa = HexIntegerField(null=True)
    sets = models.JSONField(encoder=SetEncoder, decoder=SetDecoder, null=True)
    rich = models.JSONField(encoder=DjangoJSONEncoder, null=True)


def _tag() -> list[str]:
    return ["new"]


class Defaults(models.Model):
    """Everything that fills a column which nobody wrote."""

    name = models.CharField(max_length=50)
    constant = models.IntegerField(default=7)
    called = models.JSONField(default=_tag)
    by_uuid = models.UUIDField(default=uuid.uuid4)
    by_enum = EnumField(default="GREEN")
    upper = UpperField(max_length=50, default="shout")
    copied = CopyField(max_length=100, default="", source="name")
    empty = models.CharField(max_length=50, blank=True)
    nothing = models.IntegerField(null=True)
    added = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)
    added_on = models.DateField(auto_now_add=True)
    changed_at = models.TimeField(auto_now=True)
    number_in_db = models.IntegerField(db_default=18)
    words_in_db = models.CharField(max_length=50, db_default="it's 100%")
    both = models.IntegerField(default=1, db_default=2)
    clock_in_db = models.DateTimeField(db_default=Now())


class Generated(models.Model):
    width = models.IntegerField(default=2)
    height = models.IntegerField(default=3)
    area = models.GeneratedField(
        expression=F("width") * F("height"), output_field=models.BigIntegerField(), db_persist=True
    )


class Price(models.Model):
    """For arithmetic and comparisons."""

    name = models.CharField(max_length=50, db_column="The Name")
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    count = models.IntegerField(default=0)
    day = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    span = models.DurationField(null=True)
    data = models.JSONField(default=dict)
    colour = EnumField(null=True)


class UnderNoZone(models.Model):
    """What a default gives with every kind of zone."""

    day = models.DateField(default=datetime.date.today)
    amount = models.DecimalField(max_digits=5, decimal_places=2, default=Decimal("1.50"))


VALUES: list[type[Any]] = [
    Everything,
    Small,
    Middle,
    ByUUID,
    OfUUID,
    Custom,
    Defaults,
    Generated,
    Price,
    UnderNoZone,
]
