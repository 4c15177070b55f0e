"""Values that Django writes are read equal through SQLAlchemy, in type and value, and the other way round."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.db.models import JSONField, Value
from sqlalchemy import JSON as JSON_OF_SQLALCHEMY
from sqlalchemy import insert, select, update

from django_bridge import atomic, database, mapped, run_django, session, sync_session, table_for
from tests.bridge.joining import in_a_test_case
from tests.mapping.conftest import exact
from tests.mapping.shop.custom import Colour, Money

JSON = {"ä": [1, -2.5, None, True, "🐍", {"deep": {"er": []}}], "": "", "big": 2**53, "quote": "'\"\\%s%%:x?"}
TEXT = "Zażółć 🐍 'quoted' \"double\" back\\slash 100% %s :name ? $1 \n\r\t"

EVERYTHING: dict[str, dict[str, Any]] = {
    "full": {
        "big": 2**63 - 1,
        "binary": bytes(range(256)) * 3,
        "boolean": True,
        "char": TEXT,
        "date": date(2024, 2, 29),
        "moment": datetime(2024, 7, 1, 23, 30, 15, 123456, tzinfo=ZoneInfo("America/New_York")),
        "decimal": Decimal("12345678.123456"),  # SQLite keeps fifteen digits
        "duration": timedelta(days=-3, hours=5, microseconds=7),
        "email": "ü@example.org",
        "file": "files/a b.txt",
        "path": "/tmp/ä",
        "double": 0.1,
        "address": "2001:db8::1",
        "integer": 2**31 - 1,
        "json": JSON,
        "positive_big": 2**63 - 1,
        "positive": 2**31 - 1,
        "positive_small": 2**15 - 1,
        "slug": "a-slug",
        "small": 2**15 - 1,
        "text": TEXT * 10,
        "time": time(23, 59, 59, 999999),
        "url": "https://example.org/?a=%20",
        "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    },
    "empty": {},
    "edges": {
        "big": -(2**63),
        "binary": b"",
        "boolean": False,
        "char": "",
        "date": date(1000, 1, 1),
        "moment": datetime(1970, 1, 2, tzinfo=UTC),
        "decimal": Decimal("-0.000001"),
        "duration": timedelta(0),
        "double": -1.7976931348623157e300,
        "address": "127.0.0.1",
        "integer": -(2**31),
        "json": [],
        "positive": 0,
        "small": -(2**15),
        "text": "x" * 70_000,
        "time": time(0, 0),
        "uuid": uuid.UUID(int=0),
    },
    "more": {
        "big": 0,
        "binary": b"\x00\\'\"%\x1a",
        "date": date(9999, 12, 31),
        "moment": datetime(2024, 1, 1, 0, 0, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "decimal": Decimal("100.000000"),
        "duration": timedelta(days=400, microseconds=1),
        "double": 1e-300,
        "address": "::ffff:10.0.0.1",
        "json": "just text",
        "text": "\\",
        "time": time(12, 30, 1),
    },
    "json": {"json": 12},
    "json true": {"json": True},
    "json of nothing": {"json": {}},
    "json big": {"json": 2**60},
    "json float": {"json": 1.5},
    "looser types": {
        "big": True,
        "decimal": 7,
        "double": 3,
        "char": 12,
        "uuid": "12345678123456781234567812345678",
        "date": "2024-02-29",
        "time": "12:30:00.5",
        "integer": "5",
        "boolean": "1",
    },
}
CUSTOM: dict[str, dict[str, Any]] = {
    "full": {
        "code": "ab12",
        "ci": "MiXed Ä",
        "secret": "geheim 🐍",
        "colour": Colour.RED,
        "money": Money(Decimal("12.50"), "EUR"),
        "hexa": "ff",
        "sets": {"of": {1, 2}, "list": [1]},
        "rich": {"when": "2024-01-01", "d": [1.5]},
    },
    "empty": {},
    "edges": {
        "code": "",
        "ci": "",
        "secret": "",
        "colour": "GREEN",
        "money": "0.1 CHF",
        "hexa": 0,
        "sets": [{3}],
        "rich": {"at": datetime(2024, 1, 1, tzinfo=UTC), "d": Decimal("1.5"), "u": uuid.UUID(int=5)},
    },
}
CASES = [
    *(pytest.param("Everything", values, id=name) for name, values in EVERYTHING.items()),
    *(pytest.param("Custom", values, id=f"custom {name}") for name, values in CUSTOM.items()),
]
each = pytest.mark.parametrize(("name", "values"), CASES)
ZONES = [
    pytest.param({"USE_TZ": True}, {}, id="zones"),
    pytest.param({"USE_TZ": False}, {}, id="no zones"),
    pytest.param({"USE_TZ": True}, {"TIME_ZONE": "Asia/Tokyo"}, id="zone of the database"),
]


def attnames(model: Any) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields if not field.primary_key]


def as_django_reads(model: Any) -> list[dict[str, Any]]:
    return [exact(row)[1] for row in model.objects.order_by("pk").values(*attnames(model))]


def as_mapped(model: Any, rows: Any) -> list[dict[str, Any]]:
    return [{name: exact(getattr(row, name)) for name in attnames(model)} for row in rows]


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Compares rows value by value, so that a difference can be read."""
    assert len(found) == len(wanted)
    for number, (row, other) in enumerate(zip(found, wanted, strict=True)):
        different = {name: (row[name], other[name]) for name in other if row[name] != other[name]}
        assert not different, (number, str(different)[:2000])


