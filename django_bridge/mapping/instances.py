"""Django's own instances of what SQLAlchemy has read: ``into=models.Book``, and ``as_django`` of a mapped object.

Read in Django 5.2 and 6.1 (``db/models/base.py``: ``Model.from_db``, ``ModelState``;
``db/models/fields/related_descriptors.py``: ``_prefetched_objects_cache`` and its names;
``db/models/query.py``: ``prefetch_one_level``).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models, router
from sqlalchemy import Row
from sqlalchemy.orm import InstanceState, object_session

from asyncdb.errors import RowShape
from asyncdb.nesting import state_of
from asyncdb.rows import Converter, extend

__all__ = ["as_django", "full_clean", "install"]

Model = type[models.Model]


def install() -> None:
    """Lets ``into=`` take Django's models."""
    extend(_converter_for)


def as_django(obj: Any, using: str | None = None) -> models.Model:
    """Returns a Django instance of a mapped object: its columns, and the relations that are loaded.

    It is another object: what is changed in one is not changed in the other. What was not loaded is deferred; an object
    that is not in the database yet has ``_state.adding`` and Django's defaults for what was not set.

    - **errors**: ``TypeError`` for what is no object of a ``mapped()`` class.
    """
    state = state_of(obj)
    model = getattr(type(obj), "__django_model__", None)
    if state is None or model is None:
        raise TypeError(f"as_django() takes an object of a mapped() class, not of {type(obj).__name__}")
    return _Making(using or _alias_of(obj)).instance(state, model)


def full_clean(
    obj: Any,
    exclude: Collection[str] | None = None,
    *,
    validate_unique: bool = True,
    validate_constraints: bool = True,
    using: str | None = None,
) -> None:
    """Validates a mapped object as Django validates an instance of its model; see ``MappedModel.full_clean``."""
    instance = as_django(obj, using)
    before = {name: instance.__dict__[name] for name in _attnames(type(instance)) if name in instance.__dict__}
    instance.full_clean(
        exclude=exclude,
        validate_unique=validate_unique,
        validate_constraints=validate_constraints,
    )
    for name, cleaned in instance.__dict__.items():
        if name in before and cleaned is not before[name] and cleaned != before[name]:
            setattr(obj, name, cleaned)


def _alias_of(obj: Any) -> str | None:
    session = object_session(obj)
    if session is not None and (session.bind is not None):
        alias: str | None = getattr(session.get_bind().dialect, "alias", None)
        if alias is not None:
            return alias
    return None


# Rows


def _converter_for(into: Any) -> Converter | None:
    if not isinstance(into, type) or not issubclass(into, models.Model):
        return None
    if into._meta.abstract:
        raise RowShape(f"{into.__name__} is abstract and has no instances: give a model that inherits from it")

    def convert(rows: Sequence[Row[Any]], alias: str) -> list[Any]:
        state = state_of(rows[0][0])
        if state is not None and hasattr(state.class_, "__django_model__"):
            return _from_objects(into, rows, alias)
        return _from_columns(into, rows, alias)

    return convert


def _from_objects(into: Model, rows: Sequence[Row[Any]], alias: str) -> list[Any]:
    """From rows whose first column is a mapped object; what else they have is an attribute, as an annotation is."""
    making, found = _Making(alias), []
    extra = [(_extra(into, "".join(key)), index) for index, key in enumerate(rows[0]._fields) if index]
    for number, row in enumerate(rows):
        state = state_of(row[0])
        if state is None:
            raise RowShape(
                f"row {number}: there is no {into.__name__} in it, as after an outer join: leave such rows out"
            )
        model = state.class_.__django_model__
        if not issubclass(model, into._meta.concrete_model or into):
            raise RowShape(f"the rows have objects of {model.__name__}, and not of {into.__name__}")
        instance = making.instance(state, into)
        for name, index in extra:
            setattr(instance, name, row[index])
        found.append(instance)
    return found


def _from_columns(into: Model, rows: Sequence[Row[Any]], alias: str) -> list[Any]:
    keys = ["".join(key) for key in rows[0]._fields]
    fields = _attnames(into)
    by_column = {field.column: attname for attname, field in fields.items()}
    places: dict[str, int] = {}
    extra: list[tuple[str, int]] = []
    for index, key in enumerate(keys):
        attname = key if key in fields else by_column.get(key)
        if attname is None:
            extra.append((_extra(into, key), index))
        elif attname in places:
            raise RowShape(f"{into.__name__} takes one value for {attname!r}, and the rows have two: label one of them")
        else:
            places[attname] = index
    _require_key(into, places)
    names = [attname for attname in fields if attname in places]
    indexes = [places[name] for name in names]
    found = []
    for row in rows:
        instance = into.from_db(alias, names, [row[index] for index in indexes])
        for name, index in extra:
            setattr(instance, name, row[index])
        found.append(instance)
    return found


