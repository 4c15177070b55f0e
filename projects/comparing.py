"""Every column and every relation of every model, through SQLAlchemy and through Django's ORM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.db import models
from django.db.models.fields.reverse_related import ForeignObjectRel
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from django_bridge import mapped, session, table_for

Model = type[models.Model]


def relations(model: Model) -> Iterator[tuple[str, str, bool]]:
    """(accessor, name in queries, whether it leads to one) of each relation that Django gives the model's instances."""
    for field in model._meta.get_fields():
        related = field.related_model
        if related is None or isinstance(field, GenericForeignKey) or related._meta.swapped:
            continue
        if isinstance(field, ForeignObjectRel):
            if not field.hidden and not isinstance(field.field, GenericRelation):
                yield field.get_accessor_name(), field.name, bool(field.one_to_one)
        else:
            yield field.name, field.name, bool(field.many_to_one or field.one_to_one)


def missing(model: Model) -> tuple[int, int, list[str]]:
    """How many columns and relations the model has, and which are not there through SQLAlchemy."""
    cls, table = mapped(model), table_for(model)
    gone = []
    columns = [field for field in model._meta.concrete_fields if field.column is not None]
    for field in columns:
        if field.attname not in cls.__mapper__.column_attrs:
            gone.append(f"{model._meta.label}.{field.attname}: no attribute")
        if field.model is model._meta.concrete_model and field.attname not in table.c:
            gone.append(f"{model._meta.label}.{field.attname}: no column")
    names = [accessor for accessor, _, _ in relations(model)]
    gone += [f"{model._meta.label}.{name}: no relation" for name in names if name not in cls.__mapper__.relationships]
    return len(columns), len(names), gone


async def different(model: Model) -> tuple[int, list[str]]:
    """How many values and related rows were compared for a model, and what differs."""
    compared, found = await _columns(model)
    for accessor, query_name, to_one in relations(model):
        for load in (selectinload, joinedload) if to_one else (selectinload,):
            number, differs = await _relation(model, accessor, query_name, load)
            compared += number
            found += differs
    return compared, found


def _key(model: Model) -> list[str]:
    return [field.attname for field in model._meta.pk_fields]


async def _columns(model: Model) -> tuple[int, list[str]]:
    names = [field.attname for field in model._meta.concrete_fields if field.column is not None]
    expected = await sync_to_async(lambda: list(model._base_manager.order_by("pk").values_list(*names)))()
    cls = mapped(model)
    async with session() as db:
        rows = (await db.scalars(select(cls).order_by(*(getattr(cls, name) for name in _key(model))))).all()
    ours = [tuple(getattr(row, name) for name in names) for row in rows]
    differs = [
        f"{model._meta.label}.{name}: Django {_shown(theirs)}, SQLAlchemy {_shown(here)}"
        for one, other in zip(expected, ours, strict=False)
        for name, theirs, here in zip(names, one, other, strict=True)
        if theirs != here or type(theirs) is not type(here)
    ]
    if len(expected) != len(ours):
        differs.append(f"{model._meta.label}: Django has {len(expected)} rows, SQLAlchemy {len(ours)}")
    return len(expected) * len(names), differs


async def _relation(model: Model, accessor: str, query_name: str, load: Callable[..., Any]) -> tuple[int, list[str]]:
    related = model._meta.get_field(query_name).related_model
    pairs = await sync_to_async(lambda: list(model._base_manager.values_list("pk", f"{query_name}__pk")))()
    expected = defaultdict(set)
    for key, other in pairs:
        if other is not None:
            expected[key].add(other)
    cls = mapped(model)
    async with session() as db:
        rows = (await db.scalars(select(cls).options(load(getattr(cls, accessor))))).unique().all()
        ours = {}
        for row in rows:
            there: Any = getattr(row, accessor)
            others = there if isinstance(there, list) else [] if there is None else [there]
            if keys := {_value(other, related) for other in others}:
                ours[_value(row, model)] = keys
    number = sum(map(len, expected.values()))
    if ours == dict(expected):
        return number, []
    here = sum(map(len, ours.values()))
    label = f"{model._meta.label}.{accessor} by {load.__name__}"
    return number, [f"{label}: {number} related rows by Django, {here} by SQLAlchemy, or others"]


def _value(row: Any, model: Model) -> Any:
    values: Sequence[Any] = tuple(getattr(row, name) for name in _key(model))
    return values[0] if len(values) == 1 else values


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
