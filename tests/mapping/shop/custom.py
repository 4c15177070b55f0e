"""Fields as third parties write them: each changes what is stored, what is read, or both."""

from __future__ import annotations

import base64
import enum
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import models


class CodeField(models.Field):
    """``char(n)`` in the database: the field's own ``db_type``."""

    def __init__(self, *args: Any, length: int = 8, **kwargs: Any) -> None:
        self.length = length
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "length": self.length}

    def db_type(self, connection: Any) -> str:
        return f"char({self.length})"

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else str(value)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else value.rstrip(" ")


class CITextField(models.TextField):
    """``citext`` where there is one: a ``db_type`` that differs by vendor, and text otherwise."""

    def db_type(self, connection: Any) -> str | None:
        return "citext" if connection.vendor == "postgresql" else super().db_type(connection)


class EncryptedField(models.TextField):
    """Text that the database must not be able to read: another value is stored than is seen."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return None if value is None else "v1:" + base64.b85encode(value[::-1].encode()).decode()

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else base64.b85decode(value.removeprefix("v1:")).decode()[::-1]


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class EnumField(models.CharField):
    """A Python enum, stored by its name."""

    def __init__(self, *args: Any, enum_class: type[enum.Enum] = Colour, **kwargs: Any) -> None:
        self.enum_class = enum_class
        kwargs.setdefault("max_length", 20)
        super().__init__(*args, **kwargs)

    def to_python(self, value: Any) -> Any:
        return value if value is None or isinstance(value, enum.Enum) else self.enum_class[value]

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else self.to_python(value).name

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else self.enum_class[value]


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str


class MoneyField(models.CharField):
    """A value object in one text column; ``get_db_prep_save`` differs from ``get_db_prep_value``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_length"] = 40
        super().__init__(*args, **kwargs)

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, Money):
            return value
        amount, currency = value.split(" ")
        return Money(Decimal(amount), currency)

    def get_prep_value(self, value: Any) -> Any:
        return f"{value.amount} {value.currency}" if isinstance(value, Money) else value

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return self.to_python(value)


class HexIntegerField(models.Field):
    """A ``get_internal_type`` of a built-in field, and a value of another kind over it."""

    def get_internal_type(self) -> str:
        return "BigIntegerField"

    def get_prep_value(self, value: Any) -> Any:
        return int(value, 16) if isinstance(value, str) else value

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else f"{value:x}"


class UpperField(models.CharField):
    """Changed by ``pre_save``, as a slug that is made on saving."""

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        value = getattr(model_instance, self.attname)
        value = value.upper() if value is not None else None
        setattr(model_instance, self.attname, value)
        return value


class CopyField(models.CharField):
    """Filled by ``pre_save`` from another field of the same row."""

    def __init__(self, *args: Any, source: str = "", **kwargs: Any) -> None:
        self.source = source
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "source": self.source}

    def pre_save(self, model_instance: Any, add: bool) -> Any:
        value = getattr(model_instance, self.attname) or f"of {getattr(model_instance, self.source)}"
        setattr(model_instance, self.attname, value)
        return value


class SetEncoder(json.JSONEncoder):
    def default(self, o: Any) -> Any:
        return {"__set__": sorted(o)} if isinstance(o, set | frozenset) else super().default(o)


class SetDecoder(json.JSONDecoder):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("object_hook", self._hook)
        super().__init__(*args, **kwargs)

    @staticmethod
    def _hook(found: dict[str, Any]) -> Any:
        return set(found["__set__"]) if set(found) == {"__set__"} else found
