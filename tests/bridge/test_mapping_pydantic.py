"""``pydantic_model``: types, limits, choices, defaults and relations of a Django model, as pydantic says them."""

# ruff: noqa: N806  (what mapped() gives is a class)

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import models as django_models
from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from asyncdb import RowShape
from django_bridge import database, mapped, pydantic_model, run_django
from django_bridge.errors import LazyLoadError, NotMapped, UnmappableField

from .conftest import Shop


@pytest.fixture
def models(project: Callable[..., None]) -> ModuleType:
    project(INSTALLED_APPS=[*settings.INSTALLED_APPS, "tests.bridge.catalogue"])
    module = apps.get_app_config("catalogue").models_module
    assert module is not None
    return module


VALUES: dict[str, Any] = {
    "id": 1,
    "big": 2**62,
    "binary": b"\x00\xff",
    "flag": False,
    "maybe": None,
    "word": "ab",
    "left_out": "",
    "state": "old",
    "grade": 2,
    "grouped": "a",
    "day": datetime.date(2024, 2, 29),
    "moment": datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.UTC),
    "price": decimal.Decimal("1.20"),
    "span": datetime.timedelta(days=1, microseconds=5),
    "mail": "a@example.org",
    "file": "a/b.txt",
    "share": 0.5,
    "address": "10.0.0.1",
    "number": 4,
    "data": {"a": [1, None]},
    "positive": 3,
    "small": -3,
    "slug": "a-b",
    "text": "ä\U0001f40d",
    "time": datetime.time(1, 2, 3),
    "url": "https://example.org/",
    "key": uuid.UUID(int=5),
    "upper": "UP",
    "json": 1,
    "given": 6,
    "double": 8,
    "maker_id": "m1",
    "others": [1, 2],
}


