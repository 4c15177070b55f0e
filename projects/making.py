"""Values for model-bakery to fill columns with: at both ends of what a kind of field takes, and in other letters."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from django.db import models
from model_bakery import generators

from .accessors import Model

__all__ = ["know"]

_LETTERS = "aZ09 _-'\"%\\äßñ中文€🐍"
_BERLIN_WINTER = dt.timezone(dt.timedelta(hours=1))


def know(found: Sequence[Model]) -> None:
    """Teaches model-bakery these, and to fill a project's own kinds of field as it fills the kind each stands on."""
    for field, gives in _GIVEN.items():
        generators.add(field, gives)  # type: ignore[arg-type]  # it takes the class as well as its name
    known = generators.get_type_mapping()
    for cls in {type(field) for model in found for field in model._meta.concrete_fields}:
        base = next((one for one in cls.__mro__ if one in known), None)
        if cls not in known and base is not None:
            generators.add(cls, known[base])  # type: ignore[arg-type]  # likewise


def _text(max_length: int | None = 40) -> str:
    return "".join(random.choices(_LETTERS, k=min(max_length or 40, 40))).strip() or "x"


def _with_length(make: Callable[..., str]) -> Callable[..., str]:
    make.required = ["max_length"]  # type: ignore[attr-defined]  # model-bakery's way to ask for a field's attribute
    return make


def _decimal(max_digits: int, decimal_places: int) -> Decimal:
    # SQLite has floats: Django itself fails to read more digits than these.
    largest = Decimal(10 ** min(max_digits, 15) - 1).scaleb(-decimal_places)
    return random.choice([largest, -largest, Decimal(0).scaleb(-decimal_places), Decimal(1).scaleb(-decimal_places)])


_decimal.required = ["max_digits", "decimal_places"]  # type: ignore[attr-defined]


def _moment() -> dt.datetime:
    return random.choice(
        [
            dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
            dt.datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=dt.UTC),
            dt.datetime(2037, 12, 31, 23, 59, 59, 999999, tzinfo=_BERLIN_WINTER),
        ]
    )


_GIVEN: dict[type[models.Field[Any, Any]], Callable[..., Any]] = {
    models.CharField: _with_length(_text),
    models.TextField: lambda: _text(None) + "\n\t" + _text(None),
    models.DateTimeField: _moment,
    models.DateField: lambda: random.choice([dt.date(1, 1, 1), dt.date(2024, 2, 29), dt.date(9999, 12, 31)]),
    models.TimeField: lambda: random.choice([dt.time(0, 0), dt.time(23, 59, 59, 999999)]),
    models.DurationField: lambda: random.choice([dt.timedelta(0), dt.timedelta(-3, 7, 1), dt.timedelta(90, 0, 999999)]),
    models.DecimalField: _decimal,
    models.JSONField: lambda: random.choice([{}, [], {"ä": [1, 2.5, None, True, {"b": "€"}]}, ["x", {"y": []}]]),
    models.BinaryField: lambda: random.choice([b"", b"\x00\xff'\"\\%", bytes(range(256))]),
}
