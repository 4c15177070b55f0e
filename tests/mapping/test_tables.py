"""``table_for``: what a table says of its model."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from sqlalchemy import FetchedValue, Table, select
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import UniqueConstraint
from sqlalchemy.sql.elements import quoted_name

from django_bridge import atomic, database, mapped, session, table_for
from tests.mapping.conftest import models, relations, values

ALL = [*models.EVERYWHERE, *models.POSTGRES, relations.Unmanaged, relations.InSchema]


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.__name__)
def test_each_field_with_a_column_is_one(model: Any) -> None:
    table = table_for(model)
    assert isinstance(table, Table)
    assert table is table_for(model)
    assert table.info["model"] is model
    fields = [field for field in model._meta.local_concrete_fields if field.column]
    assert [column.key for column in table.columns] == [field.attname for field in fields]
    assert [column.name for column in table.columns] == [field.column for field in fields]
    for field in fields:
        column = table.c[field.attname]
        assert column.info["field"] is field
        assert column.type.field is field
        assert column.nullable is field.null
        assert table.c[field.name] is column
        assert table.c[field.column] is column
        assert getattr(table.c, field.attname) is column
        assert getattr(table.c, field.name) is column
        assert isinstance(column.name, quoted_name)
    keys = [field.attname for field in model._meta.pk_fields if field in fields]
    assert [column.key for column in table.primary_key] == keys
    if len(keys) > 1:
        assert "pk" not in table.c


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.__name__)
def test_each_foreign_key_points_where_django_points(model: Any) -> None:
    table = table_for(model)
    wanted = {
        (field.attname, field.target_field.model._meta.db_table, field.target_field.attname)
        for field in model._meta.local_concrete_fields
        if (field.many_to_one or field.one_to_one) and field.column
    }
    found = {
        (key.parent.key, key.column.table.info["model"]._meta.db_table, key.column.key) for key in table.foreign_keys
    }
    assert found == wanted


def test_names_are_split_as_django_quotes_them() -> None:
    table = table_for(relations.InSchema)
    assert (table.schema, table.name) == ("side", "thing")
    printed = str(select(table.c.name).compile(dialect=postgresql.dialect()))
    assert 'FROM "side"."thing"' in printed.replace("side.thing", '"side"."thing"')
    odd = table_for(relations.Constrained)
    assert (odd.schema, odd.name) == (None, "Odd Table")
    assert '"shop_author"' in str(select(table_for(relations.Author).c.id).compile(dialect=sqlite.dialect()))
    assert "`shop_author`" in str(select(table_for(relations.Author).c.id).compile(dialect=mysql.dialect()))


@pytest.mark.families("postgresql")
async def test_a_table_in_another_schema_is_read_and_written(shop: Any, server: Any, database_name: str) -> None:
    server.execute("CREATE SCHEMA side", database=database_name)
    server.execute(
        "CREATE TABLE side.thing (id bigserial PRIMARY KEY, name varchar(50), author_id bigint)", database=database_name
    )
    server.execute("GRANT ALL ON SCHEMA side TO PUBLIC", database=database_name)
    server.execute("GRANT ALL ON ALL TABLES IN SCHEMA side TO PUBLIC", database=database_name)
    server.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA side TO PUBLIC", database=database_name)
    try:
        Thing, Author = mapped(relations.InSchema), mapped(relations.Author)
        async with atomic() as db:
            db.add(Thing(name="t", author=Author(name="a")))
        assert (await relations.InSchema.objects.aget()).name == "t"
        async with session() as db:
            rows = await db.execute(select(Thing.name, Author.name).join(Thing.author))
            assert [tuple(row) for row in rows] == [("t", "a")]
    finally:
        server.execute("DROP SCHEMA side CASCADE", database=database_name)


def test_unique_constraints_and_indexes_are_said() -> None:
    table = table_for(relations.Constrained)
    uniques = {
        tuple(column.key for column in one.columns) for one in table.constraints if isinstance(one, UniqueConstraint)
    }
    assert uniques == {("c",), ("a", "b"), ("b", "c")}
    indexes = {index.name: [getattr(one, "key", str(one)) for one in index.expressions] for index in table.indexes}
    assert indexes["a_then_c"][0] == "a"
    assert "b" in {column.key for index in table.indexes for column in index.columns}


def test_only_the_databases_own_number_is_autoincremented() -> None:
    for model in (values.Small, values.Middle, relations.Author):
        assert table_for(model).c.id.autoincrement is True
    assert table_for(values.ByUUID).c.id.autoincrement is not True
    assert table_for(relations.Line).c.number.autoincrement is not True
    assert table_for(relations.Restaurant).c.place_ptr_id.autoincrement is not True


def test_what_the_database_gives_is_said_to_be_fetched() -> None:
    table = table_for(values.Defaults)
    for name in ("number_in_db", "words_in_db", "clock_in_db"):
        assert isinstance(table.c[name].server_default, FetchedValue)
        assert table.c[name].default is None
    for name in ("constant", "called", "by_uuid", "upper", "added", "both"):
        assert table.c[name].default is not None
    assert table.c.changed.onupdate is not None
    assert table.c.added.onupdate is None
    area = table_for(values.Generated).c.area
    assert isinstance(area.server_default, FetchedValue)
    assert isinstance(area.server_onupdate, FetchedValue)


def test_children_have_their_own_columns_and_proxies_their_models_table() -> None:
    assert "name" not in table_for(relations.Restaurant).c
    assert table_for(relations.StarPlace) is table_for(relations.Place)
    assert table_for(relations.StarRestaurant) is table_for(relations.Restaurant)
    assert table_for(relations.Writer) is table_for(relations.Author)
    assert table_for(relations.Unmanaged).name == table_for(relations.Genre).name
    assert table_for(relations.Unmanaged) is not table_for(relations.Genre)
    assert "stamp" in table_for(relations.Place).c


def test_all_tables_are_of_one_metadata() -> None:
    assert table_for(relations.Book).metadata is table_for(values.Price).metadata
    through = relations.Book.genres.through
    assert {column.key for column in table_for(through).c} == {"id", "book_id", "genre_id"}


async def test_every_column_is_in_the_live_table(shop: Any) -> None:
    made = [*models.EVERYWHERE, *(models.POSTGRES if shop.family == "postgresql" else [])]

    def look(connection: Any) -> dict[str, set[str]]:
        inspector = sa_inspect(connection)
        return {
            model._meta.db_table: {column["name"] for column in inspector.get_columns(model._meta.db_table)}
            for model in made
        }

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy's reflection does not know the types of extensions
        async with session() as db:
            there = await (await db.connection()).run_sync(look)
    for model in made:
        assert {column.name for column in table_for(model).columns} == there[model._meta.db_table]


async def test_every_model_is_selected_whole(shop: Any) -> None:
    for model in ALL:
        if model is relations.InSchema or (model in models.POSTGRES and shop.family != "postgresql"):
            continue
        assert await database().fetch_all(select(table_for(model))) == []
        async with session() as db:
            assert (await db.scalars(select(mapped(model)))).all() == []


async def test_a_statement_of_any_model_is_printed_without_a_server(shop: Any) -> None:
    dialects = {
        "sqlite": sqlite.dialect,
        "mariadb": mysql.dialect,
        "mysql": mysql.dialect,
        "postgresql": postgresql.dialect,
    }
    for model in ALL:
        for dialect in (dialects[shop.family](), None):
            assert str(select(table_for(model)).compile(dialect=dialect)).startswith("SELECT")
