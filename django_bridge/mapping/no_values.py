"""What is of a query language, Django's or SQLAlchemy's, and no value of a field; and how errors name it.

``CharField`` and its kin make text of whatever they are given, so that ``values(title=models.Book.sub)`` would write
``<django.db.models.query_utils.DeferredAttribute object at …>`` into every row. Read in Django 5.2 and 6.1
(``db/models/fields/__init__.py``: ``CharField.get_prep_value``).
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import expressions
from django.db.models.base import ModelBase
from django.db.models.fields import composite, related_descriptors
from django.db.models.manager import BaseManager
from django.db.models.query_utils import DeferredAttribute
from sqlalchemy import ClauseElement

__all__ = ["ATTRIBUTES", "is_no_value", "mapped_name"]

ATTRIBUTES: tuple[type[Any], ...] = (
    DeferredAttribute,
    composite.CompositeAttribute,
    related_descriptors.ForwardManyToOneDescriptor,
    related_descriptors.ReverseOneToOneDescriptor,
    related_descriptors.ReverseManyToOneDescriptor,
)
"""The kinds of attributes that a model's class has for its fields and relations."""

_NO_VALUES: tuple[type[Any], ...] = (
    *ATTRIBUTES,
    expressions.BaseExpression,
    expressions.F,
    models.Q,
    models.QuerySet,
    BaseManager,
    models.Field,
    ModelBase,
    ClauseElement,
)


def is_no_value(value: Any) -> bool:
    """Whether ``value`` says where values are found, to Django or to SQLAlchemy, and is none itself."""
    return isinstance(value, _NO_VALUES) or hasattr(value, "__clause_element__") or hasattr(value, "__mapper__")


def mapped_name(attribute: Any) -> str:
    """What to write instead of one of the ``ATTRIBUTES``, as ``mapped(Book).title``."""
    model, name = _model_and_name(attribute)
    return f"mapped({model}).{name}"


def _model_and_name(attribute: Any) -> tuple[str, str]:
    field = getattr(attribute, "field", None)
    if isinstance(attribute, related_descriptors.ReverseOneToOneDescriptor):
        return attribute.related.model.__name__, attribute.related.get_accessor_name() or "?"
    if isinstance(attribute, related_descriptors.ManyToManyDescriptor) and not attribute.reverse:
        return attribute.rel.related_model.__name__, attribute.field.name
    if isinstance(attribute, related_descriptors.ReverseManyToOneDescriptor):
        return attribute.rel.model.__name__, attribute.rel.get_accessor_name() or "?"
    model = getattr(field, "model", None)
    name = getattr(field, "attname", None) if isinstance(attribute, DeferredAttribute) else getattr(field, "name", None)
    return getattr(model, "__name__", "a model"), name or "an attribute"
