"""Columns in comparisons and expressions: the operators of the nearest built-in type, the values of the field."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Avg, Max, Min, Sum
from sqlalchemy import bindparam, case, cast, func, literal, select, text, tuple_, union_all, update
from sqlalchemy import types as sqltypes
from sqlalchemy.orm import aliased

from django_bridge import atomic, mapped, session, sync_session, table_for
from tests.mapping.conftest import exact
from tests.mapping.shop.custom import Colour
from tests.mapping.test_values import CUSTOM, EVERYTHING, as_django_reads, attnames

ROWS: list[dict[str, Any]] = [
    {
        "name": "apple 100%",
        "price": Decimal("1.50"),
        "count": 3,
        "day": date(2024, 2, 28),
        "moment": datetime(2024, 2, 28, 23, 59, tzinfo=UTC),
        "span": timedelta(hours=1),
        "data": {"size": {"cm": 5, "name": "Ä"}, "list": [10, 20], "flag": True, "none": None},
        "colour": Colour.RED,
    },
    {
        "name": "Pear_x",
        "price": Decimal("2.25"),
        "count": 4,
        "day": date(2024, 3, 1),
        "moment": datetime(2024, 3, 1, 1, 0, tzinfo=UTC),
        "span": timedelta(days=2, microseconds=5),
        "data": {"size": {"cm": 7, "name": "b"}, "list": [], "flag": False},
        "colour": Colour.GREEN,
    },
    {"name": "plum", "count": 5, "data": []},
]


@pytest.fixture
async def priced(shop: Any) -> Any:
    model = shop.values.Price
    shop.in_plain_thread(lambda: [model.objects.create(**row) for row in ROWS])
    return mapped(model)


async def both(shop: Any, statement: Any) -> list[Any]:
    """The rows of a statement on the pool, which must be those on Django's own driver."""
    async with session() as db:
        rows = [tuple(row) for row in (await db.execute(statement)).all()]

    def in_sync() -> list[Any]:
        with sync_session() as db:
            return [tuple(row) for row in db.execute(statement).all()]

    beside = shop.in_plain_thread(in_sync)
    assert exact(rows) == exact(beside)
    return rows


CONDITIONS: dict[str, tuple[Callable[[Any], Any], set[str]]] = {
    "equal": (lambda p: p.price == Decimal("1.5"), {"a"}),
    "equal to an int": (lambda p: p.price == 1, set()),
    "more digits than the column": (lambda p: p.price == Decimal("1.501"), set()),
    "not equal": (lambda p: p.count != 3, {"P", "p"}),
    "in": (lambda p: p.price.in_([Decimal("1.5"), Decimal("2.25"), Decimal(9)]), {"a", "P"}),
    "in nothing": (lambda p: p.price.in_([]), set()),
    "not in": (lambda p: p.day.not_in([date(2024, 2, 28)]), {"P"}),
    "in of enums": (lambda p: p.colour.in_([Colour.RED, Colour.GREEN]), {"a", "P"}),
    "enum": (lambda p: p.colour == Colour.GREEN, {"P"}),
    "enum by name": (lambda p: p.colour == "GREEN", {"P"}),
    "between": (lambda p: p.day.between(date(2024, 2, 28), date(2024, 2, 29)), {"a"}),
    "moments": (lambda p: p.moment > datetime(2024, 2, 29, tzinfo=UTC), {"P"}),
    "span": (lambda p: p.span >= timedelta(days=2), {"P"}),
    "like": (lambda p: p.name.like("%100\\%", escape="\\"), {"a"}),
    "contains": (lambda p: p.name.contains("100%", autoescape=True), {"a"}),
    "startswith": (lambda p: p.name.startswith("Pear_", autoescape=True), {"P"}),
    "ilike": (lambda p: p.name.ilike("PLUM"), {"p"}),
    "icontains": (lambda p: p.name.icontains("EAR"), {"P"}),
    "endswith": (lambda p: p.name.endswith("um"), {"p"}),
    "is null": (lambda p: p.price.is_(None), {"p"}),
    "equal to none": (lambda p: p.price == None, {"p"}),  # noqa: E711  (SQLAlchemy's)
    "is not null": (lambda p: p.moment.is_not(None), {"a", "P"}),
    "tuple": (lambda p: tuple_(p.count, p.name).in_([(3, "apple 100%"), (4, "no")]), {"a"}),
    "columns": (lambda p: p.count > p.price, {"a", "P"}),
    "arithmetic": (lambda p: p.price * 2 == Decimal("4.50"), {"P"}),
    "modulo": (lambda p: p.count % 2 == 0, {"P"}),
    "concatenation": (lambda p: p.name + "!" == "plum!", {"p"}),
    "json path": (lambda p: p.data["size"]["cm"].as_integer() == 5, {"a"}),
    "json path at once": (lambda p: p.data[("size", "cm")].as_integer() > 5, {"P"}),
    "json text": (lambda p: p.data[("size", "name")].as_string() == "Ä", {"a"}),
    "json boolean": (lambda p: p.data["flag"].as_boolean().is_(True), {"a"}),
    "json index": (lambda p: p.data["list"][1].as_integer() == 20, {"a"}),
    "case": (lambda p: case((p.count > 4, p.name), else_="none") == "plum", {"p"}),
    "coalesce": (lambda p: func.coalesce(p.price, Decimal(0)) == 0, {"p"}),
    "function": (lambda p: func.lower(p.name) == "pear_x", {"P"}),
    "extract": (lambda p: func.length(p.name) == 4, {"p"}),
}


