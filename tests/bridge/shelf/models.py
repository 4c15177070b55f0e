"""Plain tables for the ORM on the event loop: numbered rows, every kind of value, and both ends of each relation."""

# ruff: noqa: DJ008  (nobody prints them)

from __future__ import annotations

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Row(models.Model):
    number = models.IntegerField(default=0)
    text = models.CharField(max_length=200, default="")


class Named(models.Model):
    name = models.CharField(max_length=50, unique=True)


class Value(models.Model):
    """One column of each kind that a driver decodes in its own way."""

    binary = models.BinaryField(null=True)
    boolean = models.BooleanField(null=True)
    big = models.BigIntegerField(null=True)
    date = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    decimal = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    duration = models.DurationField(null=True)
    double = models.FloatField(null=True)
    address = models.GenericIPAddressField(null=True)
    json = models.JSONField(null=True)
    text = models.TextField(default="")
    time = models.TimeField(null=True)
    uuid = models.UUIDField(null=True)


class Mark(models.Model):
    word = models.CharField(max_length=50)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    content_object = GenericForeignKey()


class Label(models.Model):
    name = models.CharField(max_length=50, default="")


class Shelf(models.Model):
    name = models.CharField(max_length=50, default="")
    labels = models.ManyToManyField(Label, related_name="shelves")
    marks = GenericRelation(Mark)


class Item(models.Model):
    name = models.CharField(max_length=50, default="")
    shelf = models.ForeignKey(Shelf, models.CASCADE, null=True, related_name="items")