def test_every_field_is_there_with_its_type(models: Any) -> None:
    made = pydantic_model(models.Entry)
    assert (made.__name__, list(made.model_fields)) == ("Entry", list(VALUES))
    assert made(**VALUES).model_dump() == VALUES
    assert made.model_validate_json(made(**VALUES).model_dump_json()) == made(**VALUES)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("big", 2**63),
        ("binary", b"12345"),
        ("word", "x" * 11),
        ("word", "x"),
        ("word", None),
        ("state", "lost"),
        ("grade", 3),
        ("grouped", "c"),
        ("price", decimal.Decimal("1234.00")),
        ("price", decimal.Decimal("1.234")),
        ("price", decimal.Decimal(-1)),
        ("share", 1.5),
        ("number", 10),
        ("number", -(2**31) - 1),
        ("positive", -1),
        ("small", 2**15),
        ("slug", "x" * 51),
        ("upper", "x" * 8),
        ("key", "no"),
        ("maker_id", "m12345"),
        ("maker_id", None),
        ("others", ["x"]),
    ],
)
def test_a_value_outside_of_the_fields_limits_is_refused(models: Any, field: str, wrong: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        pydantic_model(models.Entry)(**VALUES | {field: wrong})
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


def test_what_may_be_left_out_has_the_fields_default(models: Any) -> None:
    made = pydantic_model(models.Entry)
    required = {name for name, field in made.model_fields.items() if field.is_required()}
    optional = {
        "flag", "maybe", "left_out", "state", "grade", "grouped", "moment", "mail", "file", "address", "data", "key",
        "json", "given", "double",
    }  # fmt: skip
    assert set(VALUES) - required == optional
    built = made(**{name: VALUES[name] for name in required})
    assert (built.flag, built.state, built.given, built.data, built.left_out, built.mail) == (  # type: ignore[attr-defined]
        True, "new", 5, {}, "", None
    )  # fmt: skip
    assert type(built.state) is str  # type: ignore[attr-defined]
    assert built.key != made(**{name: VALUES[name] for name in required}).key  # type: ignore[attr-defined]


def test_titles_and_descriptions_are_the_fields(models: Any) -> None:
    properties = pydantic_model(models.Entry).model_json_schema()["properties"]
    assert properties["word"] == {
        "title": "the word",
        "description": "How it is written",
        "type": "string",
        "minLength": 2,
        "maxLength": 10,
    }
    assert (properties["maker_id"]["title"], properties["maker_id"]["description"]) == ("maker", "Who made it")
    assert properties["state"]["enum"] == ["new", "old"]
    assert properties["grouped"]["enum"] == ["a", "b", ""]
    assert (properties["url"]["format"], properties["mail"]["anyOf"][0]["format"]) == ("uri", "email")
    assert (properties["positive"]["minimum"], properties["positive"]["maximum"]) == (0, 2**31 - 1)


def test_members_of_djangos_choices_are_their_values(models: Any) -> None:
    made = pydantic_model(models.Entry)(**VALUES | {"state": models.State.OLD, "grade": models.Grade.LOW})
    assert (made.model_dump()["state"], made.model_dump()["grade"]) == ("old", 1)
    assert json.loads(made.model_dump_json())["state"] == "old"


def test_fields_and_exclude_choose_and_the_order_is_kept(models: Any) -> None:
    assert list(pydantic_model(models.Entry, fields=["word", "maker", "big"]).model_fields) == [
        "word",
        "maker_id",
        "big",
    ]
    left = pydantic_model(models.Entry, exclude=["maker_id", "others"]).model_fields
    assert list(left) == [name for name in VALUES if name not in {"maker_id", "others"}]
    assert list(pydantic_model(models.Entry, fields=["word", "big"], exclude=["big"]).model_fields) == ["word"]


@pytest.mark.parametrize("argument", ["fields", "exclude"])
def test_an_unknown_name_is_refused_with_those_that_there_are(models: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"{argument}: Maker has no field 'nam'; it has code, id, parent, parent_id"):
        pydantic_model(models.Maker, **{argument: ["nam"]})
    with pytest.raises(TypeError, match="lists of names"):
        pydantic_model(models.Maker, **{argument: "code"})


def test_depth_nests_and_a_cycle_ends(models: Any) -> None:
    made = pydantic_model(models.Entry, fields=["word", "maker", "others"], depth=2)
    assert list(made.model_fields) == ["word", "maker", "others"]
    maker = made.model_fields["maker"].annotation
    assert isinstance(maker, type)
    assert issubclass(maker, BaseModel)
    assert list(maker.model_fields) == ["id", "code", "parent"]
    value = {"id": 1, "code": "m1", "parent": {"id": 2, "code": "m2", "parent_id": 2}}
    assert made(word="ab", maker=value, others=[value]).model_dump() == {
        "word": "ab",
        "maker": value,
        "others": [value],
    }
    with pytest.raises(ValueError, match="-1 was given"):
        pydantic_model(models.Entry, depth=-1)


def test_the_same_arguments_give_the_same_class(models: Any) -> None:
    assert pydantic_model(models.Maker) is pydantic_model(models.Maker)
    named = pydantic_model(models.Maker, name="MakerOut")
    assert (named.__name__, named.__module__) == ("MakerOut", models.__name__)
    assert named.model_json_schema()["title"] == "MakerOut"


def test_a_custom_field_without_a_known_base_is_refused_by_name_and_may_be_left_out(models: Any) -> None:
    with pytest.raises(UnmappableField, match=r"Odd\.odd is a OddField.*exclude it"):
        pydantic_model(models.Odd)
    assert list(pydantic_model(models.Odd, exclude=["odd"]).model_fields) == ["id", "number"]


@pytest.mark.parametrize("wrong", [object, 3, "library.Book", None])
def test_what_is_no_model_is_refused(wrong: Any) -> None:
    with pytest.raises(NotMapped, match="takes a Django model"):
        pydantic_model(wrong)


def test_the_models_of_django_have_one_each(models: Any) -> None:
    for model in apps.get_models():
        if model.__module__ != models.__name__:
            assert set(pydantic_model(model, depth=1).model_fields)
    assert {"username", "groups", "user_permissions"} <= set(pydantic_model(User).model_fields)
    assert pydantic_model(Group, depth=1).model_fields["permissions"].annotation == list[pydantic_model(Permission)]  # type: ignore[misc]


def test_fields_of_contrib_postgres_have_their_types(models: Any) -> None:
    pytest.importorskip("psycopg", reason="django.contrib.postgres needs psycopg")
    from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, HStoreField, IntegerRangeField
    from django.contrib.postgres.search import SearchVectorField
    from django.test.utils import isolate_apps
    from psycopg.types.range import Range

    with isolate_apps("tests.bridge.catalogue"):

        class OfPostgres(django_models.Model):  # noqa: DJ008  (nobody prints it)
            words = ArrayField(django_models.CharField(max_length=3), size=2)
            matrix = ArrayField(ArrayField(django_models.IntegerField(null=True)), null=True)
            extra = HStoreField()
            span = IntegerRangeField()
            moments = DateTimeRangeField(null=True)
            search = SearchVectorField(null=True)

            class Meta:
                app_label = "catalogue"

        made = pydantic_model(OfPostgres)
        values: Any = {"id": 1, "words": ["abc"], "matrix": [[1, None]], "extra": {"a": None}, "span": Range(1, 5)}
        assert made(**values).model_dump() == values | {
            "span": {"lower": 1, "upper": 5, "bounds": "[)", "empty": False},
            "moments": None,
            "search": None,
        }
        assert made(**values | {"span": Range(empty=True)}).span.empty  # type: ignore[attr-defined]
        for field, wrong in {"words": ["abcd"], "matrix": [["x"]], "extra": {"a": 1}}.items():
            with pytest.raises(ValidationError, match=field):
                made(**values | {field: wrong})
        with pytest.raises(ValidationError, match="words"):
            made(**values | {"words": ["a", "b", "c"]})


# What it reads


@pytest.fixture
async def catalogue(
    family: str, bridged: Any, project: Callable[..., None], django_db_blocker: Any
) -> AsyncIterator[Any]:
    """The tables of the catalogue with one entry, two makers."""
    project(INSTALLED_APPS=[*settings.INSTALLED_APPS, "tests.bridge.catalogue"])
    module: Any = apps.get_app_config("catalogue").models_module
    with django_db_blocker.unblock():
        await Shop(family, module, bridged).create(module.Maker, module.Entry)

        def fill() -> None:
            first = module.Maker.objects.create(code="m1")
            second = module.Maker.objects.create(code="m2", parent=first)
            stored = {name: value for name, value in VALUES.items() if name not in {"id", "double", "others"}}
            entry = module.Entry.objects.create(**stored | {"maker_id": "m2"})
            entry.day = VALUES["day"]
            entry.save()
            entry.others.set([first, second])

        await run_django(fill)
        yield module
        assert database().stats().checked_out == 0


async def test_rows_mapped_objects_and_django_instances_are_read_alike(catalogue: Any) -> None:
    Entry, Maker = mapped(catalogue.Entry), mapped(catalogue.Maker)
    flat = pydantic_model(catalogue.Entry, exclude=["others"])
    table: Any = Entry.__table__
    [of_columns] = await database().fetch_all(select(table), into=flat)
    [of_object] = await database().fetch_all(select(Entry), into=flat)
    instance = await catalogue.Entry.objects.aget()
    assert of_columns == of_object == flat.model_validate(instance)
    assert of_columns.model_dump() == {name: VALUES[name] for name in VALUES if name != "others"} | {"maker_id": "m2"}

    nested = pydantic_model(catalogue.Entry, fields=["word", "maker", "others"], depth=2)
    loaded = select(Entry).options(
        joinedload(Entry.maker).joinedload(Maker.parent), selectinload(Entry.others).joinedload(Maker.parent)
    )
    [of_object] = await database().fetch_all(loaded, into=nested)
    of_django = await run_django(lambda: nested.model_validate(catalogue.Entry.objects.get()))
    assert of_object == of_django
    first = {"id": 1, "code": "m1", "parent": None}
    second = {"id": 2, "code": "m2", "parent": {"id": 1, "code": "m1", "parent_id": None}}
    assert of_object.model_dump() == {"word": "ab", "maker": second, "others": [first, second]}

    keys = pydantic_model(catalogue.Entry, fields=["others"])
    [of_object] = await database().fetch_all(select(Entry).options(selectinload(Entry.others)), into=keys)
    assert of_object == await run_django(lambda: keys.model_validate(catalogue.Entry.objects.get()))
    assert of_object.model_dump() == {"others": [1, 2]}


async def test_a_relation_that_was_not_loaded_is_named(catalogue: Any) -> None:
    Entry = mapped(catalogue.Entry)
    nested = pydantic_model(catalogue.Entry, fields=["word", "maker"], depth=1)
    with pytest.raises(
        RowShape, match=r"the relation Entry\.maker was not loaded: add options\(joinedload\(Entry\.maker\)\)"
    ):
        await database().fetch_all(select(Entry), into=nested)
    many = pydantic_model(catalogue.Entry, fields=["others"])
    with pytest.raises(RowShape, match=r"options\(selectinload\(Entry\.others\)\)"):
        await database().fetch_all(select(Entry), into=many)


@pytest.mark.native_only("in threads it is Django that refuses the query, in its own words")
async def test_a_relation_of_a_django_object_that_was_not_loaded_is_named(catalogue: Any) -> None:
    many = pydantic_model(catalogue.Entry, fields=["others"])
    entry = await catalogue.Entry.objects.aget()
    with pytest.raises(LazyLoadError, match="others"):
        many.model_validate(entry)


async def test_content_types_are_read_through_their_foreign_key(migrated: Any) -> None:
    made = pydantic_model(ContentType, fields=["app_label", "model"])
    ContentType.objects.clear_cache()
    found = await database().fetch_all(select(mapped(ContentType)), into=made)
    assert {"app_label": "contenttypes", "model": "contenttype"} in [item.model_dump() for item in found]