def adapted(model: Any, values: dict[str, Any], *, zones: bool) -> dict[str, Any]:
    if not zones and "moment" in values:
        values = values | {"moment": values["moment"].replace(tzinfo=None)}
    return values


# -- what Django writes ------------------------------------------------------------------------------------------------


@each
@pytest.mark.contract
async def test_what_django_writes_is_read_equal(name: str, values: dict[str, Any], shop: Any) -> None:
    model = getattr(shop.values, name)
    shop.in_plain_thread(lambda: model.objects.create(**values))
    wanted = shop.in_plain_thread(as_django_reads, model)
    table = table_for(model)
    async with session() as db:
        assert as_mapped(model, (await db.scalars(select(mapped(model)))).all()) == wanted
        assert as_mapped(model, (await db.execute(select(table))).all()) == wanted
        for column in attnames(model):
            found = (await db.scalars(select(getattr(mapped(model), column)))).one()
            assert exact(found) == wanted[0][column], column
    rows = await database().fetch_all(select(table))
    assert as_mapped(model, rows) == wanted
    for found in shop.in_plain_thread(in_sync_session, model):
        same(found, wanted)


def in_sync_session(model: Any) -> list[Any]:
    with sync_session() as db:
        return [
            as_mapped(model, db.scalars(select(mapped(model))).all()),
            as_mapped(model, db.execute(select(table_for(model))).all()),
        ]


@pytest.mark.parametrize(("settings", "options"), ZONES)
async def test_moments_have_the_zone_that_django_gives_them(
    settings: dict[str, Any], options: dict[str, Any], shop: Any, project: Any
) -> None:
    project(**settings)
    shop.configure(**options)
    model = shop.values.Everything
    rows = [adapted(model, values, zones=settings["USE_TZ"]) for values in EVERYTHING.values()]
    shop.in_plain_thread(lambda: model.objects.bulk_create([model(**values) for values in rows]))
    wanted = shop.in_plain_thread(as_django_reads, model)
    Everything = mapped(model)
    async with session() as db:
        assert as_mapped(model, (await db.scalars(select(Everything).order_by(Everything.id))).all()) == wanted
        db.add_all([Everything(**values) for values in rows])
        await db.commit()
    both = shop.in_plain_thread(as_django_reads, model)
    assert both == [*wanted, *wanted]
    written = EVERYTHING["full"]["moment"]
    if not settings["USE_TZ"]:
        written = written.replace(tzinfo=None)
    async with session() as db:
        found = await db.scalars(select(Everything.id).where(Everything.moment == written))
        assert len(found.all()) == 2
    same(in_plain_sync(shop, model), both)


