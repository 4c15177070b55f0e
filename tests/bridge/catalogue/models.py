"""Every built-in field with what it can say, for ``pydantic_model``."""

# ruff: noqa: DJ001, DJ008  (a NULL is a value too; nobody prints them)

from __future__ import annotations

import uuid

from django.core.validators import MaxValueValidator, MinLengthValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone


class State(models.TextChoices):
    NEW = "new", "New"
    OLD = "old", "Old"


class Grade(models.IntegerChoices):
    LOW = 1
    HIGH = 2


class UpperField(models.CharField):
    """A custom field on one of Django's."""


class OddField(models.Field):
    """A custom field on none."""

    def db_type(self, connection):
        return "text"


class Maker(models.Model):
    code = models.CharField(max_length=5, unique=True)
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True)


class Entry(models.Model):
    big = models.BigIntegerField()
    binary = models.BinaryField(max_length=4)
    flag = models.BooleanField(default=True)
    maybe = models.BooleanField(null=True)
    word = models.CharField(
        "the word", max_length=10, help_text="How it is written", validators=[MinLengthValidator(2)]
    )
    left_out = models.CharField(max_length=10, blank=True)
    state = models.CharField(max_length=3, choices=State, default=State.NEW)
    grade = models.IntegerField(choices=Grade, null=True)
    grouped = models.CharField(max_length=3, choices=[("one", [("a", "A")]), ("b", "B")], blank=True)
    day = models.DateField(auto_now_add=True)
    moment = models.DateTimeField(default=timezone.now)
    price = models.DecimalField(max_digits=5, decimal_places=2, validators=[MinValueValidator(0)])
    span = models.DurationField()
    mail = models.EmailField(null=True)
    file = models.FileField(blank=True)
    share = models.FloatField(validators=[MinValueValidator(0), MaxValueValidator(1)])
    address = models.GenericIPAddressField(null=True)
    number = models.IntegerField(validators=[MaxValueValidator(9), RegexValidator("[0-9]")])
    data = models.JSONField(default=dict)
    positive = models.PositiveIntegerField()
    small = models.SmallIntegerField()
    slug = models.SlugField()
    text = models.TextField()
    time = models.TimeField()
    url = models.URLField()
    key = models.UUIDField(default=uuid.uuid4)
    upper = UpperField(max_length=7)
    json = models.IntegerField(default=0)  # hides a deprecated method of pydantic's
    given = models.IntegerField(db_default=5)
    double = models.GeneratedField(
        expression=models.F("number") * 2, output_field=models.IntegerField(), db_persist=True
    )
    maker = models.ForeignKey(Maker, models.CASCADE, to_field="code", help_text="Who made it")
    others = models.ManyToManyField(Maker, related_name="+")


class Odd(models.Model):
    odd = OddField()
    number = models.IntegerField(default=0)
