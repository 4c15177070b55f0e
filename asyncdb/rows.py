"""Rows into what the caller asked for: pydantic models, dataclasses, dicts, tuples, scalars."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, cast

import sqlalchemy
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import Row
from typing_extensions import is_typeddict  # knows its own TypedDict, the one that pydantic takes before Python 3.12

from .errors import RowShape

T = TypeVar("T")
Rows = Sequence[Row[Any]]

_SHOWN = 3


def convert(rows: Rows, into: type[T]) -> list[T]:
    """Turns rows into a list of ``into``, order kept.

    - **shape**: a pydantic model, a dataclass or a ``TypedDict`` (of ``typing_extensions`` before Python 3.12) takes
      columns by name, or the attributes of the one ORM object of a row; ``dict`` has one key per column; a
      ``NamedTuple`` or ``tuple[...]`` takes columns by position; any other type takes the row's only column.
    - **errors**: ``RowShape`` names the row, the field and the reason, and shows no value.
    """
    if not rows:
        return []
    try:
        converted: list[T] = _converter(cast("Hashable", into))(rows)
    except ValidationError as err:
        raise RowShape(_explain(into, err)) from None
    return converted


@functools.lru_cache(maxsize=1024)
def _converter(into: Any) -> Callable[[Rows], list[Any]]:
    origin = typing.get_origin(into) or into
    if origin is dict:
        return _dicts
    adapter = TypeAdapter(list[into])
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        return lambda rows: adapter.validate_python(_objects(rows), from_attributes=True)
    if dataclasses.is_dataclass(origin) or is_typeddict(origin):
        return lambda rows: adapter.validate_python(_dicts(rows))
    if isinstance(origin, type) and issubclass(origin, tuple):
        return lambda rows: adapter.validate_python([tuple(row) for row in rows])
    return lambda rows: adapter.validate_python(_only_column(rows, into))


def _objects(rows: Rows) -> Sequence[Any]:
    """The rows themselves, or the ORM objects that they consist of."""
    if len(rows[0]) == 1 and sqlalchemy.inspect(rows[0][0], raiseerr=False) is not None:
        return [row[0] for row in rows]
    return rows


def _dicts(rows: Rows) -> list[dict[str, Any]]:
    objects = _objects(rows)
    if objects is not rows:
        names = [attribute.key for attribute in sqlalchemy.inspect(type(objects[0])).column_attrs]
        return [{name: getattr(item, name) for name in names} for item in objects]
    # SQLAlchemy's keys are quoted_name, a str that orjson refuses as a key.
    keys = ["".join(key) for key in rows[0]._fields]
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _only_column(rows: Rows, into: Any) -> list[Any]:
    if len(rows[0]) != 1:
        raise RowShape(
            f"{_name(into)} takes one column and the row has {len(rows[0])} "
            f"({', '.join(rows[0]._fields)}): select one, or give a model",
        )
    return [row[0] for row in rows]


def _explain(into: Any, error: ValidationError) -> str:
    wrong = error.errors(include_url=False, include_context=False, include_input=False)
    parts = []
    for item in wrong[:_SHOWN]:
        number, *field = item["loc"]
        where = f"row {number}" + (f", {'.'.join(map(str, field))}" if field else "")
        parts.append(f"{where}: {item['msg']}")
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"the rows do not fit {_name(into)}: {'; '.join(parts)}{more}"


def _name(into: Any) -> str:
    return getattr(into, "__name__", None) or str(into)
