"""``pydantic_model``: a pydantic model of what a Django model's instances, mapped objects and rows hold."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any, Optional

from django.db import models
from django.db.models.fields import NOT_PROVIDED
from django.db.models.manager import BaseManager
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from asyncdb.nesting import state_of

from ..errors import NotMapped, UnmappableField
from .pydantic_types import annotated, annotation_of

__all__ = ["pydantic_model"]

Model = type[models.Model]

_CONFIG = ConfigDict(
    from_attributes=True,
    ser_json_bytes="base64",  # as Django's own serializers write a BinaryField
    val_json_bytes="base64",
    arbitrary_types_allowed=True,
)


def pydantic_model(
    model: Model,
    *,
    fields: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
    depth: int = 0,
    name: str | None = None,
) -> type[BaseModel]:
    """Returns a pydantic model with the fields of a Django model, the same class for the same arguments.

    - **shape**: types, limits, choices, nullability, defaults, ``verbose_name`` (title) and ``help_text`` (description)
      are the fields'; a foreign key is its column (``author_id``) at depth 0 and the model of what it points to
      (``author``) above, many-to-many fields are lists of primary keys or of models; relations from other models are
      left out. ``fields`` and ``exclude`` name fields, or columns of foreign keys; what is nested has all its fields.
      It reads dicts, mapped objects, Django instances and rows (``from_attributes``), and is called as the model unless
      ``name`` says otherwise.
    - **errors**: ``ValueError`` for a name that the model has not, which lists those that it has; ``UnmappableField``
      for a field without a known type; ``NotMapped`` for what is no model with loaded relations.
    """
    if not isinstance(model, type) or not issubclass(model, models.Model):
        raise NotMapped(f"pydantic_model() takes a Django model, not {model!r}")
    if isinstance(fields, str) or isinstance(exclude, str):
        raise TypeError("fields and exclude are lists of names")
    if depth < 0:
        raise ValueError(f"depth counts the models inside the model, and {depth} was given")
    return _make(
        model,
        None if fields is None else tuple(dict.fromkeys(fields)),
        frozenset(exclude or ()),
        depth,
        name or model.__name__,
    )


@functools.lru_cache(maxsize=512)
def _make(
    model: Model, fields: tuple[str, ...] | None, exclude: frozenset[str], depth: int, name: str
) -> type[BaseModel]:
    parts: dict[str, Callable[[], tuple[Any, FieldInfo]]] = {}
    names: dict[str, str] = {}
    for field in _fields(model):
        key, define = _part(field, depth)
        parts[key] = define
        names |= dict.fromkeys({key, field.name, getattr(field, "attname", key)}, key)
    chosen = list(parts) if fields is None else [_known(model, names, one, "fields") for one in fields]
    left_out = {_known(model, names, one, "exclude") for one in exclude}
    with warnings.catch_warnings():
        # A column named json or copy hides a deprecated method of BaseModel, which nobody needs here.
        warnings.filterwarnings("ignore", message="Field name .* shadows an attribute", category=UserWarning)
        try:
            made: type[BaseModel] = create_model(  # type: ignore[call-overload]  # the fields are not known before
                name,
                __config__=_CONFIG,
                __module__=model.__module__,
                **{key: parts[key]() for key in chosen if key not in left_out},
            )
        except (NameError, ValueError) as error:
            raise UnmappableField(f"{model.__name__} has a field that pydantic cannot have: {error}") from error
    return made


def _fields(model: Model) -> Iterator[Any]:
    yield from model._meta.concrete_fields
    yield from model._meta.many_to_many


def _part_name(field: Any, depth: int) -> str:
    nests = field.many_to_many or (depth > 0 and field.is_relation and not _is_parent_link(field))
    name: str = field.name if nests else field.attname
    return name


def _known(model: Model, names: dict[str, str], name: str, argument: str) -> str:
    if name in names:
        return names[name]
    raise ValueError(f"{argument}: {model.__name__} has no field {name!r}; it has {', '.join(sorted(set(names)))}")


def _is_parent_link(field: Any) -> bool:
    return bool(getattr(field.remote_field, "parent_link", False))


def _part(field: Any, depth: int) -> tuple[str, Callable[[], tuple[Any, FieldInfo]]]:
    """The name in the pydantic model, and what makes its definition once it is wanted."""
    name = _part_name(field, depth)
    if field.is_relation and isinstance(field.related_model, str):
        raise NotMapped(
            f"{field.model.__name__}.{field.name} points to {field.related_model!r}, which is not loaded: make the "
            "pydantic model once Django's models are, in AppConfig.ready() or in a module that is imported after them"
        )
    if field.many_to_many:
        return name, functools.partial(_many, field, depth)
    if name != field.attname:
        return name, functools.partial(_one, field, depth)
    return name, functools.partial(_column, field)


def _column(field: Any) -> tuple[Any, FieldInfo]:
    kind, limits = annotation_of(field)
    return _defined(field, kind, limits)


def _one(field: Any, depth: int) -> tuple[Any, FieldInfo]:
    return _defined(field, _nested(field, depth), {})


def _many(field: Any, depth: int) -> tuple[Any, FieldInfo]:
    many: Any = list
    if depth:
        items = annotated(many[_nested(field, depth)], BeforeValidator(_listed))
    else:
        kind, limits = annotation_of(field.target_field)
        items = annotated(many[annotated(kind, Field(**limits))], BeforeValidator(_keys))
    return items, _described(field)


def _nested(field: Any, depth: int) -> type[BaseModel]:
    related = field.related_model
    return _make(related, None, frozenset(), depth - 1, related.__name__)


def _defined(field: Any, kind: Any, limits: dict[str, Any]) -> tuple[Any, FieldInfo]:
    said = annotated(kind, Field(**limits)) if limits else kind
    if field.null or getattr(field, "generated", False):
        said = Optional[said]  # noqa: UP045  (what is annotated takes no |)
    return said, _described(field, **_default(field))


def _described(field: Any, **default: Any) -> FieldInfo:
    info: FieldInfo = Field(
        title=str(field.verbose_name),
        description=str(field.help_text) or None,
        **default,
    )
    return info


def _default(field: Any) -> dict[str, Any]:
    if field.has_default() and not field.is_relation:
        default = field.default
        if callable(default):
            return {"default_factory": default}
        return {"default": getattr(default, "value", default) if hasattr(type(default), "__members__") else default}
    given = getattr(field, "db_default", NOT_PROVIDED)
    if given is not NOT_PROVIDED and not hasattr(given, "resolve_expression"):
        return {"default": given}
    if field.null:
        return {"default": None}
    if field.blank and field.empty_strings_allowed and not field.is_relation and not field.primary_key:
        return {"default": ""}
    return {}


# What mapped objects and Django instances hold


def _listed(value: Any) -> Any:
    """A relation of many as a list: Django's manager, or what is one already."""
    if isinstance(value, BaseManager):
        return list(value.all())
    return value


def _keys(value: Any) -> Any:
    listed = _listed(value)
    if not isinstance(listed, list | tuple | set | frozenset):
        return listed
    return [_key(item) for item in listed]


def _key(item: Any) -> Any:
    if isinstance(item, models.Model):
        return item.pk
    state = state_of(item)
    if state is None:
        return item
    [column] = state.mapper.primary_key
    return getattr(item, state.mapper.get_property_by_column(column).key)
