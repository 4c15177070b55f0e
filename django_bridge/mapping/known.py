"""What the parts of a generation ask of it: which models have a table and a class."""

from __future__ import annotations

from typing import Any, Protocol

from django.db import models
from sqlalchemy import Column, Table

__all__ = ["Known", "Model", "column_of", "concrete"]

Model = type[models.Model]


class Known(Protocol):
    """The models that have a table and a class."""

    def table_of(self, model: Model) -> Table | None:
        """The table that has the model's own columns; a proxy's is its concrete model's."""

    def class_of(self, model: Model) -> type[Any] | None:
        """The mapped class."""


def column_of(field: Any, known: Known) -> Column[Any]:
    """The column of a field whose model is mapped."""
    table = known.table_of(field.model)
    assert table is not None, "a mapped class without a table"
    column: Column[Any] = table.columns[field.attname]
    return column


def concrete(model: Model) -> Model:
    """The model whose table it is: a proxy's original, or the model itself."""
    found = model._meta.concrete_model
    assert found is not None, "an abstract model"
    return found
