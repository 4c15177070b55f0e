"""``manage.py asyncdb_models --verify``: each kind of difference between a model and its table is seen, no other."""

# ruff: noqa: DJ001, DJ008  (nobody prints them; every kind of column is there)

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps.registry import Apps
from django.conf import settings
from django.contrib.postgres.fields import (
    ArrayField,
    DateRangeField,
    DateTimeRangeField,
    DecimalRangeField,
    IntegerRangeField,
)
from django.contrib.postgres.search import SearchVectorField
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.db.models.functions import Lower

import django_bridge
from django_bridge.mapping.column_types import normalised
from django_bridge.mapping.verification import verify
from tests.bridge.conftest import forget_connections

ROOT = str(Path(django_bridge.__file__).parents[1])
CONTRIB = [
    f"django.contrib.{name}"
    for name in ("admin", "auth", "contenttypes", "flatpages", "messages", "redirects", "sessions", "sites")
]


@pytest.fixture
def fresh(bridged_now: Any, project: Any, django_db_blocker: Any) -> Iterator[None]:
    """A fresh database, and every app of django.contrib installed."""
    project(INSTALLED_APPS=[*CONTRIB, "django_bridge"], SITE_ID=1)
    with django_db_blocker.unblock():
        forget_connections()
        try:
            yield
        finally:
            forget_connections()


@pytest.fixture
def migrated_now(fresh: None) -> None:
    call_command("migrate", verbosity=0, interactive=False)


def told(*labels: str, **options: Any) -> tuple[int, str]:
    """What the command prints, and its exit code."""
    out = StringIO()
    try:
        call_command("asyncdb_models", *labels, verify=True, stdout=out, **options)
    except SystemExit as left:
        return int(str(left.code)), out.getvalue()
    return 0, out.getvalue()


def differences(*labels: str, **options: Any) -> list[tuple[str, str, str]]:
    """Table, column and kind of each difference."""
    code, text = told(*labels, json=True, **options)
    found = json.loads(text)["differences"]
    assert code == bool(found)
    return [(one["table"], one["column"], one["kind"]) for one in found]