def _require_key(into: Model, given: Collection[str]) -> None:
    missing = [field.attname for field in into._meta.pk_fields if field.attname not in given]
    if missing:
        raise RowShape(
            f"{into.__name__} needs its primary key, and the rows have no {' and no '.join(map(repr, missing))}: "
            "select it as well",
        )


def _extra(into: Model, name: str) -> str:
    """A column that is no field becomes an attribute, as in ``Manager.raw()``."""
    if hasattr(into, name):
        raise RowShape(f"{into.__name__} has an attribute {name!r} that is no column: label the column otherwise")
    return name


@functools.lru_cache(maxsize=1024)
def _attnames(model: Model) -> Mapping[str, Any]:
    return {field.attname: field for field in model._meta.concrete_fields}


# Mapped objects


class _Making:
    """The instances made for one call: each mapped object becomes one, also where two others have it."""

    def __init__(self, alias: str | None) -> None:
        self.alias = alias
        self._made: dict[tuple[int, Model], models.Model] = {}

    def instance(self, state: InstanceState[Any], model: Model) -> models.Model:
        key = (id(state), model)
        if (known := self._made.get(key)) is None:
            known = self._made[key] = self._stored(state, model) if state.key is not None else self._new(state, model)
            self._relate(state, known)
        return known

    def _stored(self, state: InstanceState[Any], model: Model) -> models.Model:
        loaded = {**dict(_identity(state)), **state.dict}
        names = [name for name in _attnames(model) if name in loaded]
        alias = self.alias or router.db_for_read(model)
        return model.from_db(alias, names, [loaded[name] for name in names])

    def _new(self, state: InstanceState[Any], model: Model) -> models.Model:
        made = model(**{name: state.dict[name] for name in _attnames(model) if name in state.dict})
        made._state.db = self.alias
        return made

    def _relate(self, state: InstanceState[Any], instance: models.Model) -> None:
        for relation in state.mapper.relationships:
            if relation.key not in state.dict:
                continue
            field = _relation(type(instance), relation.key)
            if field is None:
                continue
            value = state.dict[relation.key]
            if relation.uselist:
                self._fill_many(instance, relation.key, field, value)
            else:
                self._fill_one(state, instance, relation.key, field, value)

    def _fill_one(self, state: InstanceState[Any], instance: models.Model, name: str, field: Any, value: Any) -> None:
        related = None if value is None else self._related(value, field)
        if field.auto_created and not field.concrete:
            field.set_cached_value(instance, related)
            if related is not None:
                field.remote_field.set_cached_value(related, instance)
            return
        if state.attrs[name].history.has_changes():  # not flushed: the column does not know it yet
            setattr(instance, field.name, related)
        elif _points_to(field, instance, related):
            field.set_cached_value(instance, related)
            if related is not None and not field.remote_field.multiple and not field.remote_field.hidden:
                field.remote_field.set_cached_value(related, instance)

    def _fill_many(self, instance: models.Model, name: str, field: Any, values: Any) -> None:
        related = [self._related(value, field) for value in values]
        if instance._state.adding:  # Django's managers need what others point to
            return
        manager = getattr(instance, name)
        cache_name = getattr(manager, "prefetch_cache_name", None)
        if cache_name is None:
            cache_name = manager.field.remote_field.cache_name
            for one in related:
                manager.field.set_cached_value(one, instance)
        queryset = manager.get_queryset()
        queryset._result_cache, queryset._prefetch_done = related, True
        # As Django's own prefetch_related() does, whose managers look here.
        instance.__dict__.setdefault("_prefetched_objects_cache", {})[cache_name] = queryset

    def _related(self, value: Any, field: Any) -> models.Model:
        state = state_of(value)
        assert state is not None, "a relation has mapped objects"
        model = state.class_.__django_model__
        wanted = field.related_model
        # A proxy where the field names one.
        return self.instance(state, wanted if wanted._meta.concrete_model is model._meta.concrete_model else model)


def _identity(state: InstanceState[Any]) -> Sequence[tuple[str, Any]]:
    """The primary key, which is known also where nothing else is."""
    if state.identity is None:
        return ()
    names = [state.mapper.get_property_by_column(column).key for column in state.mapper.primary_key]
    return list(zip(names, state.identity, strict=True))


def _points_to(field: Any, instance: models.Model, related: models.Model | None) -> bool:
    """Whether the columns still say so: one may have been set after the relation was loaded."""
    values = [instance.__dict__.get(ours.attname) for ours, _ in field.related_fields]
    if related is None:
        return None in values
    return values == [related.__dict__.get(theirs.attname) for _, theirs in field.related_fields]


@functools.lru_cache(maxsize=4096)
def _relation(model: Model, name: str) -> Any:
    """Django's field or relation behind the accessor ``name``; None for what is not the model's own or its parents'."""
    try:
        field: Any = model._meta.get_field(name)
        if field.is_relation and not field.auto_created:
            return field
    except FieldDoesNotExist:
        pass
    for field in model._meta.related_objects:
        if field.get_accessor_name() == name:
            return field
    return None


install()
