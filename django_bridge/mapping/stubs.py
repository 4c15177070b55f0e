"""A Python module with the mapped classes of apps, each attribute with its type: ``asyncdb_models --types``.

Type checkers read classes with ``Mapped[...]`` attributes, Python runs ``mapped()``. Attributes and relations are read
from the mapped classes themselves, so that there is one for each that exists, and no other.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from sqlalchemy.orm import Mapper, RelationshipDirection, RelationshipProperty

from ..errors import MappingError
from .known import Model
from .mapped import mapped
from .mapped_classes import MappedModel
from .python_types import python_type

__all__ = ["default_path", "is_ours", "module_text", "same_module"]

_MARK = "SQLAlchemy's mapped classes of Django's models; made by `manage.py asyncdb_models --types"
_MODULES = ("datetime", "decimal", "uuid")
_RESERVED = frozenset(
    {"TYPE_CHECKING", "Any", "Mapped", "MappedModel", "Range", "TypedModel", "apps", "mapped", *_MODULES}
)
_WIDTH = 88
"""Where ruff wraps a line unless it is told another width."""


def default_path(config: AppConfig) -> Path:
    """Where the module of an app is, unless ``--output`` says another place: ``mapped.py`` beside its ``models``."""
    return Path(config.path) / "mapped.py"


def is_ours(text: str) -> bool:
    """Whether a file was made here, and may be made anew."""
    return _MARK in text.partition("\n")[0]


def same_module(one: str, other: str) -> bool:
    """Whether two texts are one module, however they are formatted."""
    try:
        return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    except SyntaxError:
        return False


def module_text(configs: Sequence[AppConfig], *, elsewhere: Sequence[AppConfig] = ()) -> str:
    """Returns the module of the apps ``configs``, formatted as ruff formats it.

    - **shape**: classes in the order of their models, parents first; columns as the model has them, then relations by
      name; a relation to an app in ``elsewhere`` is typed by that app's own module, one to any other app as
      ``MappedModel``.
    """
    return _Module(configs, elsewhere).text()


class _Module:
    def __init__(self, configs: Sequence[AppConfig], elsewhere: Sequence[AppConfig]) -> None:
        self.labels = [config.label for config in configs]
        self.classes: dict[Model, type[MappedModel]] = {}
        self.left_out: dict[Model, MappingError] = {}
        self.imported: set[str] = set()
        self.aliases: dict[str, str] = {}
        for config in configs:
            for model in config.get_models():
                try:
                    self.classes[model] = mapped(model)
                except MappingError as err:
                    self.left_out[model] = err
        self.names = dict(_names([*self.classes]))
        self.abroad = {
            model: f"_{config.label}.{name}"
            for config in elsewhere
            if config not in configs
            for model, name in _names([*config.get_models()])
        }
        self.homes = {f"_{config.label}": config.name for config in elsewhere}

    def text(self) -> str:
        classes = [self._class(model) for model in sorted(self.classes, key=self._depth)]
        return "\n".join([*self._head(), *self._checked(classes), *self._run()]) + "\n"

    def _depth(self, model: Model) -> int:
        return len(self.classes[model].__mro__)

    def _head(self) -> Iterator[str]:
        yield f'"""{_MARK} {" ".join(self.labels)}`."""'
        yield ""
        yield "# ruff: noqa"
        yield "from __future__ import annotations"
        yield ""
        for name in _MODULES:
            if name in self.imported:
                yield f"import {name}"
            yield from (f"import {name} as {alias}" for alias, what in sorted(self.aliases.items()) if what == name)
        yield f"from typing import TYPE_CHECKING{', Any' if 'Any' in self.imported else ''}"
        yield ""
        yield "from django.apps import apps"
        yield "from django_bridge import mapped"
        yield ""
        yield "__all__ = ["
        yield from (f'    "{name}",' for name in sorted(self.names.values()))
        yield "]"
        yield ""
        for model, err in self.left_out.items():
            yield f"# {model._meta.label} is left out: {type(err).__name__}; mapped() says why."
        if self.left_out:
            yield ""

    def _checked(self, classes: Sequence[Sequence[str]]) -> Iterator[str]:
        yield "if TYPE_CHECKING:"
        for home in sorted(self.homes.keys() & self.imported):
            yield f"    from {self.homes[home]} import mapped as {home}"
        if "Range" in self.imported:
            yield "    from psycopg.types.range import Range"
        yield "    from sqlalchemy.orm import Mapped"
        bases = "MappedModel, TypedModel" if "MappedModel" in self.imported else "TypedModel"
        yield f"    from django_bridge.mapping.mapped_classes import {bases}"
        for lines in classes:
            yield ""
            yield from (f"    {line}".rstrip() for line in lines)
        yield ""
        if others := {alias: name for alias, name in self.aliases.items() if name not in _MODULES}:
            yield from (f"    {alias} = {name}" for alias, name in sorted(others.items()))
            yield ""

    def _run(self) -> Iterator[str]:
        yield "else:"
        for model, name in self.names.items():
            opts = model._meta
            yield f'    {name} = mapped(apps.get_model("{opts.app_label}", "{opts.object_name}"))'
        if not self.names:
            yield "    pass"

    def _class(self, model: Model) -> list[str]:
        cls = self.classes[model]
        parent: Any = cls.__mro__[1]
        base = self._class_of(getattr(parent, "__django_model__", None))
        inherited = frozenset[str]() if base is None else frozenset(parent.__mapper__.attrs.keys())
        attributes = {name: what for name, what in self._attributes(cls.__mapper__).items() if name not in inherited}
        lines = [f"class {self.names[model]}({base or 'TypedModel'}):", f'    """``{model._meta.label}``."""', ""]
        for name, what in attributes.items():
            lines += _wrapped(name, self._free(what, attributes))
        return lines

    def _attributes(self, mapper: Mapper[Any]) -> dict[str, str]:
        found = {prop.key: python_type(prop.columns[0].info["field"]) for prop in mapper.column_attrs}
        for key in sorted(mapper.relationships.keys()):
            found[key] = self._relation(mapper.relationships[key])
        return found

    def _relation(self, prop: RelationshipProperty[Any]) -> str:
        target = self._class_of(prop.mapper.class_.__django_model__) or "MappedModel"
        if prop.uselist:
            return f"list[{target}]"
        forward = prop.direction is RelationshipDirection.MANYTOONE
        always = forward and not any(getattr(column, "nullable", True) for column in prop.local_columns)
        return target if always else f"{target} | None"

    def _class_of(self, model: Model | None) -> str | None:
        """The class of a model, here or in another app's module; of any other model nothing more is known."""
        if model is None:
            return None
        found = self.names.get(model) or self.abroad.get(model)
        self.imported.update([] if found is None else found.split("."))
        return found

    def _free(self, what: str, attributes: Mapping[str, str]) -> str:
        """The type without names that mean an attribute inside of this class: a field may be named ``uuid``."""

        def free(match: re.Match[str]) -> str:
            name = match[0]
            if name not in attributes:
                self.imported.add(name)
                return name
            if name not in _MODULES:  # which are imported under the other name alone
                self.imported.add(name)
            alias = f"_{name}"
            self.aliases[alias] = name
            return alias

        return re.sub(r"(?<![.\w])[A-Za-z_]\w*", free, what)


def _names(models: Sequence[Model]) -> Iterator[tuple[Model, str]]:
    """A name for each model: its own, with that of its app before it where it would mean something else."""
    own = [str(model._meta.object_name) for model in models]
    for model, name in zip(models, own, strict=True):
        clashes = own.count(name) > 1 or name in _RESERVED or hasattr(builtins, name)
        yield model, f"{model._meta.app_label.title().replace('_', '')}{name}" if clashes else name


def _wrapped(name: str, what: str) -> list[str]:
    line = f"    {name}: Mapped[{what}]"
    if len(line) + 4 <= _WIDTH:
        return [line]
    return [f"    {name}: Mapped[", f"        {what}", "    ]"]