def sql(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_a_migrated_database_of_every_contrib_app_has_no_difference(migrated_now: None) -> None:
    code, text = told()
    assert (code, text.count("\n")) == (0, 1), text
    found = json.loads(told(json=True)[1])
    assert (found["differences"], found["extra_columns"]) == ([], [])
    assert found["tables"] == 13  # the through tables of many-to-many fields among them
    assert f"default: 13 tables, {found['columns']} columns, 0 differences, 0 extra columns" in text


def test_a_missing_table_is_a_difference(migrated_now: None) -> None:
    sql("DROP TABLE auth_user_groups")
    assert differences() == [("auth_user_groups", "", "missing table")]
    assert differences("auth.User") == [("auth_user_groups", "", "missing table")]
    assert differences("auth.Group", "sessions") == []
    code, text = told()
    assert code == 1
    assert "auth.User_groups" in text
    assert "1 differences" in text


def test_a_missing_column_is_a_difference(migrated_now: None) -> None:
    sql("ALTER TABLE django_session RENAME COLUMN session_data TO old_data")
    assert differences("sessions") == [("django_session", "session_data", "missing column")]


def test_a_column_more_is_told_and_does_not_fail(migrated_now: None) -> None:
    sql("ALTER TABLE django_site ADD COLUMN colour varchar(9)")
    code, text = told("sites")
    assert code == 0
    assert "extra column (no failure)" in text
    assert json.loads(told("sites", json=True)[1])["extra_columns"][0]["column"] == "colour"


@pytest.mark.families("mariadb", "mysql", "postgresql")
def test_a_nullable_column_is_a_difference(family: str, migrated_now: None) -> None:
    if family == "postgresql":
        sql("ALTER TABLE django_site ALTER COLUMN name DROP NOT NULL")
    else:
        sql("ALTER TABLE django_site MODIFY name varchar(50) NULL")
    assert differences() == [("django_site", "name", "null")]


@pytest.mark.families("mariadb", "mysql", "postgresql")
def test_another_length_is_a_difference(family: str, migrated_now: None) -> None:
    alter = "ALTER COLUMN name TYPE" if family == "postgresql" else "MODIFY name"
    sql(f"ALTER TABLE django_site {alter} varchar(49){'' if family == 'postgresql' else ' NOT NULL'}")
    assert differences() == [("django_site", "name", "type")]


@pytest.mark.families("postgresql")
def test_postgresql_another_type_is_a_difference(family: str, migrated_now: None) -> None:
    sql(
        "ALTER TABLE django_session ALTER COLUMN expire_date TYPE timestamp",
        "ALTER TABLE auth_permission ALTER COLUMN content_type_id TYPE bigint",
        "ALTER TABLE django_site ALTER COLUMN domain TYPE text",
    )
    assert differences() == [
        ("auth_permission", "content_type_id", "type"),
        ("django_session", "expire_date", "type"),
        ("django_site", "domain", "type"),
    ]


# Every kind of field


registry = Apps()


class Everything(models.Model):
    """One column for each built-in field that every family has."""

    id = models.BigAutoField(primary_key=True)
    big = models.BigIntegerField()
    binary = models.BinaryField()
    boolean = models.BooleanField(null=True)
    char = models.CharField(max_length=30)
    date = models.DateField()
    moment = models.DateTimeField()
    decimal = models.DecimalField(max_digits=12, decimal_places=3)
    duration = models.DurationField()
    email = models.EmailField()
    file = models.FileField()
    path = models.FilePathField()
    double = models.FloatField()
    address = models.GenericIPAddressField()
    image = models.CharField(max_length=100, db_column="Odd Name")
    integer = models.IntegerField()
    json = models.JSONField()
    positive_big = models.PositiveBigIntegerField()
    positive = models.PositiveIntegerField()
    positive_small = models.PositiveSmallIntegerField()
    slug = models.SlugField()
    small = models.SmallIntegerField()
    text = models.TextField(null=True)
    time = models.TimeField()
    url = models.URLField()
    uuid = models.UUIDField(default=uuid.uuid4)
    defaulted = models.IntegerField(db_default=3)
    lowered = models.GeneratedField(
        expression=Lower("char"), output_field=models.CharField(max_length=30), db_persist=True
    )
    itself = models.ForeignKey("self", models.CASCADE, null=True)
    positively = models.ForeignKey("library.Counted", models.CASCADE, db_constraint=False)
    many = models.ManyToManyField("self")

    class Meta:
        app_label = "library"
        apps = registry


class Small(models.Model):
    id = models.SmallAutoField(primary_key=True)

    class Meta:
        app_label = "library"
        apps = registry


class Counted(models.Model):
    number = models.PositiveIntegerField(primary_key=True)
    small = models.ForeignKey(Small, models.CASCADE)

    class Meta:
        app_label = "library"
        apps = registry


class Composite(models.Model):
    pk = models.CompositePrimaryKey("here", "there")
    here = models.IntegerField()
    there = models.CharField(max_length=5)

    class Meta:
        app_label = "library"
        apps = registry


class Child(Counted):
    more = models.IntegerField(null=True)

    class Meta:
        app_label = "library"
        apps = registry


ALL = (Small, Counted, Composite, Everything, Child)


@pytest.fixture
def everything(fresh: None, family: str) -> Callable[[], list[tuple[str, str, str]]]:
    with connection.schema_editor() as editor:
        for model in ALL:
            editor.create_model(model)

    def seen() -> list[tuple[str, str, str]]:
        return [
            (one.column, one.wanted, one.found)
            for one in verify([*ALL, Everything.many.through], connection).differences  # type: ignore[attr-defined]
        ]

    return seen


def test_a_table_of_every_built_in_field_has_no_difference(everything: Any) -> None:
    assert everything() == []


@pytest.mark.families("mariadb")
@pytest.mark.parametrize(
    ("column", "change", "wanted"),
    [
        ("uuid", "char(32) NOT NULL", "uuid"),
        ("positive", "int NOT NULL", "integer UNSIGNED"),
        ("integer", "int unsigned NOT NULL", "integer"),
        ("binary", "blob NOT NULL", "longblob"),
        ("text", "text", "longtext"),
        ("moment", "datetime NOT NULL", "datetime(6)"),
        ("time", "time(3) NOT NULL", "time(6)"),
        ("decimal", "decimal(12,2) NOT NULL", "numeric(12, 3)"),
        ("boolean", "int", "bool"),
        ("small", "int NOT NULL", "smallint"),
        ("json", "longtext NOT NULL", "json"),
        ("double", "float NOT NULL", "double precision"),
    ],
)
def test_mariadb_another_type_is_a_difference(
    family: str, column: str, change: str, wanted: str, everything: Any
) -> None:
    sql(f"ALTER TABLE library_everything MODIFY `{column}` {change}")
    ((seen, want, _found),) = everything()
    assert (seen, want) == (column, wanted)


@pytest.mark.families("postgresql")
@pytest.mark.parametrize(
    ("column", "change", "found"),
    [
        ("uuid", "char(36)", "character(36)"),
        ("moment", "timestamp(3) with time zone", "timestamp(3) with time zone"),
        ("decimal", "numeric(12,2)", "numeric(12,2)"),
        ("json", "json", "json"),
        ("integer", "bigint", "bigint"),
        ("time", "time with time zone", "time with time zone"),
        ("address", "cidr", "cidr"),
    ],
)
def test_postgresql_each_other_type_is_named(
    family: str, column: str, change: str, found: str, everything: Any
) -> None:
    sql(f'ALTER TABLE library_everything ALTER COLUMN "{column}" TYPE {change} USING NULL')
    ((seen, _want, is_),) = everything()
    assert (seen, is_) == (column, found)


@pytest.mark.families("sqlite")
def test_sqlite_each_other_declaration_is_a_difference(family: str, everything: Any) -> None:
    sql(
        "DROP TABLE library_counted",
        'CREATE TABLE library_counted ("number" integer NOT NULL PRIMARY KEY, "small_id" smallint NULL)',
    )
    assert everything() == [
        ("number", "integer unsigned", "INTEGER"),
        ("small_id", "NOT NULL", "NULL"),
    ]


def test_a_generated_column_that_is_written_is_a_difference(family: str, everything: Any) -> None:
    quote = connection.ops.quote_name
    sql(
        f"ALTER TABLE library_everything DROP COLUMN {quote('lowered')}",
        f"ALTER TABLE library_everything ADD COLUMN {quote('lowered')} varchar(30) NULL",
    )
    assert everything() == [("lowered", "generated", "written")]


@pytest.mark.families("postgresql")
def test_postgresqls_own_fields_have_no_difference(family: str, fresh: None) -> None:
    class Own(models.Model):
        words = ArrayField(ArrayField(models.CharField(max_length=7), size=3))
        amounts = ArrayField(models.DecimalField(max_digits=6, decimal_places=2), null=True)
        numbers = IntegerRangeField()
        money = DecimalRangeField(null=True)
        days = DateRangeField()
        moments = DateTimeRangeField()
        found = SearchVectorField(null=True)
        counted = models.GeneratedField(
            expression=models.F("amounts"),
            output_field=ArrayField(models.DecimalField(max_digits=6, decimal_places=2)),
            db_persist=True,
        )

        class Meta:
            app_label = "library"
            apps = Apps()

    with connection.schema_editor() as editor:
        editor.create_model(Own)
    assert verify([Own], connection).differences == ()
    sql("ALTER TABLE library_own ALTER COLUMN words TYPE varchar(8)[]")
    sql("ALTER TABLE library_own ALTER COLUMN numbers TYPE int8range USING NULL")
    assert [(one.column, one.kind) for one in verify([Own], connection).differences] == [
        ("words", "type"),
        ("numbers", "type"),
    ]


@pytest.mark.families("mariadb", "mysql", "postgresql")
def test_a_table_in_another_schema_is_found_there(family: str, fresh: None, second_name: str) -> None:
    if family == "postgresql":
        sql('CREATE SCHEMA "Sales"', 'CREATE TABLE "Sales"."Order" ("Id" integer PRIMARY KEY)')
        name = 'Sales"."Order'
    else:
        sql(f"CREATE TABLE `{second_name}`.`Order` (`Id` integer PRIMARY KEY)")
        name = f"`{second_name}`.`Order`"

    class Order(models.Model):
        id = models.IntegerField(primary_key=True, db_column="Id")

        class Meta:
            app_label = "library"
            apps = Apps()
            managed = False
            db_table = name

    assert verify([Order], connection).differences == ()
    if family == "postgresql":
        Order._meta.db_table = "Order"
        assert [one.kind for one in verify([Order], connection).differences] == ["missing table"]


def test_a_view_of_an_unmanaged_model_is_compared_but_for_null(everything: Any) -> None:
    sql("CREATE VIEW library_view AS SELECT number, small_id FROM library_counted")

    class View(models.Model):
        number = models.PositiveIntegerField(primary_key=True)
        small = models.ForeignKey(Small, models.DO_NOTHING)
        other = models.IntegerField()

        class Meta:
            app_label = "library"
            apps = Apps()
            managed = False
            db_table = "library_view"

    assert [(one.column, one.kind) for one in verify([View], connection).differences] == [("other", "missing column")]


# What cannot be answered


def test_an_unknown_label_is_no_difference_but_an_error(migrated_now: None) -> None:
    for label in ("nothing", "auth.Nothing"):
        with pytest.raises(CommandError, match=label) as raised:
            told(label)
        assert raised.value.returncode == 2


def test_an_unknown_alias_is_an_error(migrated_now: None) -> None:
    with pytest.raises(CommandError, match="'other'") as raised:
        told(database=["other"])
    assert raised.value.returncode == 2


def test_a_field_that_cannot_say_its_type_is_an_error(
    family: str, migrated_now: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> str:
        raise ValueError("no type today")

    monkeypatch.setattr(models.TextField, "db_type", fails, raising=False)
    with pytest.raises(CommandError, match=r"sessions\.Session\.session_data: .* no type today") as raised:
        told("sessions")
    assert raised.value.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--verify", "sites"], 1), (["--verify", "nothing"], 2), (["--types"], 2), (["--verify", "--types", "sites"], 2)],
)
def test_the_exit_code_is_the_process_own(arguments: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "code_settings.py").write_text(
        "INSTALLED_APPS = ['django.contrib.sites', 'django_bridge']\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'empty.sqlite3'}}\n"
        "SECRET_KEY = 'only for the tests'\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "django", "asyncdb_models", *arguments],
        cwd=tmp_path,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "code_settings", "PYTHONPATH": os.pathsep.join([".", ROOT])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert ("missing table" in done.stdout) is (code == 1)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("backend", ["mysql", "postgresql"])
def test_an_unreachable_server_is_an_error_without_its_password(
    backend: str, default: Any, monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any
) -> None:
    from django.db import connections

    default(backend, HOST="127.0.0.1", PORT=1, USER="app", PASSWORD="corr3ct-h0rse")
    monkeypatch.setitem(vars(connections), "settings", connections.configure_settings(settings.DATABASES))
    with django_db_blocker.unblock():
        forget_connections()
        with pytest.raises(CommandError, match="cannot be asked") as raised:
            told()
        forget_connections()
    assert raised.value.returncode == 2
    assert "corr3ct-h0rse" not in str(raised.value)


class OnlySites:
    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return app_label == "sites"


def test_what_the_routers_keep_elsewhere_is_not_compared(fresh: None, project: Any) -> None:
    project(DATABASE_ROUTERS=[f"{__name__}.OnlySites"])
    call_command("migrate", verbosity=0, interactive=False)
    code, text = told()
    assert code == 0
    assert "default: 1 tables, 3 columns, 0 differences" in text
    assert "12 tables left out" in text
    with pytest.raises(CommandError, match="the database routers keep auth off 'default'"):
        told("auth")


# Spellings


@pytest.mark.parametrize(
    ("vendor", "one", "other", "equal"),
    [
        ("mysql", "integer AUTO_INCREMENT", "int(11)", True),
        ("mysql", "bigint UNSIGNED", "bigint(20) unsigned", True),
        ("mysql", "bool", "tinyint(1)", True),
        ("mysql", "bool", "tinyint(4)", False),
        ("mysql", "tinyint(4)", "tinyint", True),
        ("mysql", "numeric(5, 2)", "decimal(5,2)", True),
        ("mysql", "numeric(5)", "decimal(5,0)", True),
        ("mysql", "double precision", "double", True),
        ("mysql", "varchar(50) COLLATE utf8mb4_bin", "varchar(50)", True),
        ("mysql", "enum('A', 'b')", "enum('A','b')", True),
        ("mysql", "enum('A','b')", "enum('a','b')", False),
        ("mysql", "int(10) unsigned zerofill", "int unsigned", True),
        ("mysql", "datetime(6)", "datetime", False),
        ("mysql", "char", "char(1)", True),
        ("postgresql", "varchar(5)", "character varying(5)", True),
        ("postgresql", "varchar", "character varying", True),
        ("postgresql", "varchar(5)[3][2]", "character varying(5)[]", True),
        ("postgresql", "integer[]", "integer", False),
        ("postgresql", "numeric(5, 2)[]", "numeric(5,2)[]", True),
        ("postgresql", "timestamptz(3)", "timestamp(3) with time zone", True),
        ("postgresql", "time", "time without time zone", True),
        ("postgresql", "timestamp with time zone", "timestamp without time zone", False),
        ("postgresql", "bigserial", "bigint", True),
        ("postgresql", "char(2)", "character(2)", True),
        ("postgresql", "double precision", "double precision", True),
        ("postgresql", "geometry(POINT,4326)", "geometry(Point,4326)", True),
        ("postgresql", '"Mood"', '"mood"', False),
        ("sqlite", "bigint unsigned", "bigint  UNSIGNED", True),
        ("sqlite", "varchar(5)", "varchar(6)", False),
        ("sqlite", "text", "TEXT GENERATED ALWAYS", True),
    ],
)
def test_two_spellings_of_one_type_are_equal(vendor: str, one: str, other: str, equal: bool) -> None:
    assert (normalised(vendor, one) == normalised(vendor, other)) is equal
