"""Rows that lead to each other where no foreign key of theirs does: many-to-many, and by content type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, transaction

from .accessors import Model
from .filling import make

__all__ = ["link"]


def link(found: Sequence[Model]) -> None:
    """Lets the first rows of each such relation meet."""
    for model in found:
        for field in model._meta.local_many_to_many:
            through: Any = field.remote_field.through
            if through._meta.auto_created:
                _join(model, field, through)
            else:
                _about(model, through)
        for field in model._meta.private_fields:
            if isinstance(field, GenericRelation):
                _about(model, field.related_model)


def _join(model: Model, field: Any, through: Model) -> None:
    for here, there in _pairs(model, field.related_model):
        names = {field.m2m_field_name(): here, field.m2m_reverse_field_name(): there}
        if not through._base_manager.filter(**names).exists():
            try:
                with transaction.atomic():
                    through._base_manager.create(**names)
            except IntegrityError:  # a constraint of the project's
                continue


def _pairs(model: Model, other: Model) -> Iterator[tuple[Any, Any]]:
    there = list(other._base_manager.order_by("pk")[:3])
    for number, here in enumerate(model._base_manager.order_by("pk")[:2]):
        for one in there[number:]:
            yield here, one


def _about(model: Model, other: Model) -> None:
    """A row of ``other`` that is about a row of ``model``, if it says so by content type."""
    for field in other._meta.private_fields:
        if not isinstance(field, GenericForeignKey):
            continue
        for number, row in enumerate(model._base_manager.order_by("pk")[:2]):
            of_row = ContentType.objects.get_for_model(model, for_concrete_model=field.for_concrete_model)
            make(other, number, **{field.ct_field: of_row, field.fk_field: row.pk})