def in_plain_sync(shop: Any, model: Any) -> Any:
    Mapped = mapped(model)

    def ask() -> Any:
        with sync_session() as db:
            return as_mapped(model, db.scalars(select(Mapped).order_by(Mapped.id)).all())

    return shop.in_plain_thread(ask)


# -- what SQLAlchemy writes --------------------------------------------------------------------------------------------


@each
@pytest.mark.contract
async def test_what_is_written_is_what_django_would_write(name: str, values: dict[str, Any], shop: Any) -> None:
    model = getattr(shop.values, name)
    Mapped, table = mapped(model), table_for(model)
    shop.in_plain_thread(lambda: model.objects.create(**values))
    async with atomic() as db:
        db.add(Mapped(**values))
        await db.flush()
        await db.execute(insert(table).values(**values))
        await db.execute(insert(Mapped).values(**values))
        await db.execute(insert(table), [values, values] if values else [{}])
        if values:
            await db.execute(insert(table).values([values, values]))
        empty = Mapped()
        db.add(empty)
        await db.flush()
        await db.execute(update(table).where(table.c.id == empty.id).values(**values)) if values else None
        row = Mapped()
        db.add(row)
        await db.flush()
        for key, value in values.items():
            setattr(row, key, value)
    shop.in_plain_thread(by_sync_session, model, values)
    found = shop.in_plain_thread(as_django_reads, model)
    assert len(found) > 5
    for number, row in enumerate(found):
        assert row == found[0], number
    assert stored(shop, model, number=len(found)) == 1


def by_sync_session(model: Any, values: dict[str, Any]) -> None:
    with sync_session() as db:
        db.add(mapped(model)(**values))
        db.execute(insert(table_for(model)).values(**values))


def stored(shop: Any, model: Any, *, number: int) -> int:
    """How many different rows there are as the database itself prints them."""

    def ask() -> int:
        columns = [connection.ops.quote_name(field.column) for field in model._meta.concrete_fields[1:]]
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(columns)} FROM {connection.ops.quote_name(model._meta.db_table)}")
            rows = [repr([bytes(v) if isinstance(v, memoryview) else v for v in row]) for row in cursor.fetchall()]
        assert len(rows) == number
        return len(set(rows))

    return int(shop.in_plain_thread(ask))


@each
async def test_values_are_found_by_themselves(name: str, values: dict[str, Any], shop: Any) -> None:
    model = getattr(shop.values, name)
    Mapped = mapped(model)
    shop.in_plain_thread(lambda: [model.objects.create(**values), model.objects.create()])

    def asks() -> list[Any]:
        found = []
        for key, value in values.items():
            column = getattr(Mapped, key)
            if key not in {"json", "double", "sets", "rich"}:
                found += [(key, column == value), (key, column.in_([value]))]
            if key != "file":  # Django writes no NULL there
                found.append((key, ~column.is_(None)))
        return found

    async with session() as db:
        for key, condition in asks():
            assert len((await db.scalars(select(Mapped).where(condition))).all()) == 1, (key, str(condition))

    def in_sync() -> None:
        with sync_session() as db:
            for key, condition in asks():
                assert len(db.scalars(select(Mapped).where(condition)).all()) == 1, (key, str(condition))

    shop.in_plain_thread(in_sync)


# -- NULL --------------------------------------------------------------------------------------------------------------


