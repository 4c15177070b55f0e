"""Rows for every model that can be given some, by model-bakery; what could not be filled is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connection, models, transaction
from model_bakery import baker

from .accessors import Model

__all__ = ["check_constraints", "fill", "make"]


def fill(found: Sequence[Model], rows: int) -> dict[str, str]:
    """Puts rows into each model's table; returns why not, for those that have none.

    What needs rows of others waits for them; it ends when a round adds nothing.
    """
    reasons: dict[str, str] = {}
    before = -1
    while (now := sum(min(model._base_manager.count(), rows) for model in found)) != before:
        before = now
        for model in found:
            for number in range(model._base_manager.count(), rows):
                reasons[model._meta.label] = make(model, number)
    return {model._meta.label: reasons[model._meta.label] for model in found if not model._base_manager.exists()}


def make(model: Model, number: int, **given: Any) -> str:
    """Makes the ``number``-th row; every second one has its optional columns filled. Returns why there is none."""
    reason = ""
    # The project's own receivers first, then without them: they may want more than one row. save() is its authors'
    # business; the row that Django writes is what is to be read.
    for raw in (False, True):
        try:
            with transaction.atomic():
                made = baker.prepare(
                    model, _fill_optional=bool(number % 2), **{**_pointing(model, number), **_about(model), **given}
                )
                models.Model.save_base(made, raw=raw, force_insert=not model._meta.parents)
                check_constraints(model)
        except Exception as err:  # whatever a project's own code says
            reason = f"{type(err).__name__}: {err}".splitlines()[0][:200]
        else:
            return ""
    return reason


def check_constraints(model: Model) -> None:
    """Foreign keys that are checked at the end of the transaction are checked now."""
    connection.check_constraints(table_names=[one._meta.db_table for one in (model, *model._meta.get_parent_list())])


def _pointing(model: Model, number: int) -> dict[str, Any]:
    """A row for each foreign key, another one for each row that is made; optional ones every other time."""
    found: dict[str, Any] = {}
    for field in model._meta.concrete_fields:
        if not isinstance(field, models.ForeignKey) or field.remote_field.parent_link:
            continue
        rows = list(field.related_model._base_manager.order_by("pk")[: number + 1])
        if rows and (number % 2 or not field.null):
            found[field.name] = rows[-1]
        elif field.null:
            found[field.name] = None
        else:
            raise IntegrityError(f"{field.name} needs a row of {field.related_model._meta.label}")
    return found


def _about(model: Model) -> dict[str, Any]:
    """What a row is about by content type: a key that there is, for PostgreSQL reads the text of it as a number."""
    types = ContentType.objects.get_for_model(ContentType)
    return {
        name: value
        for field in model._meta.private_fields
        if isinstance(field, GenericForeignKey)
        for name, value in ((field.ct_field, types), (field.fk_field, types.pk))
    }
