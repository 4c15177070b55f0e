"""What Django's ``save()`` would put into a column that nobody has given a value: column defaults of SQLAlchemy's.

Read in Django 5.2 and 6.1 (``db/models/fields/__init__.py``: ``get_default``, ``pre_save``; ``fields/files.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import models
from django.db.models.fields.files import FileField

__all__ = ["Standin", "default_of", "has_pre_save", "onupdate_of"]


class Standin:
    """What a field's ``pre_save`` sees as the instance: the values of the row that is written, and else the defaults."""

    def __init__(self, model: type[models.Model], values: Mapping[str, Any]) -> None:
        self._meta = model._meta
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        for field in self._meta.concrete_fields:
            if field.attname == name:
                return field.get_default()
        raise AttributeError(f"{self._meta.label} has no column {name!r} that pre_save() could read")


def default_of(field: Any) -> Callable[[Any], Any] | None:
    """What gives the value of a column on INSERT, called with SQLAlchemy's execution context; None: nothing does."""
    if _is_now(field, added=True):
        return lambda _: _now(field, added=True)
    if has_pre_save(field):
        return lambda context: _pre_saved(field, context)
    if field.primary_key and not field.has_default():
        return None
    if field.has_default():
        return lambda _: field.get_default()  # a function may ask the database
    if field.has_db_default() or field.get_default() is None:
        return None
    return lambda _: field.get_default()  # the empty text of a field that must not be NULL


def onupdate_of(field: Any) -> Callable[[Any], Any] | None:
    """What gives the value of a column on UPDATE where the statement does not."""
    return (lambda _: _now(field, added=False)) if _is_now(field, added=False) else None


def has_pre_save(field: Any) -> bool:
    """Whether the field has a ``pre_save`` of the project's own."""
    home = next(cls for cls in type(field).__mro__ if "pre_save" in vars(cls))
    return not home.__module__.startswith("django.db.models.") and not isinstance(field, FileField)


def _is_now(field: Any, *, added: bool) -> bool:
    return bool(getattr(field, "auto_now", False) or (added and getattr(field, "auto_now_add", False)))


def _now(field: Any, *, added: bool) -> Any:
    return field.pre_save(Standin(field.model, {}), added)


def _pre_saved(field: Any, context: Any) -> Any:
    values = context.get_current_parameters(isolate_multiinsert_groups=True)
    return field.pre_save(Standin(field.model, values), True)  # noqa: FBT003  (Django's signature)