async def test_conditions_find_their_rows(shop: Any, priced: Any) -> None:
    wrong = {}
    for name, (make, wanted) in CONDITIONS.items():
        found = {row[0][0] for row in await both(shop, select(priced.name).where(make(priced)))}
        if found != wanted:
            wrong[name] = found
    assert not wrong


async def test_conditions_with_their_values_in_the_text_find_them_too(shop: Any, priced: Any) -> None:
    table = table_for(shop.values.Price)
    wrong = {}
    for name, (make, wanted) in CONDITIONS.items():
        if name.startswith("json"):
            continue
        statement = select(table.c.name).where(make(table.c))
        async with session() as db:
            dialect = db.get_bind().dialect
            printed = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
            given = text(printed.replace(":", "\\:")) if "%" not in printed else statement
            found = {row[0][0] for row in (await db.execute(given)).all()}
        if found != wanted:
            wrong[name] = (printed, found)
    assert not wrong


async def test_expressions_give_what_django_gives(shop: Any, priced: Any) -> None:
    P, objects = priced, shop.values.Price.objects
    first = select(P).where(P.count == 3).subquery()
    Alias = aliased(P, first)

    def asked() -> Any:
        return [
            objects.aggregate(x=Max("price"))["x"],
            objects.aggregate(x=Min("day"))["x"],
            objects.aggregate(x=Max("moment"))["x"],
            objects.aggregate(x=Max("span"))["x"],
            objects.aggregate(x=Sum("count"))["x"],
        ]

    wanted = shop.in_plain_thread(asked)
    found = await both(
        shop, select(func.max(P.price), func.min(P.day), func.max(P.moment), func.max(P.span), func.sum(P.count))
    )
    assert exact(list(found[0][:4])) == exact(wanted[:4])
    assert found[0][4] == wanted[4]
    assert (await both(shop, select(P.price * 2).where(P.count == 3)))[0][0] == Decimal("3.00")
    assert (await both(shop, select(P.price + P.price).where(P.count == 4)))[0][0] == Decimal("4.50")
    assert (await both(shop, select(P.count + 1).where(P.count == 4)))[0][0] == 5
    assert (await both(shop, select(P.name + "!").where(P.count == 5)))[0][0] == "plum!"
    assert (await both(shop, select(func.max(P.colour))))[0][0] is Colour.RED
    assert (await both(shop, select(Alias.moment, Alias.data, Alias.colour))) == [
        (ROWS[0]["moment"], ROWS[0]["data"], Colour.RED)
    ]
    united = union_all(select(P.colour, P.moment).where(P.count == 3), select(P.colour, P.moment).where(P.count == 4))
    assert {row[0] for row in await both(shop, united)} == {Colour.RED, Colour.GREEN}
    assert shop.in_plain_thread(lambda: objects.aggregate(x=Avg("price"))["x"]) == Decimal("1.875")
    assert Decimal(str((await both(shop, select(func.avg(P.price))))[0][0])) == Decimal("1.875")
    labelled = await both(shop, select(P.moment.label("m"), P.colour.label("c")).where(P.count == 3))
    assert labelled == [(ROWS[0]["moment"], Colour.RED)]
    assert (await both(shop, select(literal(Colour.RED, P.colour.type), literal(5)))) == [(Colour.RED, 5)]
    assert (await both(shop, select(cast(P.count, sqltypes.String(20))).where(P.count == 3))) == [("3",)]


