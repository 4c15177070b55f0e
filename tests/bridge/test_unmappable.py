"""Fields that SQLAlchemy cannot be given: why, and check E020."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.apps import apps
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, HStoreField, IntegerRangeField
from django.contrib.postgres.search import SearchVectorField
from django.core.checks import run_checks
from django.db import connection, models
from django.db.models.expressions import Col
from django.test.utils import isolate_apps

from django_bridge import checks
from django_bridge.mapping.unmappable import unconnected, why_unmappable

BACKENDS = ["mysql", "postgresql", "sqlite"]


class Failing(models.Field):
    def db_type(self, connection: Any) -> str:
        raise ValueError("no type today")


class Typeless(models.Field):
    """No type, and none that Django knows for its name."""


class Asking(models.Field):
    def db_type(self, connection: Any) -> str:
        with connection.cursor() as cursor:
            return str(cursor)


class Selected(models.TextField):
    def select_format(self, compiler: Any, sql: str, params: Any) -> Any:
        return f"LOWER({sql})", params


class Decrypted(Col):
    def as_sql(self, compiler: Any, connection: Any) -> Any:
        sql, params = super().as_sql(compiler, connection)
        return f"LOWER({sql})", params


class WithColumn(models.TextField):
    def get_col(self, alias: str, output_field: Any = None) -> Any:
        return Decrypted(alias, self, output_field)


class PostgreSQLAlone(models.Field):
    def db_type(self, connection: Any) -> str | None:
        return "mood" if connection.vendor == "postgresql" else None


with warnings.catch_warnings():
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    warnings.simplefilter("ignore", DeprecationWarning)

    class Encrypted(models.TextField):
        def get_placeholder(self, value: Any, compiler: Any, connection: Any) -> str:
            return "LOWER(%s)"


class Converted(models.TextField):
    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return value

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return value


@pytest.fixture
def of_model() -> Iterator[Any]:
    """A field as it is in a model of no app."""
    with isolate_apps("django.contrib.contenttypes"):

        def bind(field: Any, **more: Any) -> Any:
            attributes = {
                "__module__": __name__,
                "Meta": type("Meta", (), {"app_label": "contenttypes"}),
                "field": field,
            }
            return type("Odd", (models.Model,), {**attributes, **more})._meta.get_field("field")

        yield bind


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("field", "words"),
    [
        (Failing(), "its db_type() fails on 'default' (ValueError: no type today)"),
        (Typeless(), "its db_type() is None on 'default', though it has a column"),
        (Selected(), "Selected has a select_format() of its own"),
        (WithColumn(), "its get_col() gives a Decrypted whose as_sql() is its own"),
        (Encrypted(), f"Encrypted has a get_placeholder{'_sql' if django.VERSION >= (6, 1) else ''}() of its own"),
        (models.GeneratedField(expression=models.F("id"), output_field=Selected(), db_persist=True), "select_format"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unmappable_field_has_its_reason_and_its_remedy(
    backend: str, field: Any, words: str, default: Any, of_model: Any
) -> None:
    default(backend)
    reason = why_unmappable(of_model(field.clone()))
    assert reason is not None
    assert words in reason
    assert ": " in reason


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "field",
    [
        models.BinaryField(),
        models.JSONField(),
        models.UUIDField(),
        models.ManyToManyField("self"),
        models.ForeignKey("self", models.CASCADE),
        models.GeneratedField(expression=models.F("id"), output_field=models.BinaryField(), db_persist=True),
        ArrayField(ArrayField(models.IntegerField())),
        IntegerRangeField(),
        DateTimeRangeField(),
        HStoreField(),
        SearchVectorField(),
        Converted(),
        Asking(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_needs_nothing_of_a_statement_is_mappable(backend: str, field: Any, default: Any, of_model: Any) -> None:
    default(backend)
    assert why_unmappable(of_model(field.clone())) is None


def test_every_field_of_django_is_mappable(default: Any) -> None:
    default("mysql")
    found = [why_unmappable(field) for model in apps.get_models() for field in model._meta.local_fields]
    assert len(found) > 10
    assert set(found) == {None}


def test_one_database_that_knows_the_type_is_enough(project: Any, of_model: Any) -> None:
    engines = {"default": "sqlite3", "geo": "postgresql"}
    databases = {alias: {"ENGINE": f"django.db.backends.{name}", "NAME": "x"} for alias, name in engines.items()}
    project(DATABASES=databases)
    field = of_model(PostgreSQLAlone())
    assert why_unmappable(field) is None
    project(DATABASE_ROUTERS=[f"{__name__}.NoGeo"])
    assert "None on 'default'" in (why_unmappable(field) or "")


class NoGeo:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db != "geo"


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_server_is_asked(backend: str, default: Any) -> None:
    default(backend, HOST="127.0.0.1", PORT=1)
    (wrapper,) = unconnected()
    assert models.UUIDField().db_type(wrapper)
    assert wrapper.connection is None
    assert connection.settings_dict["PORT"] != 1


def test_an_unmappable_field_is_a_check_error(default: Any, of_model: Any) -> None:
    model = of_model(Failing()).model
    default("postgresql")
    (message,) = checks.check_fields([model._meta.apps.get_app_config("contenttypes")])
    assert message.id == "django_bridge.E020"
    assert message.msg == (
        "contenttypes.Odd.field cannot be mapped: its db_type() fails on 'default' (ValueError: no type today)."
    )
    assert message.hint is not None
    assert message.hint.startswith("Correct db_type()")
    assert "checks.md#e020" in message.hint


def test_the_check_is_registered(default: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    default("sqlite", NAME="unused")
    assert [one for one in run_checks() if one.id == "django_bridge.E020"] == []
    monkeypatch.setattr(models.CharField, "db_type", lambda *_: None)
    assert [one for one in run_checks() if one.id == "django_bridge.E020"] != []


def test_djangos_own_fields_that_write_sql_are_those_that_were_read() -> None:
    modules = ("django.db.models.fields", "django.contrib.postgres")
    asked = ("select_format", "get_placeholder", "get_placeholder_sql", "get_col", "cached_col")
    found = {
        f"{cls.__qualname__}.{name}"
        for cls in _with_subclasses(models.Field)
        if cls.__module__.startswith(modules)
        for name in asked
        if name in vars(cls)
    }
    assert {name.replace("_sql", "") for name in found} == {
        "ArrayField.get_placeholder",
        "BinaryField.get_placeholder",
        "CompositePrimaryKey.cached_col",
        "CompositePrimaryKey.get_col",
        "Field.cached_col",
        "Field.get_col",
        "Field.select_format",
        "ForeignKey.get_col",
        "GeneratedField.cached_col",
        "GeneratedField.get_col",
        "RangeField.get_placeholder",
    }


def _with_subclasses(cls: type[Any]) -> set[type[Any]]:
    return {cls}.union(*map(_with_subclasses, cls.__subclasses__()))
