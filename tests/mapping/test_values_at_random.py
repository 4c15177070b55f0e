"""Values that nobody thought of: what Django writes SQLAlchemy reads equal, and the other way round."""

from __future__ import annotations

import string
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from django_bridge import mapped, session, sync_session
from tests.bridge.joining import on_its_own_loop
from tests.mapping.shop.custom import Colour, Money
from tests.mapping.test_values import as_django_reads, as_mapped, same

# PostgreSQL keeps no NUL in text, and none of the families a lone surrogate.
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MOMENTS = st.datetimes(datetime(1000, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "big": st.integers(-(2**63), 2**63 - 1),
    "binary": st.binary(max_size=60),
    "boolean": st.booleans(),
    "char": TEXT,
    "date": st.dates(date(1000, 1, 1)),
    "moment": MOMENTS,
    "decimal": st.decimals(Decimal(-99999999), Decimal(99999999), places=6),
    "duration": st.timedeltas(timedelta(days=-10000), timedelta(days=10000)),
    "double": st.floats(
        allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300, allow_subnormal=False
    ),
    "address": st.ip_addresses().map(str),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "json": JSON.filter(lambda value: value is not None),
    "positive_big": st.integers(0, 2**63 - 1),
    "small": st.integers(-(2**15), 2**15 - 1),
    "slug": st.text(string.ascii_lowercase + string.digits + "-_", max_size=30),
    "text": TEXT,
    "time": st.times(),
    "uuid": st.uuids(version=4),  # MariaDB refuses some of the others
}
CUSTOM: dict[str, st.SearchStrategy[Any]] = {
    "ci": TEXT,
    "secret": TEXT,
    "colour": st.sampled_from(Colour),
    "money": st.builds(Money, st.decimals(-1000, 1000, places=2), st.sampled_from(["EUR", "CHF"])),
    "hexa": st.integers(0, 2**62).map(lambda number: f"{number:x}"),
    "sets": st.dictionaries(st.just("of"), st.frozensets(st.integers(0, 9), max_size=3).map(set)),
}


def rows(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries({}, optional=fields), min_size=1, max_size=12)


@pytest.mark.parametrize(("name", "fields"), [("Everything", FIELDS), ("Custom", CUSTOM)])
def test_any_value_is_the_same_for_both(name: str, fields: dict[str, Any], sync_shop: Any) -> None:
    model = getattr(sync_shop.values, name)
    Mapped = mapped(model)

    @settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(rows(fields))
    def check(values: list[dict[str, Any]]) -> None:
        model.objects.all().delete()
        for one in values:
            model(**one).save()
        wanted = as_django_reads(model)

        async def by_the_pool() -> Any:
            async with session() as db:
                read = as_mapped(model, (await db.scalars(select(Mapped).order_by(Mapped.id))).all())
                for one in values:
                    db.add(Mapped(**one))
                    await db.flush()
                await db.commit()
                return read

        same(on_its_own_loop(by_the_pool), wanted)
        same(as_django_reads(model), [*wanted, *wanted])
        with sync_session() as db:
            read = as_mapped(model, db.scalars(select(Mapped).order_by(Mapped.id)).all())
            for one in values:
                db.add(Mapped(**one))
                db.flush()
        same(read, [*wanted, *wanted])
        same(as_django_reads(model), [*wanted, *wanted, *wanted])

    check()
