"""What tests do with Django's ContentType, a table that each project has."""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connection


def create(name: str) -> None:
    ContentType.objects.create(app_label="review", model=name)


def count(name: str) -> int:
    return ContentType.objects.filter(model=name).count()


def run(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None
