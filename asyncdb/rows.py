"""Rows into what the caller asked for: pydantic models, dataclasses, dicts, tuples, scalars."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Row

from .errors import RowShape
from .nesting import nested, object_as, state_of, takes_dicts, takes_fields, unloaded_at

T = TypeVar("T")
Rows = Sequence[Row[Any]]
Converter = Callable[[Rows, str], list[Any]]
"""Turns rows, at least one, of the alias into objects, order kept; raises ``RowShape``."""

_SHOWN = 3
_extensions: list[Callable[[Any], Converter | None]] = []


def extend(extension: Callable[[Any], Converter | None]) -> None:
    """Teaches ``into=`` other types: ``extension(into)`` gives a converter, or None for what it does not know.

    It is asked once for each type, before all that is known here.
    """
    if extension not in _extensions:
        _extensions.append(extension)
        _converter.cache_clear()


def convert(rows: Rows, into: type[T], alias: str) -> list[T]:
    """Turns rows of the database ``alias`` into a list of ``into``, order kept.

    - **shape**: a pydantic model, a dataclass or a ``TypedDict`` (of ``typing_extensions`` before Python 3.12) takes
      columns by name, or the attributes of the one ORM object of a row, loaded relations included, or of several ORM
      objects one each for the field of its name; a column ``author__name`` goes to ``name`` in the field ``author``;
      ``dict`` has one key per column; a ``NamedTuple`` or ``tuple[...]`` takes columns by position; any other type
      takes the row's only column.
    - **errors**: ``RowShape`` names the row, the field and the reason, and shows no value.
    """
    if not rows:
        return []
    try:
        converted: list[T] = _converter(cast("Hashable", into))(rows, alias)
    except ValidationError as err:
        raise RowShape(_explain(rows, into, err)) from None
    return converted


@functools.lru_cache(maxsize=1024)
def _converter(into: Any) -> Converter:
    for extension in _extensions:
        if (known := extension(into)) is not None:
            return known
    origin = typing.get_origin(into) or into
    if origin is dict:
        return lambda rows, _: _dicts(rows, into)
    adapter = TypeAdapter(list[into])
    if takes_fields(origin):
        as_dicts = takes_dicts(origin)
        return lambda rows, _: adapter.validate_python(_source(rows, origin, as_dicts=as_dicts), from_attributes=True)
    if isinstance(origin, type) and issubclass(origin, tuple):
        return lambda rows, _: adapter.validate_python([tuple(row) for row in rows], from_attributes=True)
    return lambda rows, _: adapter.validate_python(_only_column(rows, into), from_attributes=True)


def _source(rows: Rows, into: Any, *, as_dicts: bool) -> Sequence[Any]:
    """What a model, a dataclass or a ``TypedDict`` reads its fields of: the rows, their ORM objects, or dicts."""
    if (dicts := nested(rows, into)) is not None:
        return dicts
    if as_dicts:
        return _dicts(rows, into)
    return rows if (objects := _objects(rows)) is None else objects


def _objects(rows: Rows) -> Sequence[Any] | None:
    """The ORM objects that the rows consist of, if they do."""
    if len(rows[0]) == 1 and state_of(rows[0][0]) is not None:
        return [row[0] for row in rows]
    return None


def _dicts(rows: Rows, into: Any) -> list[dict[str, Any]]:
    if (objects := _objects(rows)) is not None:
        return [object_as(item, into) for item in objects]
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


def _explain(rows: Rows, into: Any, error: ValidationError) -> str:
    wrong = error.errors(include_url=False, include_context=False, include_input=False)
    parts = []
    for item in wrong[:_SHOWN]:
        number, *field = item["loc"]
        where = f"row {number}" + (f", {'.'.join(map(str, field))}" if field else "")
        parts.append(f"{where}: {_reason(rows, into, item)}")
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"the rows do not fit {_name(into)}: {'; '.join(parts)}{more}"


def _reason(rows: Rows, into: Any, item: Any) -> str:
    """Pydantic's own words, or ours where an ORM object could not load what was read of it."""
    if item["type"] != "get_attribute_error":
        return str(item["msg"])
    number, *path = item["loc"]
    origin = typing.get_origin(into) or into
    start = _source(rows, origin, as_dicts=takes_dicts(origin))[number] if takes_fields(origin) else rows[number][0]
    # The error's own words may quote a value.
    return unloaded_at(start, path) or "the attribute could not be read"


def _name(into: Any) -> str:
    return getattr(into, "__name__", None) or str(into)
