"""A model's relations as SQLAlchemy's, under the names of Django's own accessors.

Read in Django 5.2 and 6.1 (``db/models/options.py``: ``get_fields``; ``db/models/fields/related.py``:
``related_fields``, ``m2m_field_name``; ``db/models/fields/reverse_related.py``: ``get_accessor_name``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.fields.related import ForeignObject
from django.db.models.fields.reverse_related import ForeignObjectRel
from sqlalchemy import and_
from sqlalchemy.orm import RelationshipProperty, relationship

from .generic import generic_relation, is_generic
from .known import Known, Model, column_of, concrete
from .links import linked
from .loading import LAZY

__all__ = ["relations_of"]


def relations_of(model: Model, known: Known) -> Iterator[tuple[str, RelationshipProperty[Any]]]:
    """The relations of a model by name, without those that its class inherits and those to what is not mapped."""
    for field in concrete(model)._meta.get_fields(include_parents=False):  # the private ones are among them
        made = _relation(model, field, known)
        if made is not None:
            yield made


def _relation(model: Model, field: Any, known: Known) -> tuple[str, RelationshipProperty[Any]] | None:
    related = field.related_model
    if related is None or isinstance(related, str) or known.class_of(related) is None:
        return None  # no relation, or to what is not mapped, or GenericForeignKey
    forward = not isinstance(field, ForeignObjectRel)
    name = field.name if forward else _accessor(field)
    if name is None:
        return None
    if is_generic(field):
        return name, generic_relation(model, field, known)
    if field.many_to_many:
        relation = _many_to_many(model, field if forward else field.field, known, forward=forward)
        return None if relation is None else (name, relation)
    if not isinstance(field if forward else field.field, ForeignObject):
        return None
    return name, (_to_one if forward else _from_many)(model, field, known)


def _related(model: Model, known: Known, **options: Any) -> RelationshipProperty[Any]:
    return relationship(known.class_of(model), lazy=LAZY, **options)


def _pairs(field: Any, known: Known) -> tuple[list[Any], list[Any]]:
    """The columns that point, and those that are pointed to."""
    pairs = field.related_fields
    return [column_of(ours, known) for ours, _ in pairs], [column_of(theirs, known) for _, theirs in pairs]


def _accessor(rel: Any) -> str | None:
    """The name of a relation on the other side; None where there is none: ``related_name="+"``, a generic relation."""
    return None if rel.hidden or is_generic(rel.field) else rel.get_accessor_name()


def _is_written(field: Any) -> bool:
    """Whether the relation may set the column: not that of a parent, of an automatic table, of several columns."""
    return (
        isinstance(field, models.ForeignKey)
        and not field.remote_field.parent_link
        and not field.model._meta.auto_created
    )


def _to_one(model: Model, field: Any, known: Known) -> RelationshipProperty[Any]:
    pointing, pointed = _pairs(field, known)
    written = _is_written(field) and model is field.model
    back = _accessor(field.remote_field)
    return _related(
        field.related_model,
        known,
        primaryjoin=and_(*(one == other for one, other in zip(pointing, pointed, strict=True))),
        foreign_keys=pointing,
        remote_side=pointed,
        uselist=False,
        **({"back_populates": back} if written and back is not None else {"viewonly": not written}),
    )


def _from_many(model: Model, rel: Any, known: Known) -> RelationshipProperty[Any]:
    field = rel.field
    pointing, pointed = _pairs(field, known)
    written = _is_written(field) and model is field.related_model
    to_one = bool(rel.one_to_one)
    return _related(
        field.model,
        known,
        primaryjoin=and_(*(one == other for one, other in zip(pointing, pointed, strict=True))),
        foreign_keys=pointing,
        remote_side=pointing,
        uselist=not to_one,
        order_by=False if to_one else _ordering(field.model, known),
        **({"back_populates": field.name, **_on_delete(field)} if written else {"viewonly": True}),
    )


def _on_delete(field: Any) -> dict[str, Any]:
    """What becomes of those that point, when ``session.delete()`` deletes what they point to."""
    rule = field.remote_field.on_delete
    if rule is models.CASCADE:
        return {"cascade": "save-update, merge, delete"}
    if rule is models.SET_NULL:
        return {}  # SQLAlchemy's own
    return {"passive_deletes": "all"}  # the database's foreign key decides


def _many_to_many(model: Model, many: Any, known: Known, *, forward: bool) -> RelationshipProperty[Any] | None:
    """In either direction: of the ``ManyToManyField`` itself, or of what it leaves on the other model."""
    through = concrete(many.remote_field.through)
    if known.table_of(through) is None:
        return None
    if not isinstance(many, models.ManyToManyField):
        return linked(many, known, forward=forward)
    here, there = (through._meta.get_field(one) for one in (many.m2m_field_name(), many.m2m_reverse_field_name()))
    if not forward:
        here, there = there, here
    from_here, ours = _pairs(here, known)
    from_there, theirs = _pairs(there, known)
    back = _accessor(many.remote_field) if forward else many.name
    written = (
        bool(through._meta.auto_created)
        and not many.remote_field.symmetrical
        and model is (many.model if forward else many.related_model)
    )
    target = many.related_model if forward else many.model
    return _related(
        target,
        known,
        secondary=known.table_of(through),
        primaryjoin=and_(*(one == other for one, other in zip(from_here, ours, strict=True))),
        secondaryjoin=and_(*(one == other for one, other in zip(from_there, theirs, strict=True))),
        order_by=_ordering(target, known),
        **({"back_populates": back} if written and back is not None else {"viewonly": not written}),
    )


def _ordering(model: Model, known: Known) -> Any:
    """``Meta.ordering``, as Django's related managers have it, where it is of the model's own columns; else False."""
    found = []
    for name in model._meta.ordering or ():
        if not isinstance(name, str) or name.startswith("?") or "__" in name:
            return False
        try:
            field = model._meta.pk if name.lstrip("-+") == "pk" else model._meta.get_field(name.lstrip("-+"))
        except FieldDoesNotExist:
            return False
        if getattr(field, "column", None) is None or (field.is_relation and field.name == name.lstrip("-+")):
            return False  # a relation's own order is that of the model it points to
        column = column_of(field, known)
        found.append(column.desc() if name.startswith("-") else column.asc())
    return found or False
