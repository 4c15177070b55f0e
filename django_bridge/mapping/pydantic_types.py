"""The type and the limits of a Django field's values, as pydantic says them."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Final, Generic, Literal, Optional, TypeVar

from django.core import validators
from django.core.files import File
from django.db import models
from django.db.backends.base.operations import BaseDatabaseOperations
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from ..errors import UnmappableField

__all__ = ["RangeOut", "annotated", "annotation_of"]

T = TypeVar("T")
Limits = dict[str, Any]
Found = tuple[Any, Limits]


class RangeOut(BaseModel, Generic[T]):
    """A range of ``django.contrib.postgres``: its ends, which are None where it is open, and ``[)`` or the like."""

    model_config = ConfigDict(from_attributes=True)

    lower: T | None
    upper: T | None
    bounds: str | None
    empty: bool = Field(default=False, validation_alias=AliasChoices("isempty", "empty"))


def annotation_of(field: Any) -> Found:
    """The type of the field's values without None, and the keyword arguments of ``pydantic.Field`` that limit them.

    - **errors**: ``UnmappableField`` for a field whose class, and whose bases, are none of Django's.
    """
    if getattr(field, "generated", False):
        return annotation_of(field.output_field)
    if field.is_relation:
        return annotation_of(field.target_field)
    if (chosen := _choices(field)) is not None:
        return chosen, {}
    for cls in type(field).__mro__:
        make = _TYPES.get(f"{cls.__module__}.{cls.__qualname__}")
        if make is not None:
            kind, limits = make(field)
            return kind, {**limits, **_tightened(limits, _limits(field, kind))}
    raise UnmappableField(
        f"{field.model.__name__}.{field.name} is a {type(field).__name__}, which stands on no field of Django's whose "
        "values are known: exclude it, and add it in a class that inherits from the pydantic model",
    )


def annotated(kind: Any, *metadata: Any) -> Any:
    """``Annotated`` for a type that is known at run time alone."""
    alias: Any = Annotated
    return alias[(kind, *metadata)]


def _choices(field: Any) -> Any:
    """A ``Literal`` of the choices; None where there are none, or where they are values that it cannot hold."""
    if not field.choices:
        return None
    values = [value for value, _ in field.flatchoices if value is not None]
    if not values or not all(type(value) in {str, int, bool} for value in values):
        return None
    if field.blank and type(values[0]) is str and "" not in values:
        values.append("")
    literal: Any = Literal
    return annotated(literal[tuple(values)], BeforeValidator(_of_enum))


def _of_enum(value: Any) -> Any:
    """A member of ``TextChoices`` or ``IntegerChoices`` as the value that is in the database."""
    return value.value if hasattr(type(value), "__members__") else value


def _limits(field: Any, kind: Any) -> Limits:
    """What the field's own validators say; not those that ``IntegerField`` takes from the default database."""
    found: Limits = {}
    is_ordered = kind in {
        int,
        float,
        decimal.Decimal,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
    }
    for validator in vars(models.Field)["validators"].func(field):
        for cls, name in _BOUNDS.items():
            if not isinstance(validator, cls) or callable(validator.limit_value):
                continue
            if (name in {"ge", "le"}) == is_ordered and (is_ordered or kind is str):
                found = {**found, **_tightened(found, {name: validator.limit_value})}
    return found


_BOUNDS: Final[dict[type[Any], str]] = {
    validators.MinValueValidator: "ge",
    validators.MaxValueValidator: "le",
    validators.MinLengthValidator: "min_length",
    validators.MaxLengthValidator: "max_length",
}


def _tightened(old: Limits, new: Limits) -> Limits:
    return {
        name: value if name not in old else (max if name in {"ge", "min_length"} else min)(old[name], value)
        for name, value in new.items()
    }


# For each class of Django's, which subclasses of it inherit


def _plain(kind: Any, **limits: Any) -> Callable[[Any], Found]:
    return lambda _: (kind, limits)