async def test_null_of_sql_and_of_json_are_what_they_are_for_django(shop: Any) -> None:
    model = shop.values.Everything
    Everything = mapped(model)

    def write() -> None:
        model.objects.create(json=None, char="sql")
        model.objects.create(json=Value(None, JSONField()), char="json")

    shop.in_plain_thread(write)
    async with atomic() as db:
        db.add(Everything(json=None, char="sql"))
        await db.execute(insert(table_for(model)).values(json=None, char="sql"))
        rows = (await db.execute(select(Everything.char, Everything.json))).all()
        assert {value for _, value in rows} == {None}
        nulls = await db.scalars(select(Everything.char).where(Everything.json.is_(None)))
        assert sorted(nulls.all()) == ["sql", "sql", "sql"]

        db.add(Everything(json=JSON_OF_SQLALCHEMY.NULL, char="json"))

    def count() -> list[int]:
        objects = model.objects
        return [objects.filter(json__isnull=True).count(), objects.filter(json=Value(None, JSONField())).count()]

    assert shop.in_plain_thread(count) == [3, 2]


# -- in joined tests, where Django's own driver is below ---------------------------------------------------------------


def test_values_are_equal_on_djangos_own_driver(sync_shop: Any) -> None:
    model = sync_shop.values.Everything
    Everything = mapped(model)

    def check(write: Callable[[dict[str, Any]], Any], read: Callable[[], Any]) -> None:
        for values in EVERYTHING.values():
            model.objects.create(**values)
        wanted = as_django_reads(model)
        assert read() == wanted
        for values in EVERYTHING.values():
            write(values)
        assert as_django_reads(model) == [*wanted, *wanted]

    async def joined(case: Any) -> None:
        async with atomic() as db:
            assert (await db.scalars(select(Everything))).all() == []

        async def create() -> None:
            for values in EVERYTHING.values():
                await model.objects.acreate(**values)

        await create()
        wanted = await run_django(as_django_reads, model)
        async with session() as db:
            rows = (await db.scalars(select(Everything).order_by(Everything.id))).all()
            assert as_mapped(model, rows) == wanted
            db.add_all([Everything(**values) for values in EVERYTHING.values()])
            await db.commit()
        assert await run_django(as_django_reads, model) == [*wanted, *wanted]

    def sync(case: Any) -> None:
        with sync_session() as db:

            def write(values: dict[str, Any]) -> None:
                db.add(Everything(**values))
                db.flush()

            def read() -> Any:
                return as_mapped(model, db.scalars(select(Everything).order_by(Everything.id)).all())

            check(write, read)

    in_a_test_case(joined, sync)


async def test_a_large_value_goes_both_ways(shop: Any) -> None:
    model = shop.values.Everything
    Everything = mapped(model)
    large = bytes(range(256)) * 8192
    async with atomic() as db:
        db.add(Everything(binary=large, text="ż" * 300_000))
    found = shop.in_plain_thread(model.objects.get)
    assert bytes(found.binary) == large
    assert found.text == "ż" * 300_000
    async with session() as db:
        row = (await db.scalars(select(Everything))).one()
        assert bytes(row.binary) == large
        assert len(row.text) == 300_000


async def test_a_value_that_the_field_refuses_is_refused_by_name_and_without_the_value(shop: Any) -> None:
    model = shop.values.Everything
    Everything = mapped(model)
    from django_bridge.errors import FieldValueError

    for name, value in {
        "integer": "secret42x",
        "uuid": "secret42x",
        "date": "secret42x",
        "decimal": "secret42x",
    }.items():
        async with session() as db:
            with pytest.raises(Exception) as caught:
                await db.scalars(select(Everything).where(getattr(Everything, name) == value))
            causes = []
            error: BaseException | None = caught.value
            while error is not None and error not in causes:
                causes.append(error)
                error = error.__cause__
            assert any(isinstance(one, FieldValueError) for one in causes), (name, causes)
            assert name in str(caught.value)
            assert "secret42x" not in str(caught.value)
            assert (await db.scalars(select(Everything))).all() == []
