"""Relations by content type, of ``django.contrib.contenttypes``: ``GenericRelation`` as a view-only relation.

Read in Django 5.2 and 6.1 (``contrib/contenttypes/fields.py``).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, cast, select
from sqlalchemy import types as sqltypes
from sqlalchemy.orm import RelationshipProperty, foreign, relationship

from .known import Known, Model, column_of, concrete
from .loading import LAZY

__all__ = ["about", "generic_relation", "is_generic"]


def is_generic(field: Any) -> bool:
    """Whether it is a ``GenericRelation``, told without importing an app that may not be installed."""
    return any(
        cls.__name__ == "GenericRelation" and cls.__module__ == "django.contrib.contenttypes.fields"
        for cls in type(field).__mro__
    )


def generic_relation(model: Model, field: Any, known: Known) -> RelationshipProperty[Any]:
    """The rows whose content type is the model's and whose object is the row."""
    target = field.related_model
    return relationship(
        known.class_of(target),
        primaryjoin=about(
            model,
            target,
            (field.object_id_field_name, field.content_type_field_name),
            known,
            concretely=field.for_concrete_model,
        ),
        viewonly=True,
        lazy=LAZY,
    )


def about(
    model: Model, target: Model, names: tuple[str, str], known: Known, *, concretely: bool
) -> ColumnElement[bool]:
    """That a row of ``target``, by its two columns of these names, is about a row of ``model``."""
    from django.contrib.contenttypes.models import ContentType

    object_id, content_type = (column_of(target._meta.get_field(name), known) for name in names)
    types = known.table_of(ContentType)
    assert types is not None, "a generic relation without content types"
    opts = concrete(model)._meta if concretely else model._meta
    of_the_model = (
        select(types.c.id)
        .where(types.c.app_label == opts.app_label, types.c.model == opts.model_name)
        .scalar_subquery()
    )
    key: Any = column_of(opts.pk, known)
    if object_id.type._type_affinity is not key.type._type_affinity:
        key = cast(key, sqltypes.String() if object_id.type._type_affinity is sqltypes.String else object_id.type)
    return and_(foreign(object_id) == key, content_type == of_the_model)
