"""Every value and every relation of every model, through SQLAlchemy and through Django's ORM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from django_bridge import mapped, session

from .accessors import Accessor, Model, accessors, columns, key

__all__ = ["Compared", "compare"]


@dataclass
class Compared:
    """What was compared, what differs, and what there was nothing to compare of."""

    rows: int = 0
    values: int = 0
    queries: int = 0
    """For relations: one for each way of loading each."""
    related: int = 0
    """Related rows, each time that they were loaded."""
    differences: list[str] = field(default_factory=list)
    only_null: list[str] = field(default_factory=list)
    """Columns with no value in any row."""
    unrelated: list[str] = field(default_factory=list)
    """Relations that lead nowhere from any row."""


async def compare(model: Model, found: Compared) -> None:
    """Adds what is found of a model: all its columns in all its rows, and each of its relations.

    What is missing is named elsewhere, and left out here.
    """
    await _columns(model, found)
    for accessor in accessors(model):
        if accessor.name not in mapped(model).__mapper__.relationships:
            continue
        expected = await sync_to_async(_by_django)(model, accessor)
        if not expected:
            found.unrelated.append(f"{model._meta.label}.{accessor.name}")
        for load in (selectinload, joinedload) if accessor.to_one else (selectinload,):
            ours = await _by_sqlalchemy(model, accessor, load)
            found.queries += 1
            found.related += sum(map(len, expected.values()))
            if ours != expected:
                found.differences.append(
                    f"{model._meta.label}.{accessor.name} by {load.__name__}: "
                    f"{_number(expected)} by Django, {_number(ours)} by SQLAlchemy: "
                    f"{_first_of(expected, ours)}"
                )


async def _columns(model: Model, found: Compared) -> None:
    cls = mapped(model)
    names = [each.attname for each in columns(model) if each.attname in cls.__mapper__.column_attrs]
    expected = await sync_to_async(lambda: list(model._base_manager.order_by("pk").values_list(*names)))()
    async with session() as db:
        rows = (await db.scalars(select(cls).order_by(*(getattr(cls, name) for name in key(model))))).all()
    found.rows += len(expected)
    found.values += len(expected) * len(names)
    if len(expected) != len(rows):
        found.differences.append(f"{model._meta.label}: Django has {len(expected)} rows, SQLAlchemy {len(rows)}")
    for number, name in enumerate(names):
        pairs = [(one[number], getattr(row, name)) for one, row in zip(expected, rows, strict=False)]
        found.differences += [
            f"{model._meta.label}.{name}: Django {_shown(one)}, SQLAlchemy {_shown(other)}"
            for one, other in pairs
            if one != other or type(one) is not type(other)
        ]
        if expected and all(one is None for one, _ in pairs):
            found.only_null.append(f"{model._meta.label}.{name}")


def _by_django(model: Model, accessor: Accessor) -> dict[Any, set[Any]]:
    """The keys of the related rows, of each row that has any."""
    found = defaultdict(set)
    for row, related in model._base_manager.values_list("pk", f"{accessor.query_name}__pk"):
        if related is not None and related != (None,) * len(key(accessor.target)):
            found[row].add(related)
    return dict(found)


async def _by_sqlalchemy(model: Model, accessor: Accessor, load: Callable[..., Any]) -> dict[Any, set[Any]]:
    cls, found = mapped(model), {}
    async with session() as db:
        for row in (await db.scalars(select(cls).options(load(getattr(cls, accessor.name))))).unique().all():
            there: Any = getattr(row, accessor.name)
            others = [there] if accessor.to_one else there
            if keys := {_key(other, accessor.target) for other in others if other is not None}:
                found[_key(row, model)] = keys
    return found


def _key(row: Any, model: Model) -> Any:
    values = tuple(getattr(row, name) for name in key(model))
    return values[0] if len(values) == 1 else values


def _number(found: dict[Any, set[Any]]) -> str:
    return f"{sum(map(len, found.values()))} of {len(found)} rows"


def _first_of(one: dict[Any, set[Any]], other: dict[Any, set[Any]]) -> str:
    row = next(each for each in {**one, **other} if one.get(each) != other.get(each))
    return f"of {row!r} {one.get(row, set())!r} and {other.get(row, set())!r}"[:200]


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
