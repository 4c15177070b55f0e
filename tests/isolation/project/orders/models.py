from django.conf import settings
from django.db import models
from django.utils import timezone

from catalogue.models import Book


class Order(models.Model):
    reference = models.CharField(max_length=40, unique=True)
    customer = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="orders")
    created = models.DateTimeField(default=timezone.now)
    books = models.ManyToManyField(Book, through="Line", related_name="orders")

    def __str__(self):
        return self.reference


class Line(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    book = models.ForeignKey(Book, models.PROTECT, related_name="lines")
    quantity = models.PositiveIntegerField()

    def __str__(self):
        return f"{self.quantity} × {self.book_id}"


class Event(models.Model):
    """What has happened, for the auditor."""

    kind = models.CharField(max_length=20)
    reference = models.CharField(max_length=40)

    def __str__(self):
        return f"{self.kind} {self.reference}"
