"""Relations by content type, of ``django.contrib.contenttypes``: ``GenericRelation`` as a view-only relation.

Read in Django 5.2 and 6.1 (``contrib/contenttypes/fields.py``).
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, cast, select
from sqlalchemy import types as sqltypes
from sqlalchemy.orm import RelationshipProperty, foreign, relationship, remote

from .known import Known, Model, column_of, concrete
from .loading import LAZY

__all__ = ["about", "generic_relation", "is_generic"]


def is_generic(field: Any) -> bool:
    """Whether it is a ``GenericRelation``, told without importing an app that may not be installed."""
    return any(
        cls.__name__ == "GenericRelation" and cls.__module__ == "django.contrib.contenttypes.fields"
        for cls in type(field).__mro__
    )


def generic_relation(field: Any, known: Known, *, forward: bool) -> RelationshipProperty[Any]:
    """The rows whose content type is the model's and whose object is the row; or, from such a row, those it is about.

    ``field`` is the ``GenericRelation``. The way back is there where it has a ``related_query_name``.
    """
    join = about(
        field.model,
        field.related_model,
        (field.object_id_field_name, field.content_type_field_name),
        known,
        concretely=field.for_concrete_model,
        seen_from="model" if forward else "target",
    )
    there = field.related_model if forward else field.model
    return relationship(known.class_of(there), primaryjoin=join, viewonly=True, uselist=True, lazy=LAZY)


def about(
    model: Model,
    target: Model,
    names: tuple[str, str],
    known: Known,
    *,
    concretely: bool,
    seen_from: Literal["model", "target"] | None = None,
) -> ColumnElement[bool]:
    """That a row of ``target``, by its two columns of these names, is about a row of ``model``.

    ``seen_from`` tells a relation between the two which of them it starts from: both may be one table.
    """
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
    pointing: Any = foreign(object_id)
    key: Any = column_of(opts.pk, known)
    affinity, other = object_id.type._type_affinity, key.type._type_affinity
    kind = sqltypes.String() if affinity is sqltypes.String else object_id.type
    if seen_from == "model":
        pointing, content_type = remote(pointing), remote(content_type)
    elif seen_from == "target":
        key = remote(key)
    return and_(pointing == (key if affinity is other else cast(key, kind)), content_type == of_the_model)
