"""Every kind of relation once, for what is read lazily."""

# ruff: noqa: DJ008  (a __str__ only where it reads something)

from __future__ import annotations

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Publisher(models.Model):
    name = models.CharField(max_length=50)


class Author(models.Model):
    name = models.CharField(max_length=50)
    publisher = models.ForeignKey(Publisher, models.CASCADE, related_name="authors")
    friends = models.ManyToManyField("self")
    teachers = models.ManyToManyField("self", symmetrical=False, related_name="pupils")


class Tag(models.Model):
    name = models.CharField(max_length=50)


class Note(models.Model):
    text = models.CharField(max_length=50)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    content_object = GenericForeignKey()


class Book(models.Model):
    title = models.CharField(max_length=50)
    summary = models.TextField()
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    editor = models.ForeignKey(Author, models.CASCADE, related_name="+", null=True)
    tags = models.ManyToManyField(Tag, related_name="tagged", related_query_name="book")
    notes = GenericRelation(Note)

    def __str__(self) -> str:
        return f"{self.title} by {self.author.name}"


class Novel(Book):
    pages = models.PositiveIntegerField(default=0)


class Cover(models.Model):
    book = models.OneToOneField(Book, models.CASCADE, related_name="cover", related_query_name="jacket")
    colour = models.CharField(max_length=50)
