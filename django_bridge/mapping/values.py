"""How values of a field go to the wire of a database and come from it: Django's own preparation and converters.

Read in Django 5.2 and 6.1 (``db/models/sql/compiler.py``: ``get_converters``, ``apply_converters``;
``db/backends/*/operations.py``: ``get_db_converters``; ``contrib/postgres/fields/array.py``; what its drivers give:
``db/backends/postgresql/psycopg_any.py``: ``get_adapters_template``).
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import Dialect

from ..errors import FieldValueError
from .backends import backend_of, vendor_of
from .impls import is_array
from .no_values import is_no_value

__all__ = ["binder", "reader", "sent_as_they_are"]

Converter = Callable[[Any], Any]

_MIDNIGHT = datetime.datetime(1900, 1, 1)  # noqa: DTZ001  (only its time of day is used)


def binder(field: Any, dialect: Dialect) -> Converter:
    """What a value of ``field`` becomes as a parameter, as Django's ``save()`` would send it.

    - **errors**: ``FieldValueError``, without the value; for what is no value too, of which Django makes text.
    """
    field = _of_values(field)
    backend = backend_of(dialect)
    prepare = field.get_db_prep_save
    is_json = field.get_internal_type() == "JSONField"
    plain = sent_as_they_are(field)
    of_mysql = backend.vendor == "mysql"  # for MariaDB's own uuid, and for any text, mysqlclient would call str() too
    key = _of_a_composite_key(field)
    makes_text = all(_home(type(field), name).startswith("django.") for name in _PREPARING)
    wraps_integers = backend.vendor == "postgresql"

    def bind(value: Any) -> Any:
        if value is None or type(value) is plain:
            return value
        if is_json and value is sqltypes.JSON.NULL:
            return backend.ops.adapt_json_value(None, field.encoder)
        if makes_text and is_no_value(value):  # a field of the project's own may keep such things
            raise FieldValueError(
                f"{_label(field)} ({type(field).__name__}) cannot take {_named(value)}, which is no value: "
                "write an attribute of the mapped class, mapped(Model).name, or an expression of SQLAlchemy's",
            )
        try:
            sent = prepare(value, backend)
        except (TypeError, ValueError, ArithmeticError, ValidationError):
            # Django's own message, and so the cause, would show the value.
            raise FieldValueError(
                f"{_label(field)} ({type(field).__name__}) cannot take this value, a {type(value).__name__}{key}",
            ) from None
        if wraps_integers and isinstance(sent, int) and not isinstance(sent, bool):
            return int(sent)  # psycopg cuts what its Int4 and Int2 hold to so many bits
        if of_mysql and (type(sent) is UUID or (isinstance(sent, str) and type(sent) is not str)):
            return str(sent)  # a lazy text, too
        return sent

    return bind


def reader(field: Any, dialect: Dialect) -> Converter | None:
    """What a value from the wire becomes, as Django would read it; None: it is that already."""
    column = field.get_col("")
    own = _from_driver(column.output_field.get_internal_type(), dialect)
    steps = [*([] if own is None else [own]), *_converters(column, dialect)]
    if not steps:
        return None
    if len(steps) == 1:
        return steps[0]

    def read(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return read


def _of_values(field: Any) -> Any:
    """The field whose values a column has: a foreign key's are the target's, a generated one's its output's."""
    return field.output_field if isinstance(field, models.GeneratedField) else field


def _label(field: Any) -> str:
    model = getattr(field, "model", None)
    return f"{model._meta.label}.{field.name}" if model is not None else field.name or "a field"


def _named(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of {type(value).__name__}"


def _of_a_composite_key(field: Any) -> str:
    """What to say of a value that may stand at another one's place."""
    opts = getattr(getattr(field, "model", None), "_meta", None)
    if opts is None or not opts.is_composite_pk or field not in opts.pk_fields:
        return ""
    return f"; the key of {opts.label} is ({', '.join(one.attname for one in opts.pk_fields)}), in this order"


# -- what is sent ------------------------------------------------------------------------------------------------

_PLAIN: dict[type[Any], tuple[type[Any], ...]] = {
    bool: (models.BooleanField,),
    float: (models.FloatField,),
    int: (models.IntegerField,),
    str: (models.CharField, models.TextField),
}
"""Fields whose own preparation gives these very values back."""

_PREPARING = ("get_prep_value", "get_db_prep_value", "get_db_prep_save", "to_python")


def sent_as_they_are(field: Any) -> type[Any] | None:
    """The type whose values nothing is done to; on PostgreSQL SQLAlchemy's cast says what psycopg's wrapper would."""
    target = field
    while isinstance(target, models.ForeignKey):
        target = target.target_field
    if not all(_is_djangos(type(target), name) for name in _PREPARING):
        return None
    return next((kind for kind, classes in _PLAIN.items() if isinstance(target, classes)), None)


