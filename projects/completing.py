"""A value for each column that has none in any row: what a row needed when it was made came after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models, transaction
from model_bakery import baker

from .accessors import Model
from .filling import check_constraints

__all__ = ["complete"]


def complete(found: Sequence[Model]) -> None:
    """Gives one row of each model what it can take; a project's constraints may forbid it."""
    for model in found:
        for field in model._meta.local_concrete_fields:
            if field.null and field.column is not None and not field.generated and not field.primary_key:
                _complete(model, field)


def _complete(model: Model, field: Any) -> None:
    rows = model._base_manager.order_by("pk")
    if rows.exclude(**{f"{field.attname}__isnull": True}).exists():
        return
    values = (
        field.related_model._base_manager.order_by("-pk").values_list(field.target_field.attname, flat=True)[:3]
        if isinstance(field, models.ForeignKey)
        else [getattr(baker.prepare(model, _fill_optional=[field.name]), field.attname)]
    )
    for row in rows.values_list("pk", flat=True):
        for value in values:
            try:
                with transaction.atomic():
                    rows.filter(pk=row).update(**{field.attname: value})
                    check_constraints(model)
            except Exception:  # noqa: S112  (whatever the project's constraints say; what stays empty is reported)
                continue
            return
