"""The class of a project's wrapper on a seat, made of the project's own and of the family's mixin."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from .base import OnSeat
from .extension import base_of, calls_for_each_connection, overrides, unheard_hooks
from .own import OwnWrapper
from .rest import is_djangos_own

_classes: dict[type[BaseDatabaseWrapper], type[BaseDatabaseWrapper]] = {}


def seated_class(project_class: type[BaseDatabaseWrapper], mixin: type[OnSeat]) -> type[BaseDatabaseWrapper]:
    """The class of a project's wrapper on a seat."""
    if (found := _classes.get(project_class)) is None:
        found = _classes[project_class] = _made_of(project_class, mixin)
    return found


def _made_of(project_class: type[BaseDatabaseWrapper], mixin: type[OnSeat]) -> type[BaseDatabaseWrapper]:
    base = base_of(project_class)
    names = {
        "__module__": project_class.__module__,
        "__qualname__": project_class.__qualname__,
        "project_class": project_class,
        "_is_djangos_own": is_djangos_own(project_class),
    }
    if base is None or base is project_class:
        return type(project_class.__name__, (mixin, project_class), names)
    beneath = type(base.__name__, (mixin, base), {"__module__": base.__module__, "__qualname__": base.__qualname__})
    # What the bridge calls by names of its own stays the bridge's, whatever the project's class has by that name.
    ours = {
        name: value
        for cls in reversed(mixin.__mro__[: mixin.__mro__.index(object)])
        if cls.__module__.startswith(__package__)
        for name, value in vars(cls).items()
        if not (hasattr(base, name) or hasattr(OwnWrapper, name))
    }
    hooks = {
        "has_hooks": calls_for_each_connection(project_class),
        "opens_itself": bool(unheard_hooks(project_class)),
        "begins_by_autocommit": project_class.vendor != "sqlite" and overrides(project_class, "_set_autocommit"),
    }
    return type(project_class.__name__, (OwnWrapper, project_class, beneath), ours | names | hooks)
