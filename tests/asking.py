"""A statement, or one value, through Django's own cursor of the default connection."""

from __future__ import annotations

from typing import Any

from django.db import connection


def tell(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def value(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]
