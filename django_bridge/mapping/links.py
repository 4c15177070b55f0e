"""Many-to-many relations that a library made of a model between, as ``django-taggit`` does: seen, not written.

They are no ``ManyToManyField``, and each has methods of its own; what they have in common is the model between, with a
foreign key to one side and a foreign key, or a generic one, to the other (django-taggit 6.1, ``managers.py``).
"""

from __future__ import annotations

from typing import Any

from django.db.models import ForeignKey
from sqlalchemy import ColumnElement
from sqlalchemy.orm import RelationshipProperty, foreign, relationship

from .generic import about
from .known import Known, Model, column_of, concrete
from .loading import LAZY

__all__ = ["linked"]


def linked(many: Any, known: Known, *, forward: bool) -> RelationshipProperty[Any] | None:
    """The relation of such a field, or of its other side; None where the model between is of another kind."""
    through, target = concrete(many.remote_field.through), many.related_model
    to_target = _foreign_key(through, target, but=None)
    if to_target is None:
        return None
    there = _pointing(to_target, known)
    back = _foreign_key(through, many.model, but=to_target)
    here = _pointing(back, known) if back is not None else _generically(many.model, through, known)
    if here is None:
        return None
    return relationship(
        known.class_of(target if forward else many.model),
        secondary=known.table_of(through),
        primaryjoin=here if forward else there,
        secondaryjoin=there if forward else here,
        viewonly=True,
        lazy=LAZY,
    )


def _foreign_key(through: Model, model: Model, *, but: Any) -> Any:
    found = [
        field
        for field in through._meta.concrete_fields
        if isinstance(field, ForeignKey) and field is not but and concrete(field.related_model) is concrete(model)
    ]
    return found[0] if len(found) == 1 else None


def _pointing(key: Any, known: Known) -> ColumnElement[bool]:
    return foreign(column_of(key, known)) == column_of(key.target_field, known)


def _generically(model: Model, through: Model, known: Known) -> ColumnElement[bool] | None:
    for field in through._meta.private_fields:
        fk_field, ct_field = getattr(field, "fk_field", None), getattr(field, "ct_field", None)
        if fk_field and ct_field:
            return about(
                model, through, (fk_field, ct_field), known, concretely=getattr(field, "for_concrete_model", True)
            )
    return None
