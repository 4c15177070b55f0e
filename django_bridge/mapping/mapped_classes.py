"""The class that a model is mapped to, and how it is mapped: what it inherits from its parents' tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Table
from sqlalchemy.orm import Mapper, RelationshipProperty, registry, synonym

from .instances import full_clean
from .known import Known, Model, column_of, concrete
from .loading import refuse_expired

__all__ = ["MappedModel", "TypedModel", "map_class", "new_class"]


if TYPE_CHECKING:

    class _Attributes(type):
        """Any attribute of a mapped class, for who has no generated module that knows them."""

        def __getattr__(cls, name: str) -> Any: ...

else:
    _Attributes = type


class TypedModel:
    """A mapped class with the attributes that it names and no other, as ``asyncdb_models --types`` writes it."""

    __django_model__: ClassVar[Model]
    __mapper__: ClassVar[Mapper[Any]]
    __table__: ClassVar[Table]

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            """Takes columns and relations by name."""

    def full_clean(
        self,
        exclude: Collection[str] | None = None,
        validate_unique: bool = True,  # noqa: FBT001, FBT002  (Django's signature)
        validate_constraints: bool = True,  # noqa: FBT001, FBT002  (as above)
        *,
        using: str | None = None,
    ) -> None:
        """Validates as ``Model.full_clean()`` does, on a Django instance of this object; takes back what it cleaned.

        Unique fields and constraints are asked of the database through Django's ORM: in async code
        ``await run_django(obj.full_clean)``. ``using`` is the alias; default: that of the object's session.

        - **errors**: Django's ``ValidationError``; ``SynchronousOnlyOperation`` on the event loop, where something has
          to be asked of the database.
        """
        full_clean(
            self,
            exclude,
            validate_unique=validate_unique,
            validate_constraints=validate_constraints,
            using=using,
        )

    def __repr__(self) -> str:
        key = self.__mapper__.primary_key
        known = {one.key: self.__dict__.get(self.__mapper__.get_property_by_column(one).key) for one in key}
        return f"<mapped {type(self).__name__} {' '.join(f'{name}={value!r}' for name, value in known.items())}>"


class MappedModel(TypedModel, metaclass=_Attributes):
    """Base of every mapped class; its attributes are the model's columns by attname, and its relations by accessor.

    It is no Django model: writing one runs no ``save()``, sends no signal and validates nothing.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def new_class(model: Model, class_of: Callable[[Model], type[Any] | None]) -> type[MappedModel]:
    """Makes the class of a model; a child's stands on its first parent's."""
    parents = _links(model)
    base = class_of(parents[0][0]) if parents else MappedModel
    assert base is not None, "parents come first"
    opts = model._meta
    members = {
        "__module__": model.__module__,
        "__qualname__": model.__qualname__,
        "__doc__": f"``{opts.label}`` as a SQLAlchemy mapped class.",
        "__django_model__": model,
    }
    return type(model.__name__, (base,), members)


def map_class(
    mapping: registry,
    model: Model,
    cls: type[MappedModel],
    known: Known,
    relations: dict[str, RelationshipProperty[Any]],
) -> None:
    """Maps the class to its table, or to that joined to its parents', with its relations."""
    table = known.table_of(model)
    assert table is not None, "a mapped class without a table"
    properties: dict[str, Any] = dict(relations)
    options: dict[str, Any] = {"properties": properties}
    links = _links(model)
    if links:
        parent, link = links[0]
        options["inherits"] = known.class_of(parent)
        options["inherit_condition"] = _condition(link, known)
    selectable: Any = table
    for link in _further(links[1:]):
        selectable = selectable.join(known.table_of(link.target_field.model), _condition(link, known))
        key: Any = column_of(link.target_field, known)
        # One attribute of both columns: what the parent's row has got as its key, its child's row has too.
        so_far = properties.get(link.attname)
        properties[key.key] = [*(so_far if isinstance(so_far, list) else [column_of(link, known)]), key]
        if link.attname != key.key:
            properties[link.attname] = synonym(key.key)
    columns = list(table.columns)
    if any(column.server_default is not None for column in columns):
        options["eager_defaults"] = True  # attribute access could not wait for them
    mapping.map_imperatively(cls, selectable, **options)
    refuse_expired(cls.__mapper__)


def _links(model: Model) -> list[tuple[Model, Any]]:
    """The parents whose tables hold a part of the model's row, with the fields that point there."""
    own = concrete(model)
    # A grandparent is among the parents too, by its child's link.
    return [(concrete(parent), link) for parent, link in own._meta.parents.items() if link and link.model is own]


def _further(links: list[tuple[Model, Any]]) -> Iterator[Any]:
    """The links to parents beside the first, which SQLAlchemy's inheritance knows, and to theirs."""
    for parent, link in links:
        yield link
        yield from _further(_links(parent))


def _condition(link: Any, known: Known) -> Any:
    return column_of(link, known) == column_of(link.target_field, known)
