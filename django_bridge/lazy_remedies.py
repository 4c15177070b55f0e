"""The words of ``LazyLoadError``: which model and field were read, and the call that loads them beforehand.

Private names used here, in Django 5.2 and 6.1: ``QuerySet._hints`` and ``_known_related_objects`` (which related
managers leave there), ``Query.where``, and ``ContentTypeManager._cache``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db.models import Model, QuerySet
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor, ReverseOneToOneDescriptor
from django.db.models.query_utils import DeferredAttribute

from .errors import LazyLoadError

__all__ = ["of_field", "of_manager", "of_rows"]


def of_field(fetcher: Any, instance: Model) -> LazyLoadError:
    """Returns the error for the field that ``fetcher``, a descriptor, would have loaded into ``instance``."""
    model, own = type(instance), instance._meta.model_name
    if isinstance(fetcher, DeferredAttribute):
        name = fetcher.field.name
        return LazyLoadError(
            f"{model.__name__}.{fetcher.field.attname} is deferred, and loading it here would block the event loop: "
            f'take "{name}" out of .defer() or add it to .only(), or first await '
            f'{own}.arefresh_from_db(fields=["{name}"])'
        )
    if isinstance(fetcher, ForwardManyToOneDescriptor):
        name = fetcher.field.name
        query = f'.select_related("{name}") to the query (from another model: "...__{name}")'
    elif isinstance(fetcher, ReverseOneToOneDescriptor):
        # Two names: select_related takes the query's, prefetch_related and Python take the accessor's.
        name = fetcher.related.get_accessor_name()
        asked = fetcher.related.field.related_query_name()
        query = f'.select_related("{asked}") to the query (from another model: "...__{asked}")'
    else:  # a generic foreign key: before Django 6.1 the field is its own descriptor
        name = getattr(fetcher, "field", fetcher).name
        query = f'.prefetch_related("{name}") to the query (from another model: "...__{name}")'
    return LazyLoadError(
        f"{model.__name__}.{name} is not loaded, and loading it here would block the event loop: "
        f'add {query}, or first await run_django(getattr, {own}, "{name}")'
    )


def of_manager(instance: Model, name: str) -> LazyLoadError:
    """Returns the error for the related manager ``name`` of ``instance``."""
    return _of_accessor(type(instance), name)


def of_rows(rows: QuerySet[Any]) -> LazyLoadError | None:
    """Returns the error for the rows of a related manager; None if ``rows`` are of no such manager."""
    instance = rows._hints.get("instance")  # type: ignore[attr-defined]  # django-stubs leaves it out
    found = _of_generic_relation(rows) if instance is None else _of_relation(rows, instance)
    return None if found is None else _of_accessor(*found)


def _of_accessor(model: type[Model], name: str) -> LazyLoadError:
    return LazyLoadError(
        f"{model.__name__}.{name} is not loaded, and reading it here would block the event loop: "
        f'add .prefetch_related("{name}") to the query (from another model: "...__{name}"; filtered or ordered: '
        f'Prefetch("{name}", queryset=..., to_attr=...)), or use "async for" and the methods that are awaited'
    )


def _of_relation(rows: Any, instance: Model) -> tuple[type[Model], str] | None:
    for field in rows._known_related_objects:
        if isinstance(instance, field.remote_field.model) and (name := field.remote_field.get_accessor_name()):
            return type(instance), name
    filtered = _filtered(rows)
    for name, source in _many_to_many(instance):
        if any(source is target for target in filtered):
            return type(instance), name
    return None


def _many_to_many(instance: Model) -> Iterator[tuple[str, Any]]:
    """The accessors, each with the foreign key in the table between by which its manager filters."""
    field: Any
    for field in instance._meta.many_to_many:
        if hasattr(field, "m2m_field_name"):
            yield field.name, field.remote_field.through._meta.get_field(field.m2m_field_name())
    for relation in instance._meta.related_objects:
        if relation.many_to_many and (name := relation.get_accessor_name()):
            field = relation.field
            yield name, field.remote_field.through._meta.get_field(field.m2m_reverse_field_name())


def _of_generic_relation(rows: Any) -> tuple[type[Model], str] | None:
    """Its manager leaves no hint, but filters by the content type's key and the object's."""
    if not apps.is_installed("django.contrib.contenttypes"):
        return None
    from django.contrib.contenttypes.fields import GenericRelation
    from django.contrib.contenttypes.models import ContentType

    filtered = _filtered(rows)
    for target, key in filtered.items():
        if target.related_model is not ContentType:
            continue
        for model in _models_of_content_type(key):
            for field in model._meta.private_fields:
                if (
                    isinstance(field, GenericRelation)
                    and field.related_model is rows.model
                    and field.content_type_field_name == target.name
                    and any(field.object_id_field_name == other.name for other in filtered)
                ):
                    return model, field.name
    return None


def _models_of_content_type(key: Any) -> set[type[Model]]:
    """The model with this key, as far as it is known here without a query; of several databases, of each."""
    from django.contrib.contenttypes.models import ContentType

    known = (cache.get(key) for cache in ContentType.objects._cache.values())  # type: ignore[attr-defined]
    models = (content_type.model_class() for content_type in known if content_type is not None)
    return {model for model in models if model is not None}


def _filtered(rows: Any) -> dict[Any, Any]:
    """The columns that must have a value, and the value."""
    return {
        child.lhs.target: child.rhs
        for child in rows.query.where.children
        if getattr(child, "lookup_name", None) == "exact" and hasattr(child.lhs, "target")
    }
