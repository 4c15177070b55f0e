"""Which mixin a project's own wrapper class gets, by its vendor."""

from __future__ import annotations

import importlib
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from ..conf import settings_of
from ..seats import Seat
from .classes import seated_class

__all__ = ["has_driver", "project_class", "wrapper_on"]

_MIXINS = {
    "mysql": ("mysql", "OnMySQLSeat"),
    "postgresql": ("postgresql", "OnPostgreSQLSeat"),
    "sqlite": ("sqlite", "OnSQLiteSeat"),
}


def has_driver(alias: str) -> bool:
    """Whether the family of ``alias`` has an async driver."""
    return project_class(alias).vendor in _MIXINS


def wrapper_on(seat: Seat) -> Any:
    """Makes the project's own wrapper for a seat."""
    cls = project_class(seat.alias)
    module, name = _MIXINS[cls.vendor]
    mixin = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    wrapper: Any = seated_class(cls, mixin)(settings_of(seat.alias), seat.alias)
    wrapper.take_seat(seat)
    return wrapper


def project_class(alias: str) -> type[BaseDatabaseWrapper]:
    """The wrapper class of the project's ENGINE."""
    cls: type[BaseDatabaseWrapper] = load_backend(settings_of(alias)["ENGINE"]).DatabaseWrapper
    return cls
