"""Each kind of field and of relation that a typed module has to say something about."""

# ruff: noqa: DJ001, DJ008  (nobody prints them; NULL is what is asked about)

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.functions import Lower


class Isbn(models.CharField):
    """A field of the project's own, whose values are text."""


class Weighed(models.FloatField):
    """A field of the project's own, whose values nobody knows."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return value


class Author(models.Model):
    name = models.CharField(max_length=50)
    user = models.OneToOneField(User, models.SET_NULL, null=True, related_name="author")


class Tag(models.Model):
    word = models.SlugField(primary_key=True)


class Note(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    content_object = GenericForeignKey()


class Book(models.Model):
    title = models.CharField(max_length=50)
    subtitle = models.TextField(null=True)
    isbn = Isbn(max_length=13)
    weight = Weighed(null=True)
    author = models.ForeignKey(Author, models.CASCADE)
    editor = models.ForeignKey(Author, models.SET_NULL, null=True, related_name="edited")
    first_edition = models.ForeignKey("self", models.CASCADE, null=True, related_name="+")
    tags = models.ManyToManyField(Tag, related_name="books")
    notes = GenericRelation(Note)
    published = models.DateField(null=True)
    seen = models.DateTimeField(auto_now=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    length = models.DurationField(null=True)
    cover = models.FileField(null=True)
    data = models.JSONField(default=dict)
    digest = models.BinaryField()
    # Named as the modules that their types are from, and as a type.
    uuid = models.UUIDField(unique=True)
    datetime = models.DateTimeField(null=True)
    int = models.IntegerField(default=0)
    lowered = models.GeneratedField(
        expression=Lower("title"), output_field=models.CharField(max_length=50), db_persist=True
    )


class Loan(models.Model):
    book = models.ForeignKey(Book, models.CASCADE, to_field="uuid")
    by = models.ForeignKey(User, models.CASCADE)


class Novel(Book):
    pages = models.PositiveIntegerField()


class Recent(Book):
    class Meta:
        proxy = True
