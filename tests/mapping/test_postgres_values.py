"""The fields of ``django.contrib.postgres``: values as Django reads and writes them, and their operators."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.postgres.search import SearchVector
from django.db.backends.postgresql.psycopg_any import DateRange, DateTimeTZRange, NumericRange
from sqlalchemy import any_, func, insert, select

from django_bridge import atomic, mapped, session, sync_session, table_for
from tests.mapping.conftest import exact
from tests.mapping.shop.custom import Colour
from tests.mapping.test_values import as_django_reads, as_mapped, same

pytestmark = pytest.mark.families("postgresql")

MOMENT = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
ARRAYS: dict[str, dict[str, Any]] = {
    "full": {
        "integers": [1, -2, None, 2**31 - 1],
        "nested": [[1, 2], [3, 4]],
        "chars": ["a", "", 'quo"te', "com,ma", "{br}", "ä🐍", "back\\slash", "NULL", "%s"],
        "texts": ["a\nb", "x" * 5000],
        "decimals": [Decimal("1.50"), Decimal("-0.01")],
        "jsons": [{"a": [1, None]}, 5, "text", [1], True],
        "inets": ["127.0.0.1", "2001:db8::1"],
        "dates": [date(2024, 2, 29), date(1, 1, 1)],
        "moments": [MOMENT, datetime(1970, 1, 1, tzinfo=UTC)],
        "uuids": [uuid.UUID(int=5)],
        "booleans": [True, False],
        "colours": [Colour.RED, Colour.GREEN],
        "secrets": ["geheim", ""],
    },
    "empty": {
        name: []
        for name in ("integers", "nested", "chars", "texts", "decimals", "jsons", "inets", "dates", "moments", "uuids")
    },
    "null": {},
}
RANGES: dict[str, dict[str, Any]] = {
    "full": {
        "integers": NumericRange(1, 5),
        "bigs": NumericRange(-(2**62), 2**62),
        "decimals": NumericRange(Decimal("1.5"), Decimal("2.5"), "[]"),
        "dates": DateRange(date(2024, 1, 1), date(2024, 2, 1)),
        "moments": DateTimeTZRange(MOMENT, datetime(2025, 1, 1, tzinfo=UTC), "(]"),
    },
    "open": {
        "integers": NumericRange(None, 5),
        "bigs": NumericRange(3, None),
        "decimals": NumericRange(None, None),
        "dates": DateRange(None, date(2024, 1, 1)),
        "moments": DateTimeTZRange(MOMENT, None),
    },
    "empty": {"integers": NumericRange(empty=True), "dates": DateRange(empty=True)},
    "pairs": {"integers": (1, 5), "decimals": [1, 2], "dates": (date(2024, 1, 1), None)},
    "null": {},
}
STORES: dict[str, dict[str, Any]] = {
    "full": {
        "store": {"a": "1", "ä": 'qu"ote', "none": None, "": "=>", "back\\": "'"},
        "stores": [{"a": "b"}, {}],
    },
    "empty": {"store": {}, "stores": []},
    "numbers": {"store": {"a": 1}},
    "null": {},
}
CASES = [
    *(pytest.param("Arrays", values, id=f"arrays {name}") for name, values in ARRAYS.items()),
    *(pytest.param("Ranges", values, id=f"ranges {name}") for name, values in RANGES.items()),
    *(pytest.param("Stores", values, id=f"stores {name}") for name, values in STORES.items()),
]
each = pytest.mark.parametrize(("name", "values"), CASES)


@each
async def test_what_django_writes_is_read_equal(name: str, values: dict[str, Any], shop: Any) -> None:
    model = getattr(shop.postgres, name)
    shop.in_plain_thread(lambda: model.objects.create(**values))
    wanted = shop.in_plain_thread(as_django_reads, model)
    async with session() as db:
        same(as_mapped(model, (await db.scalars(select(mapped(model)))).all()), wanted)
        same(as_mapped(model, (await db.execute(select(table_for(model)))).all()), wanted)

    def in_sync() -> Any:
        with sync_session() as db:
            return as_mapped(model, db.scalars(select(mapped(model))).all())

    same(shop.in_plain_thread(in_sync), wanted)


@each
async def test_what_is_written_is_what_django_would_write(name: str, values: dict[str, Any], shop: Any) -> None:
    model = getattr(shop.postgres, name)
    shop.in_plain_thread(lambda: model.objects.create(**values))
    async with atomic() as db:
        db.add(mapped(model)(**values))
        await db.flush()
        await db.execute(insert(table_for(model)), [values, values] if values else [{}])
        await db.execute(insert(table_for(model)).values(**values))

    def in_sync() -> Any:
        with sync_session() as db:
            db.add(mapped(model)(**values))

    shop.in_plain_thread(in_sync)
    found = shop.in_plain_thread(as_django_reads, model)
    assert len(found) > 3
    for row in found:
        same([row], found[:1])


@each
async def test_values_are_found_by_themselves(name: str, values: dict[str, Any], shop: Any) -> None:
    model = getattr(shop.postgres, name)
    Mapped = mapped(model)
    shop.in_plain_thread(lambda: [model.objects.create(**values), model.objects.create()])

    def conditions() -> Any:
        for key, value in values.items():
            if key not in {"jsons", "stores"}:
                column = getattr(Mapped, key)
                yield from ((key, column == value), (key, column.in_([value])))

    async with session() as db:
        for key, condition in conditions():
            assert len((await db.scalars(select(Mapped).where(condition))).all()) == 1, key

    def in_sync() -> None:
        with sync_session() as db:
            for key, condition in conditions():
                assert len(db.scalars(select(Mapped).where(condition)).all()) == 1, key

    shop.in_plain_thread(in_sync)


async def test_arrays_have_their_operators(shop: Any) -> None:
    model = shop.postgres.Arrays
    Arrays = mapped(model)
    shop.in_plain_thread(lambda: [model.objects.create(**ARRAYS["full"]), model.objects.create()])

    def conditions() -> list[Any]:
        return [
            Arrays.integers.contains([1]),
            Arrays.chars.contains(["com,ma", "a"]),
            Arrays.chars.contained_by(ARRAYS["full"]["chars"]),
            Arrays.chars.overlap(["a", "other"]),
            Arrays.decimals.contains([Decimal("1.5")]),
            Arrays.dates.overlap([date(1, 1, 1)]),
            Arrays.moments.contains([MOMENT]),
            Arrays.uuids.contains([uuid.UUID(int=5)]),
            Arrays.colours.contains([Colour.RED]),
            Arrays.secrets.contains(["geheim"]),
            Arrays.inets.contains(["127.0.0.1"]),
            Arrays.integers[1] == 1,
            Arrays.nested[2][1] == 3,
            any_(Arrays.chars) == "a",
            Arrays.colours[1] == Colour.RED,
            func.array_length(Arrays.integers, 1) == 4,
            func.cardinality(Arrays.nested) == 4,
        ]

    async with session() as db:
        for condition in conditions():
            assert len((await db.scalars(select(Arrays).where(condition))).all()) == 1, str(condition)
        found = (
            await db.execute(
                select(Arrays.integers[2], Arrays.colours[2], Arrays.secrets[1], Arrays.nested[1][2]).where(
                    Arrays.integers.is_not(None)
                )
            )
        ).one()
        assert exact(tuple(found)) == exact((-2, Colour.GREEN, "geheim", 2))

    def in_sync() -> None:
        with sync_session() as db:
            for condition in conditions():
                assert len(db.scalars(select(Arrays).where(condition)).all()) == 1, str(condition)

    shop.in_plain_thread(in_sync)


async def test_ranges_and_stores_have_their_operators(shop: Any) -> None:
    Ranges, Stores = mapped(shop.postgres.Ranges), mapped(shop.postgres.Stores)

    def write() -> None:
        shop.postgres.Ranges.objects.create(**RANGES["full"])
        shop.postgres.Ranges.objects.create()
        shop.postgres.Stores.objects.create(store={"a": "1", "b": "2"})
        shop.postgres.Stores.objects.create()
        shop.postgres.Stores.objects.filter(store__a="1").update(vector=SearchVector("store"))

    shop.in_plain_thread(write)

    def statements() -> list[Any]:
        return [
            *(
                select(Ranges).where(condition)
                for condition in (
                    Ranges.integers.contains(3),
                    Ranges.integers.contains(NumericRange(2, 3)),
                    Ranges.integers.overlaps(NumericRange(4, 9)),
                    Ranges.integers.contained_by(NumericRange(0, 100)),
                    Ranges.decimals.contains(Decimal("1.5")),
                    Ranges.dates.contains(date(2024, 1, 15)),
                    Ranges.moments.contains(datetime(2024, 6, 1, tzinfo=UTC)),
                    func.lower(Ranges.integers) == 1,
                    func.upper(Ranges.dates) == date(2024, 2, 1),
                )
            ),
            *(
                select(Stores).where(condition)
                for condition in (
                    Stores.store["a"] == "1",
                    Stores.store.has_key("b"),
                    Stores.store.contains({"a": "1"}),
                    Stores.vector.is_not(None),
                )
            ),
        ]

    async with session() as db:
        for statement in statements():
            assert len((await db.scalars(statement)).all()) == 1, str(statement)

    def in_sync() -> None:
        with sync_session() as db:
            for statement in statements():
                assert len(db.scalars(statement).all()) == 1, str(statement)

    shop.in_plain_thread(in_sync)
