"""Rows for every model that can be given some, by model-bakery; what could not be filled is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError, models, transaction
from model_bakery import baker, generators

ROWS = 3


def know_fields_of(found: Sequence[type[models.Model]]) -> None:
    """Lets model-bakery fill a project's own kinds of field as it fills the kind that each stands on."""
    known = generators.get_type_mapping()
    for cls in {type(field) for model in found for field in model._meta.concrete_fields}:
        base = next((one for one in cls.__mro__ if one in known), None)
        if cls not in known and base is not None:
            baker.generators.add(cls, known[base])


def fill(found: Sequence[type[models.Model]]) -> dict[str, str]:
    """Puts some rows into each model's table; returns why not, for those that have none.

    What needs rows of others waits for them; it ends when a round fills nothing more.
    """
    know_fields_of(found)
    reasons: dict[str, str] = {}
    waiting = [model for model in found if not model._base_manager.exists()]
    while waiting:
        for model in waiting:
            reasons[model._meta.label] = _make(model)
        left = [model for model in waiting if not model._base_manager.exists()]
        if len(left) == len(waiting):
            break
        waiting = left
    return {model._meta.label: reasons[model._meta.label] for model in waiting}


def _make(model: type[models.Model]) -> str:
    reason = ""
    for number in range(ROWS):
        for raw in (False, True):  # by Django's own insert, and without what receivers of the project's want to know
            try:
                with transaction.atomic():
                    made: Any = baker.prepare(model, _fill_optional=bool(number % 2), **_pointing(model, number))
                    models.Model.save_base(made, raw=raw, force_insert=True)
            except Exception as err:  # whatever a project's own code says
                reason = f"{type(err).__name__}: {err}".splitlines()[0][:200]
            else:
                break
    return reason


def _pointing(model: type[models.Model], number: int) -> dict[str, Any]:
    """A row for each foreign key, another one for each row that is made; optional ones every other time."""
    found = {}
    for field in model._meta.concrete_fields:
        if not isinstance(field, models.ForeignKey) or field.remote_field.parent_link:
            continue
        rows = list(field.related_model._base_manager.all()[: number + 1])
        if rows and (number % 2 or not field.null):
            found[field.name] = rows[-1]
        elif field.null:
            found[field.name] = None
        else:
            raise LookupError(f"{field.name} needs a row of {field.related_model._meta.label}")
    return found


def link(found: Sequence[type[models.Model]]) -> int:
    """Lets the rows of each many-to-many relation with a table of its own meet; returns how many links were made."""
    made = 0
    for model in found:
        for field in model._meta.local_many_to_many:
            through = getattr(field.remote_field, "through", None)
            if through is None or not through._meta.auto_created:
                continue
            here, there = model._base_manager.first(), list(field.related_model._base_manager.all()[:2])
            if here is None or not there:
                continue
            source, target = field.m2m_field_name(), field.m2m_reverse_field_name()
            for other in there:
                try:
                    with transaction.atomic():
                        through._base_manager.create(**{source: here, target: other})
                        made += 1
                except DatabaseError:
                    pass  # it is there already, or forbidden by a constraint
    return made
