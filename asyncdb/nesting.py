"""Which parts of a row make a model inside the model: ``author__name``, an ORM object, a loaded relation.

A plan is made once for a type and the names of the columns; rows that nest nothing have none, and pay for nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy
from pydantic import AliasChoices, BaseModel
from sqlalchemy import Row
from sqlalchemy.orm import InstanceState, Mapper
from typing_extensions import is_typeddict  # knows its own TypedDict, the one that pydantic takes before Python 3.12

from .errors import RowShape

SEPARATOR: Final = "__"
"""What stands in a label between the name of a field and the name of a field in it, as in Django's lookups."""


_OPEN: Final = (Any, dict, Mapping)
"""What may be made of a dict without saying its fields."""


class Branch:
    """What one dict of the result is made of: columns by their number, and dicts inside it."""

    __slots__ = ("branches", "into", "leaves", "nullable")

    def __init__(self, into: Any, *, nullable: bool) -> None:
        self.into = into
        self.nullable = nullable
        self.leaves: list[tuple[str, int, Any]] = []
        self.branches: dict[str, Branch] = {}

    def build(self, row: Sequence[Any]) -> dict[str, Any]:
        """The dict of this row."""
        built = {name: row[index] if kind is None else object_as(row[index], kind) for name, index, kind in self.leaves}
        for name, branch in self.branches.items():
            inner = branch.build(row)
            built[name] = None if branch.nullable and _is_null(inner) else inner
        return built


def nested(rows: Sequence[Row[Any]], into: Any) -> list[dict[str, Any]] | None:
    """The rows as dicts of dicts, or None where ``into`` takes the columns as they are.

    A column labelled ``author__name`` goes to the field ``name`` of the field ``author``; an ORM object named
    ``Author`` to the field ``author``, unless there is a field of the column's own name. What an outer join left
    empty, every column NULL, is None where the field may be None.
    """
    first = rows[0]
    if (plan := _plan(into, first._fields)) is None:
        return None
    root, entities = plan
    named = [(field, index) for field, index in entities if _is_orm_column(rows, index)]
    if not named and not root.branches:
        return None
    if named and len(first) == 1 and (state := state_of(first[0])) is not None and named[0][0] in state.mapper.attrs:
        return None  # a Chapter that has a chapter is meant by its attributes
    leaves = {index: field for field, index in named}
    whole = Branch(into, nullable=False)
    whole.branches = root.branches
    inner = fields_of(into)
    whole.leaves = [
        (leaves.get(index, name), index, _dict_type(inner.get(leaves.get(index, name))))
        for name, index, _ in root.leaves
    ]
    return [whole.build(row) for row in rows]


@functools.lru_cache(maxsize=1024)
def _plan(into: Any, keys: tuple[str, ...]) -> tuple[Branch, list[tuple[str, int]]] | None:
    fields = fields_of(into)
    root = Branch(into, nullable=False)
    entities = []
    for index, key in enumerate("".join(key) for key in keys):  # SQLAlchemy's are quoted_name
        _place(root, key, index)
        if key not in fields and (field := _snake(key)) in fields:
            entities.append((field, index))
        elif key in fields and _dict_type(fields[key]) is not None:
            entities.append((key, index))  # an ORM object for a dataclass in a model
    return (root, entities) if root.branches or entities else None


def _place(branch: Branch, key: str, index: int) -> None:
    fields = fields_of(branch.into)
    head, separator, rest = key.partition(SEPARATOR)
    inner, nullable = _unwrapped(fields.get(head, str))
    if not separator or not rest or key in fields or not (takes_fields(inner) or inner in _OPEN):
        branch.leaves.append((key, index, _dict_type(fields.get(key))))
        return
    if head not in branch.branches:
        branch.branches[head] = Branch(inner, nullable=nullable)
    _place(branch.branches[head], rest, index)


def _is_null(built: Mapping[str, Any]) -> bool:
    return all(_is_null(value) if isinstance(value, dict) else value is None for value in built.values())


