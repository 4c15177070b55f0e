"""``mapped`` and ``table_for``: Django models for SQLAlchemy."""

from __future__ import annotations

from typing import Any

from django.db import models
from sqlalchemy import Table

from ..errors import NotMapped
from .generations import Generation, generation_of
from .known import Model
from .mapped_classes import MappedModel

__all__ = ["mapped", "table_for"]


def mapped(model: Model) -> type[MappedModel]:
    """Returns the SQLAlchemy mapped class of a Django model, the same at each call.

    All installed models are mapped together at the first call, in any thread. Columns are attributes by attname
    (``author_id``), relations by Django's accessor names (``author``, ``book_set``); see
    :class:`django_bridge.mapping.mapped_classes.MappedModel`.

    - **errors**: ``NotMapped`` for what is no installed, concrete model, and while Django still loads its models;
      ``UnmappableField`` for a model with a field that SQLAlchemy cannot be given. Reading a relation that was not
      loaded is a ``LazyLoadError`` in async code.
    """
    generation = _generation(model)
    found = generation.class_of(model)
    if found is None:
        raise generation.why_not(model) or _not_there(model)
    return found


def table_for(model: Model) -> Table:
    """Returns the SQLAlchemy table of a Django model: for statements, never to create anything.

    Columns are found by attname (``c.author_id``), by the field's name and by the column's own; a child of multi-table
    inheritance has its own columns only, a proxy the table of its model.

    - **errors**: as :func:`mapped`.
    """
    generation = _generation(model)
    found = generation.table_of(model)
    if found is None:
        raise generation.why_not(model) or _not_there(model)
    return found


def _generation(model: Any) -> Generation:
    if not isinstance(model, type) or not issubclass(model, models.Model):
        raise NotMapped(f"mapped() and table_for() take a Django model, not {_named(model)}")
    if model._meta.abstract:
        raise NotMapped(f"{model.__name__} is abstract and has no table: map the models that inherit from it")
    return generation_of(model)


def _named(what: Any) -> str:
    return f"the class {what.__name__}" if isinstance(what, type) else f"an object of {type(what).__name__}"


def _not_there(model: Model) -> NotMapped:
    label = model._meta.label
    if model._meta.swapped:
        return NotMapped(f"{label} is swapped for {model._meta.swapped}: map that one")
    return NotMapped(f"{label} is not among the models of the installed apps: add its app to INSTALLED_APPS")