def _integer(field: Any) -> Found:
    """Within what every backend holds; SQLite would hold more, and MySQL's unsigned numbers reach further."""
    ranges = BaseDatabaseOperations.integer_field_ranges
    name = field.get_internal_type()
    if name not in ranges:
        return int, {}
    low, high = ranges[name]
    return int, {"ge": low, "le": high}


def _string(field: Any) -> Found:
    return str, {} if field.max_length is None else {"max_length": field.max_length}


def _formatted(form: str) -> Callable[[Any], Found]:
    def make(field: Any) -> Found:
        kind, limits = _string(field)
        return kind, {**limits, "json_schema_extra": {"format": form}}

    return make


def _file(field: Any) -> Found:
    _, limits = _string(field)
    return annotated(str, Field(**limits), BeforeValidator(_name_of_file)), {}


def _name_of_file(value: Any) -> Any:
    return (value.name or "") if isinstance(value, File) else value


def _decimal(field: Any) -> Found:
    limits = {"max_digits": field.max_digits, "decimal_places": field.decimal_places}
    return decimal.Decimal, {name: value for name, value in limits.items() if value is not None}


def _binary(field: Any) -> Found:
    limits = {} if field.max_length is None else {"max_length": field.max_length}
    return annotated(bytes, Field(**limits), BeforeValidator(_bytes_of)), {}


def _bytes_of(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview | bytearray) else value


def _array(field: Any) -> Found:
    kind, limits = annotation_of(field.base_field)
    item = annotated(kind, Field(**limits)) if limits else kind
    if field.base_field.null:
        item = Optional[item]  # noqa: UP045  (what is annotated takes no |)
    items: Any = list
    return items[item], {} if field.size is None else {"max_length": field.size}


def _range(kind: Any) -> Callable[[Any], Found]:
    return lambda _: (RangeOut[kind], {})


_FIELDS = "django.db.models.fields"
_POSTGRES = "django.contrib.postgres.fields"

_TYPES: Final[dict[str, Callable[[Any], Found]]] = {
    f"{_FIELDS}.AutoFieldMixin": _integer,
    f"{_FIELDS}.BinaryField": _binary,
    f"{_FIELDS}.BooleanField": _plain(bool),
    f"{_FIELDS}.CharField": _string,
    f"{_FIELDS}.DateField": _plain(datetime.date),
    f"{_FIELDS}.DateTimeField": _plain(datetime.datetime),
    f"{_FIELDS}.DecimalField": _decimal,
    f"{_FIELDS}.DurationField": _plain(datetime.timedelta),
    f"{_FIELDS}.EmailField": _formatted("email"),
    f"{_FIELDS}.FilePathField": _string,
    f"{_FIELDS}.FloatField": _plain(float),
    f"{_FIELDS}.GenericIPAddressField": _plain(str),
    f"{_FIELDS}.IntegerField": _integer,
    f"{_FIELDS}.TextField": _plain(str),
    f"{_FIELDS}.TimeField": _plain(datetime.time),
    f"{_FIELDS}.URLField": _formatted("uri"),
    f"{_FIELDS}.UUIDField": _plain(uuid.UUID),
    f"{_FIELDS}.files.FileField": _file,
    f"{_FIELDS}.json.JSONField": _plain(Any),
    # By name: they need psycopg, which a project may not have.
    f"{_POSTGRES}.array.ArrayField": _array,
    f"{_POSTGRES}.hstore.HStoreField": _plain(dict[str, str | None]),
    f"{_POSTGRES}.ranges.BigIntegerRangeField": _range(int),
    f"{_POSTGRES}.ranges.DateRangeField": _range(datetime.date),
    f"{_POSTGRES}.ranges.DateTimeRangeField": _range(datetime.datetime),
    f"{_POSTGRES}.ranges.DecimalRangeField": _range(decimal.Decimal),
    f"{_POSTGRES}.ranges.IntegerRangeField": _range(int),
    "django.contrib.postgres.search.SearchVectorField": _plain(str),
}
