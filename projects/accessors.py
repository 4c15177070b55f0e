"""The columns and relations that Django gives a model's instances, and which of them SQLAlchemy has not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import getattr_static
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation, ReverseGenericManyToOneDescriptor
from django.db import models
from django.db.models.fields.related_descriptors import (
    ForwardManyToOneDescriptor,
    ReverseManyToOneDescriptor,
    ReverseOneToOneDescriptor,
)
from django.db.models.fields.reverse_related import ForeignObjectRel

from django_bridge import mapped, table_for

__all__ = ["Accessor", "Model", "accessors", "columns", "key", "missing"]

Model = type[models.Model]
_DESCRIPTORS = (
    ForwardManyToOneDescriptor,
    ReverseManyToOneDescriptor,
    ReverseOneToOneDescriptor,
    ReverseGenericManyToOneDescriptor,
)


@dataclass(frozen=True)
class Accessor:
    """A relation of a model."""

    name: str
    """Of the attribute."""
    query_name: str
    """In ``filter()`` and ``values()``."""
    target: Model
    to_one: bool


def columns(model: Model) -> list[Any]:
    """The fields with a column, of parents included."""
    return [field for field in model._meta.concrete_fields if field.column is not None]


def key(model: Model) -> list[str]:
    """The attnames of the primary key."""
    return [field.attname for field in model._meta.pk_fields]


def accessors(model: Model) -> Iterator[Accessor]:
    """The relations, as ``get_fields()`` has them."""
    for field in model._meta.get_fields():
        related: Any = field.related_model
        if related is None or isinstance(field, GenericForeignKey) or related._meta.swapped:
            continue
        if not isinstance(field, ForeignObjectRel):
            yield Accessor(field.name, field.name, related, bool(field.many_to_one or field.one_to_one))
        elif not field.hidden and _is_there(model, field):
            yield Accessor(str(field.get_accessor_name()), field.name, related, bool(field.one_to_one))


def _is_there(model: Model, rel: Any) -> bool:
    """Children have a generic relation of their parent's too, and one of them the attribute on the other side."""
    if not isinstance(rel.field, GenericRelation):
        return True
    return getattr(getattr_static(model, rel.get_accessor_name(), None), "rel", None) is rel


def missing(model: Model) -> tuple[int, int, list[str]]:
    """How many columns and relations the model has, and what is not there, or is another, through SQLAlchemy."""
    mapper, table, label = mapped(model).__mapper__, table_for(model), model._meta.label
    gone = []
    for field in columns(model):
        if field.attname not in mapper.column_attrs:
            gone.append(f"{label}.{field.attname}: no attribute")
        if field.model is model._meta.concrete_model and (
            field.attname not in table.c or table.c[field.attname].name != field.column
        ):
            gone.append(f"{label}.{field.attname}: no column")
    found = {each.name: each for each in accessors(model)}
    # Django's own attributes are a second witness: what get_fields() does not tell would not be missed otherwise.
    seen = {name for cls in model.__mro__ for name, value in vars(cls).items() if isinstance(value, _DESCRIPTORS)}
    for name in sorted({*found, *seen}):
        relation = mapper.relationships.get(name)
        if relation is None:
            gone.append(f"{label}.{name}: no relation")
        elif name in found and (relation.mapper.class_, relation.uselist) != (
            mapped(found[name].target),
            not found[name].to_one,
        ):
            gone.append(
                f"{label}.{name}: a relation to {relation.mapper.class_.__name__}, or to another number of them"
            )
    return len(columns(model)), len(found), gone