def _is_djangos(cls: type[Any], name: str) -> bool:
    return _home(cls, name) == "django.db.models.fields"


def _home(cls: type[Any], name: str) -> str:
    """The module of the class that has the method."""
    return next(base for base in cls.__mro__ if name in vars(base)).__module__


# -- what is read ------------------------------------------------------------------------------------------------


def _converters(column: Any, dialect: Dialect) -> list[Converter]:
    if is_array(column.output_field):
        return _of_arrays(column.output_field, dialect)
    backend = backend_of(dialect)
    found = [*backend.ops.get_db_converters(column), *column.get_db_converters(backend)]
    if _is_decoded(column.output_field, dialect):
        found = [one for one in found if getattr(one, "__func__", None) is not models.JSONField.from_db_value]
    return [_shortened(one, column, backend) for one in found]


def _is_decoded(field: Any, dialect: Dialect) -> bool:
    """Whether psycopg gives JSON as what it means: Django lets it give text, asyncdb leaves that to SQLAlchemy."""
    return (
        vendor_of(dialect) == "postgresql"
        and field.get_internal_type() == "JSONField"
        and field.decoder is None
        and not getattr(dialect, "gives_djangos_values", False)
    )


def _of_arrays(field: Any, dialect: Dialect) -> list[Converter]:
    base = field.base_field
    read = reader(base, dialect)
    if read is None:
        return []
    return [lambda value: value if value is None else [read(item) for item in value]]


def _shortened(converter: Any, column: Any, backend: Any) -> Converter:
    """A converter as a function of the value; Django's own for common types said with fewer calls, to the same end."""
    function = getattr(converter, "__func__", None)
    ops = type(backend.ops)
    if function is getattr(ops, "convert_booleanfield_value", None) and _is_of_django(function):
        return _BOOLS.__getitem__
    if backend.vendor == "mysql" and function is ops.convert_datetimefield_value and _is_of_django(function):
        zone = backend.timezone
        return lambda value: value if value is None else value.replace(tzinfo=zone)
    return lambda value: converter(value, column, backend)


class _Bools(dict[Any, Any]):
    """0 and 1 as what they mean, anything else as it is; a dictionary, for its look-up calls no Python function."""

    def __missing__(self, value: Any) -> Any:
        return value


_BOOLS = _Bools({0: False, 1: True})


def _is_of_django(function: Any) -> bool:
    return bool(function.__module__.startswith("django.db.backends."))


def _from_driver(kind: str, dialect: Dialect) -> Converter | None:
    """What makes of this driver's value what Django's own driver gives."""
    vendor = vendor_of(dialect)
    if vendor == "mysql":
        return _FROM_MYSQL.get(kind)  # of its own driver too: what CASE and COALESCE give may be text on both
    if getattr(dialect, "gives_djangos_values", False):
        return None
    if vendor == "postgresql" and kind in {"GenericIPAddressField", "IPAddressField"}:
        return _address
    if vendor == "postgresql" and kind == "DateTimeField" and not settings.USE_TZ:
        return _naive
    return None


def _time(value: Any) -> Any:
    if isinstance(value, str):
        return datetime.time.fromisoformat(value)
    if not isinstance(value, datetime.timedelta):
        return value
    if not 0 <= value.days < 1:
        raise ValueError("a TIME that is no time of day")  # as Django says of it
    return (_MIDNIGHT + value).time()


def _date(value: Any) -> Any:
    return _from_text(datetime.date.fromisoformat, value)


def _moment(value: Any) -> Any:
    return _from_text(datetime.datetime.fromisoformat, value)


def _from_text(parse: Callable[[str], Any], value: Any) -> Any:
    """A date that is none, such as 0000-00-00, is text to asyncmy, and None to Django; so is one out of a CASE."""
    if not isinstance(value, str):
        return value
    try:
        return parse(value)
    except ValueError:
        return None


def _span(value: Any) -> Any:
    """A sum of microseconds, or a part of one, is a DECIMAL."""
    return round(value) if isinstance(value, Decimal) else value


_FROM_MYSQL: dict[str, Converter] = {
    "DateField": _date,
    "DateTimeField": _moment,
    "DurationField": _span,
    "TimeField": _time,
}


def _address(value: Any) -> Any:
    """PostgreSQL's own text of an address, which is that of ``inet_ntop``; with a mask where there is one."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, ipaddress.IPv6Address | ipaddress.IPv6Interface):
        text = socket.inet_ntop(socket.AF_INET6, value.packed)
    else:
        text = socket.inet_ntop(socket.AF_INET, value.packed)
    network = getattr(value, "network", None)
    return text if network is None or network.prefixlen == value.max_prefixlen else f"{text}/{network.prefixlen}"


def _naive(value: Any) -> Any:
    """As Django reads it without ``USE_TZ``: the time in the connection's zone, without the zone."""
    return value if value is None else value.replace(tzinfo=None)
