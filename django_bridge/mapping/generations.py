"""All models of an app registry as SQLAlchemy's, made at once when the first is asked for.

A generation stands for one set of models. Another set, as ``isolate_apps`` and ``modify_settings(INSTALLED_APPS=...)``
make it, has a generation of its own, and the first comes back with its models.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from threading import RLock
from typing import Any

from django.apps import apps as installed
from django.apps.registry import Apps
from sqlalchemy import Table
from sqlalchemy.orm import registry

from ..errors import NotMapped, UnmappableField
from .comparisons import guard_comparisons
from .known import Model, concrete
from .mapped_classes import MappedModel, map_class, new_class
from .relations import relations_of
from .tables import make_table, tie

__all__ = ["Generation", "generation_of"]

_lock = RLock()
_MOST = 8
_generations: OrderedDict[frozenset[Model], Generation] = OrderedDict()
_latest: tuple[Any, Generation] | None = None
"""The list of models that Django gave last, which is the same list until a model or an app comes or goes."""


class Generation:
    """Tables and classes of a set of models."""

    def __init__(self, models: Iterable[Model]) -> None:
        self.registry = registry()
        self.unmappable: dict[Model, UnmappableField] = {}
        self._tables: dict[Model, Table] = {}
        self._classes: dict[Model, type[MappedModel]] = {}
        found = sorted(_with_their_relatives(models), key=_parents_first)
        for model in found:
            self._make_table(model)
        for table in self._tables.values():
            tie(table, self)
        for model in found:
            if self._has_all_tables(model):
                self._classes[model] = new_class(model, self.class_of)
        for model, cls in self._classes.items():
            # At once: added later, a child's own generic relation would replace the one it has inherited.
            map_class(self.registry, model, cls, self, dict(relations_of(model, self)))
        self.registry.configure()

    def _make_table(self, model: Model) -> None:
        if model._meta.proxy:
            return
        try:
            self._tables[model] = make_table(model, self.registry.metadata)
        except UnmappableField as err:
            self.unmappable[model] = err

    def _has_all_tables(self, model: Model) -> bool:
        return all(one in self._tables for one in _tables_behind(model))

    def table_of(self, model: Model) -> Table | None:
        """The table with the columns of a model; a proxy's is its concrete model's."""
        return self._tables.get(concrete(model))

    def class_of(self, model: Model) -> type[MappedModel] | None:
        """The mapped class of a model."""
        return self._classes.get(model)

    def why_not(self, model: Model) -> UnmappableField | None:
        """Which field keeps a model from being mapped."""
        return next((self.unmappable[one] for one in _tables_behind(model) if one in self.unmappable), None)


def generation_of(model: Model) -> Generation:
    """The generation that ``model`` belongs to, built now if it is not yet there; in any thread.

    - **errors**: ``NotMapped`` before Django's models are loaded.
    """
    global _latest  # noqa: PLW0603  (the one that is asked for nearly always)
    registered: Any = model._meta.apps
    apps: Any = registered if isinstance(registered, Apps) else installed
    if not apps.models_ready:
        raise NotMapped(
            f"{model._meta.label} was asked for while Django still loads its models: call mapped() and table_for() in "
            "views, services or a module that these import, not in models.py or an __init__.py",
        )
    models = apps.get_models(include_auto_created=True)
    latest = _latest
    if latest is not None and latest[0] is models:
        return latest[1]
    with _lock:
        key = frozenset(models)
        found = _generations.get(key)
        if found is None:
            guard_comparisons()
            # Django 5.2 and 6.1 keep what models know of each other when other apps are installed (set_installed_apps).
            apps.clear_cache()
            models = apps.get_models(include_auto_created=True)
            found = _generations[key] = Generation(models)
            if len(_generations) > _MOST:
                _generations.popitem(last=False)
        _generations.move_to_end(key)
        _latest = (models, found)
        return found


def _with_their_relatives(models: Iterable[Model]) -> set[Model]:
    """The models, and those of other registries that they point to or stand upon, as isolated ones do."""
    found, new = set[Model](), list(models)
    while new:
        model = new.pop()
        if model in found or model._meta.abstract or model._meta.swapped:
            continue
        found.add(model)
        new.extend(one for one in _pointed_to(model) if one not in found)
    return found


def _pointed_to(model: Model) -> Iterator[Model]:
    yield concrete(model)
    yield from model._meta.parents
    for field in (*model._meta.local_fields, *model._meta.local_many_to_many):
        for other in (field.related_model, getattr(field.remote_field, "through", None)):
            if isinstance(other, type) and hasattr(other, "_meta"):
                yield other


def _parents_first(model: Model) -> tuple[int, str]:
    return len(list(_tables_behind(model))), model._meta.label


def _tables_behind(model: Model) -> Iterator[Model]:
    own = concrete(model)
    yield own
    for parent, link in own._meta.parents.items():
        if link is not None:
            yield from _tables_behind(parent)
