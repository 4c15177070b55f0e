"""The Python type of a field's values, as a type checker's expression: what a mapped object's attribute holds.

That is what Django's own converters give, and no more: a ``FileField`` is the file's name, choices are bare values.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Field, ForeignKey, GeneratedField

__all__ = ["python_type"]

_MODELS = "django.db.models.fields"
_POSTGRES = "django.contrib.postgres"
_BY_CLASS = {
    **dict.fromkeys(
        (f"{_MODELS}.{name}" for name in ("IntegerField", "AutoField", "BigAutoField", "SmallAutoField")), "int"
    ),
    **dict.fromkeys(
        (f"{_MODELS}.{name}" for name in ("CharField", "TextField", "FilePathField", "IPAddressField")), "str"
    ),
    f"{_MODELS}.GenericIPAddressField": "str",
    f"{_MODELS}.files.FileField": "str",
    f"{_MODELS}.BinaryField": "bytes",
    f"{_MODELS}.BooleanField": "bool",
    f"{_MODELS}.DateField": "datetime.date",
    f"{_MODELS}.DateTimeField": "datetime.datetime",
    f"{_MODELS}.DecimalField": "decimal.Decimal",
    f"{_MODELS}.DurationField": "datetime.timedelta",
    f"{_MODELS}.FloatField": "float",
    f"{_MODELS}.TimeField": "datetime.time",
    f"{_MODELS}.UUIDField": "uuid.UUID",
    f"{_POSTGRES}.fields.hstore.HStoreField": "dict[str, str | None]",
    f"{_POSTGRES}.fields.ranges.BigIntegerRangeField": "Range[int]",
    f"{_POSTGRES}.fields.ranges.DateRangeField": "Range[datetime.date]",
    f"{_POSTGRES}.fields.ranges.DateTimeRangeField": "Range[datetime.datetime]",
    f"{_POSTGRES}.fields.ranges.DecimalRangeField": "Range[decimal.Decimal]",
    f"{_POSTGRES}.fields.ranges.IntegerRangeField": "Range[int]",
    f"{_POSTGRES}.search.SearchVectorField": "str",
}
_ARRAY = f"{_POSTGRES}.fields.array.ArrayField"


def python_type(field: Field[Any, Any]) -> str:
    """Returns the type of ``field``'s values with ``| None`` where it may be NULL; ``Any`` where it cannot be known."""
    bare = _bare(field)
    return f"{bare} | None" if _may_be_null(field) and bare != "Any" else bare


def _may_be_null(field: Any) -> bool:
    output: Any = getattr(field, "output_field", None)  # of a generated one
    return bool(field.null) or (output is not None and bool(output.null))


def _bare(field: Any) -> str:
    while isinstance(field, ForeignKey):
        field = field.target_field
    if isinstance(field, GeneratedField):
        return _bare(field.output_field)
    for cls in type(field).__mro__:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name == _ARRAY:
            return f"list[{python_type(field.base_field)}]"
        if name in _BY_CLASS:
            return _BY_CLASS[name]
        # A field of a project's own, which gives whatever its from_db_value() gives.
        if "from_db_value" in vars(cls):
            return "Any"
    return "Any"
