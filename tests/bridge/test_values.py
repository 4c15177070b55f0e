"""Values that the ORM on the loop writes are the ones that Django's own drivers read in a plain thread, and back."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models import Avg, Count, F, Max, Min, Sum
from django.db.models.functions import Now, TruncDay

from django_bridge import run_django, scope

JSON = {"ä": [1, -2.5, None, True, "🐍", {"deep": {"er": []}}], "": "", "big": 2**53, "quote": "'\"\\%s%%"}
ROWS: dict[str, dict[str, Any]] = {
    "full": {
        "binary": bytes(range(256)) * 3,
        "boolean": True,
        "big": 2**63 - 1,
        "date": date(2024, 2, 29),
        "moment": datetime(2024, 7, 1, 23, 30, 15, 123456, tzinfo=ZoneInfo("America/New_York")),
        "decimal": Decimal("12345678.123456"),  # SQLite keeps fifteen digits
        "duration": timedelta(days=-3, hours=5, microseconds=7),
        "double": 0.1,
        "address": "2001:db8::1",
        "json": JSON,
        "text": "Zażółć 🐍 'quoted' \"double\" back\\slash 100% %s \n\r\t",
        "time": time(23, 59, 59, 999999),
        "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    },
    "empty": {"text": ""},
    "edges": {
        "binary": b"",
        "boolean": False,
        "big": -(2**63),
        "date": date(1000, 1, 1),
        "moment": datetime(1970, 1, 2, tzinfo=UTC),
        "decimal": Decimal("-0.000001"),
        "duration": timedelta(0),
        "double": -1.7976931348623157e300,
        "address": "127.0.0.1",
        "json": [],
        "text": "x" * 70_000,
        "time": time(0, 0),
        "uuid": uuid.UUID(int=0),
    },
    "more": {
        "binary": b"\x00\\'\"%\x1a",
        "big": 0,
        "date": date(9999, 12, 31),
        "moment": datetime(2024, 1, 1, 0, 0, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "decimal": Decimal("100.000000"),
        "duration": timedelta(days=400, microseconds=1),
        "double": 1e-300,
        "json": "just text",
        "text": "\\",
        "time": time(12, 30, 1),
    },
}
each = pytest.mark.parametrize("values", ROWS.values(), ids=ROWS)


@pytest.fixture
async def stored(shop: Any) -> Any:
    await shop.create(shop.models.Value)
    return shop.models.Value.objects


def exactly(row: Any) -> dict[str, Any]:
    """The values of one instance with their types, what is a buffer as bytes."""
    found = {}
    for field in row._meta.concrete_fields:
        value = getattr(row, field.attname)
        found[field.attname] = (type(value).__name__, bytes(value) if isinstance(value, memoryview) else value)
    return found


def read(stored: Any) -> list[dict[str, Any]]:
    return [exactly(row) for row in stored.order_by("pk")]


@each
@pytest.mark.contract
async def test_what_the_loop_writes_a_plain_thread_reads(values: dict[str, Any], shop: Any, stored: Any) -> None:
    await stored.acreate(**values)
    row = shop.in_plain_thread(read, stored)[0]
    for name, value in values.items():
        assert row[name][1] == value, name
    assert all(value is None for name, (_, value) in row.items() if name not in {*values, "id", "text"})


@each
async def test_what_a_plain_thread_writes_the_loop_reads_equally_in_value_and_type(
    values: dict[str, Any], shop: Any, stored: Any
) -> None:
    shop.in_plain_thread(lambda: stored.create(**values))
    wanted = shop.in_plain_thread(read, stored)
    assert [exactly(row) async for row in stored.all()] == wanted
    assert [exactly(row) async for row in stored.aiterator()] == wanted
    assert [exactly(await stored.aget())] == wanted
    assert await run_django(read, stored) == wanted
    async with scope():
        assert await sync_to_async(read)(stored) == wanted


@each
async def test_values_of_a_bulk_create_and_of_updates_are_equal_too(
    values: dict[str, Any], shop: Any, stored: Any
) -> None:
    await stored.abulk_create([stored.model(**values), stored.model()])
    first, second = [row async for row in stored.order_by("pk")]
    await stored.filter(pk=second.pk).aupdate(**values)
    for name, value in values.items():
        setattr(first, name, value)
    await first.asave()
    first, second = shop.in_plain_thread(read, stored)
    assert first | {"id": 0} == second | {"id": 0}
    for name, value in values.items():
        assert first[name][1] == value, name


@each
async def test_values_are_found_by_themselves(values: dict[str, Any], stored: Any) -> None:
    await stored.acreate(**values)
    for name, value in values.items():
        if name not in {"json", "double"}:
            assert await stored.filter(**{name: value}).acount() == 1, name
    await stored.all().adelete()


@pytest.mark.contract
async def test_rows_of_a_cursor_are_those_of_djangos_own_driver(shop: Any, stored: Any) -> None:
    for values in ROWS.values():
        await stored.acreate(**values)

    def raw() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM shelf_value ORDER BY id")
            columns = [column[0] for column in cursor.description]
            return columns, [
                [(type(v).__name__, bytes(v) if isinstance(v, memoryview) else v) for v in row]
                for row in cursor.fetchall()
            ]

    wanted = shop.in_plain_thread(raw)
    assert await run_django(raw) == wanted
    async with scope():
        assert await sync_to_async(raw)() == wanted


async def test_values_lists_and_expressions_are_equal(shop: Any, stored: Any) -> None:
    for values in ROWS.values():
        await stored.acreate(**values)

    def ask() -> list[Any]:
        several = stored.exclude(date=None)
        return [
            list(several.values_list("pk", "decimal", "time", "duration", "uuid", "moment").order_by("pk")),
            several.aggregate(Sum("decimal"), Avg("big"), Max("moment"), Min("time"), Count("pk")),
            list(several.dates("date", "year")),
            list(several.filter(moment__gt=datetime(1971, 1, 1, tzinfo=UTC)).datetimes("moment", "hour", tzinfo=UTC)),
            list(
                several.annotate(day=TruncDay("moment", tzinfo=UTC), twice=F("decimal") * 2).values_list("day", "twice")
            ),
            list(stored.filter(json__has_key="ä").values_list("json", flat=True)),
            list(stored.filter(json__big=2**53).values_list("json__ä__0", flat=True)),
            sorted(map(str, stored.values_list("address", flat=True))),
            list(stored.filter(text__contains="%").values_list("text", flat=True)),
        ]

    wanted = repr(shop.in_plain_thread(ask))
    assert repr(await run_django(ask)) == wanted
    async with scope():
        assert repr(await sync_to_async(ask)()) == wanted


async def test_the_servers_clock_is_read_in_the_same_zone(shop: Any, stored: Any) -> None:
    await stored.acreate(moment=Now())
    there = shop.in_plain_thread(lambda: stored.get().moment)
    here = (await stored.aget()).moment
    assert here == there
    assert abs(here - datetime.now(UTC)) < timedelta(minutes=5)


async def test_a_large_value_goes_both_ways(shop: Any, stored: Any) -> None:
    large = bytes(range(256)) * 8192
    await stored.acreate(binary=large, text="ż" * 300_000)
    row = await stored.aget()
    assert bytes(row.binary) == large
    assert shop.in_plain_thread(lambda: bytes(stored.get().binary)) == large
    assert len(row.text) == 300_000