async def test_a_bind_parameter_is_prepared_when_it_is_given(shop: Any, priced: Any) -> None:
    statement = select(priced.name).where(priced.colour == bindparam("c"), priced.moment > bindparam("m"))
    async with session() as db:
        for colour in Colour:
            found = await db.execute(statement, {"c": colour, "m": datetime(2000, 1, 1, tzinfo=UTC)})
            assert len(found.all()) == 1


async def test_arithmetic_of_dates_is_the_databases(shop: Any, priced: Any) -> None:
    P = priced
    if shop.family == "postgresql":
        later = await both(shop, select(P.moment + timedelta(days=1)).where(P.count == 3))
        assert later[0][0] == ROWS[0]["moment"] + timedelta(days=1)
        between = await both(shop, select(P.day - date(2024, 2, 1)).where(P.count == 3))
        assert between == [(27,)]
    twice = await both(shop, select(P.span * 2, P.span + timedelta(hours=1)).where(P.count == 3))
    assert twice == [(timedelta(hours=2), timedelta(hours=2))]


async def test_an_update_by_an_expression_gives_what_django_would(shop: Any, priced: Any) -> None:
    async with atomic() as db:
        await db.execute(
            update(priced)
            .where(priced.count == 3)
            .values(price=priced.price * 2, count=priced.count + 1, data={"a": 1}),
            execution_options={"synchronize_session": False},
        )
    found = shop.in_plain_thread(lambda: shop.values.Price.objects.get(name="apple 100%"))
    assert (found.price, found.count, found.data) == (Decimal("3.00"), 4, {"a": 1})


@pytest.mark.parametrize(("name", "rows"), [("Everything", EVERYTHING), ("Custom", CUSTOM)])
async def test_a_value_in_the_text_is_the_one_of_a_parameter(name: str, rows: Any, shop: Any) -> None:
    model = getattr(shop.values, name)
    table = table_for(model)
    for values in rows.values():
        shop.in_plain_thread(lambda values=values: model.objects.create(**values))
    written = shop.in_plain_thread(as_django_reads, model)
    problems = []
    async with session() as db:
        for values in rows.values():
            for key, value in values.items():
                if key in {"json", "double", "sets", "rich"}:
                    continue
                by_parameter = (await db.scalars(select(table.c.id).where(table.c[key] == value))).all()
                condition = table.c[key] == literal(value, table.c[key].type, literal_execute=True)
                in_the_text = (await db.scalars(select(table.c.id).where(condition))).all()
                if sorted(by_parameter) != sorted(in_the_text):
                    problems.append((key, type(value)))
    assert not problems
    assert len(written) == len(rows)
    assert attnames(model)


async def test_a_value_that_no_text_can_say_is_refused_by_name_and_not_printed_wrongly(shop: Any) -> None:
    table = table_for(shop.values.Everything)
    async with session() as db:
        dialect = db.get_bind().dialect
        for name, value in {
            "json": {"a": "quo'te\""},
            "double": 1e300,
            "decimal": Decimal("1E+5"),
            "time": time(1, 2, 3, 4),
            "uuid": uuid.UUID(int=7),
        }.items():
            statement = select(table.c.id).where(table.c[name] == literal(value, table.c[name].type))
            printed = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
            assert "Json" not in printed
            assert "object at" not in printed
            await db.execute(text(printed.replace(":", "\\:")))