def _is_orm_column(rows: Sequence[Row[Any]], index: int) -> bool:
    found = next((row[index] for row in rows if row[index] is not None), None)
    return found is None or state_of(found) is not None


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@functools.lru_cache(maxsize=1024)
def fields_of(into: Any) -> Mapping[str, Any]:
    """The names that a model, dataclass or ``TypedDict`` takes, aliases included, and their types; else nothing."""
    if isinstance(into, type) and issubclass(into, BaseModel):
        found: dict[str, Any] = {}
        for name, field in into.model_fields.items():
            alias = field.validation_alias or field.alias
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
            for known in (name, *(choice for choice in choices if isinstance(choice, str))):
                found.setdefault(known, field.annotation)
        return found
    if dataclasses.is_dataclass(into):
        names: Iterable[str] = (field.name for field in dataclasses.fields(into) if field.init)
    elif is_typeddict(into):
        names = into.__annotations__
    else:
        return {}
    try:
        hints = typing.get_type_hints(into, include_extras=True)
    except NameError:  # pydantic says it better, when it comes to this type
        hints = {}
    return {name: hints.get(name, Any) for name in names}


def _unwrapped(annotation: Any) -> tuple[Any, bool]:
    """The one type inside ``Annotated``, ``Required`` and ``| None``, a dict's bare; and if None is allowed."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _unwrapped(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType}:
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
        nullable = len(options) < len(typing.get_args(annotation))
        return (_unwrapped(options[0])[0] if len(options) == 1 else Any), nullable
    if getattr(origin, "_name", None) in {"Required", "NotRequired", "ReadOnly"}:
        return _unwrapped(typing.get_args(annotation)[0])
    return (origin if origin in {dict, Mapping} else annotation), annotation is Any


def takes_dicts(into: Any) -> bool:
    """Whether pydantic makes ``into`` of a dict alone, and reads no attributes."""
    return dataclasses.is_dataclass(into) or is_typeddict(into)


def takes_fields(into: Any) -> bool:
    """Whether ``into`` has fields by name: a pydantic model, a dataclass, a ``TypedDict``."""
    return (isinstance(into, type) and issubclass(into, BaseModel)) or takes_dicts(into)


def _dict_type(annotation: Any) -> Any:
    """The dataclass or ``TypedDict`` that a field wants, also as the items of a list; else None."""
    inner, _ = _unwrapped(annotation)
    if takes_dicts(inner):
        return inner
    arguments = typing.get_args(inner)
    if typing.get_origin(inner) in {list, tuple, set, frozenset, Sequence} and arguments:
        return _dict_type(arguments[0])
    return None


# ORM objects


def state_of(value: Any) -> InstanceState[Any] | None:
    """What SQLAlchemy knows of an ORM object; None for anything else."""
    found = sqlalchemy.inspect(value, raiseerr=False)
    return found if isinstance(found, InstanceState) else None


def object_as(value: Any, into: Any) -> Any:
    """An ORM object, or a list of them, as the dict that a dataclass or ``TypedDict`` is made of."""
    if isinstance(value, list | tuple | set | frozenset):
        return [object_as(item, into) for item in value]
    state = state_of(value)
    if state is None:
        return value
    fields = fields_of(into)
    attributes = state.mapper.attrs
    if not fields:
        fields = dict.fromkeys(name for name in _columns(state.mapper) if name not in state.unloaded)
    built = {}
    for name, annotation in fields.items():
        if name in attributes:
            if name in state.unloaded and state.key is not None:
                raise RowShape(not_loaded(state, name))
            read = getattr(value, name)
        elif (read := getattr(value, name, _NOTHING)) is _NOTHING:
            continue
        built[name] = read if (kind := _dict_type(annotation)) is None else object_as(read, kind)
    return built


_NOTHING: Final = object()


def _columns(mapper: Mapper[Any]) -> Iterator[str]:
    return (attribute.key for attribute in mapper.column_attrs)


def not_loaded(state: InstanceState[Any], name: str) -> str:
    """Says which attribute was not loaded, and what loads it."""
    owner = state.mapper.class_.__name__
    if name not in state.mapper.relationships:
        return f"the column {owner}.{name} was not loaded: select it, or add options(undefer({owner}.{name}))"
    loader = "selectinload" if state.mapper.relationships[name].uselist else "joinedload"
    return f"the relation {owner}.{name} was not loaded: add options({loader}({owner}.{name})) to the statement"


def unloaded_at(value: Any, path: Sequence[str | int]) -> str | None:
    """What :func:`not_loaded` says of the attribute at the end of ``path``, if that is why it could not be read."""
    for step in path[:-1]:
        state = state_of(value)
        try:
            value = state.dict[str(step)] if state is not None else value[step]
        except (KeyError, IndexError, TypeError):
            return None
    state, name = state_of(value), str(path[-1])
    if state is None or name not in state.mapper.attrs or name not in state.unloaded:
        return None
    return not_loaded(state, name)
