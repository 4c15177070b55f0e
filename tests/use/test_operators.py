"""Operators on the columns of ``mapped()``: each gives what SQLAlchemy's own type for the same column gives."""

from __future__ import annotations

import datetime
import ipaddress
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select, update
from sqlalchemy import types as sqltypes

from django_bridge import mapped, session, table_for
from django_bridge.errors import FieldValueError
from tests.use.operators import DIFFERENCES, KINDS, OPERATORS, Kind, Operator, postgres


def plain(value: Any) -> Any:
    """A value as both types give it: without a zone, a span as its microseconds, a number as a number."""
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, datetime.timedelta):
        return value // datetime.timedelta(microseconds=1)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float | Decimal):
        return round(float(value), 6)
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, ipaddress.IPv4Address):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "lower_inc") or hasattr(value, "bounds"):
        return str(value).replace(", ", ",")  # a range
    return value


async def outcomes(table: Any, name: str, makers: dict[str, Operator], values: tuple[Any, Any]) -> dict[str, Any]:
    """What each expression gives for the rows, in few statements; or how it fails."""
    column, found, made = table.c[name], {}, {}
    for operator, make in makers.items():
        try:
            made[operator] = make(column, *values)
        except Exception as err:
            found[operator] = err
    await _ask(table, list(made.items()), found)
    return found


async def _ask(table: Any, made: list[tuple[str, Any]], found: dict[str, Any]) -> None:
    """Asks for all at once, and for the halves where one of them fails."""
    if not made:
        return
    try:
        asked = select(*(expression.label(f"c{number}") for number, (_, expression) in enumerate(made)))
        async with session() as db:
            rows = (await db.execute(asked.select_from(table).order_by(table.c.id))).all()
    except Exception as err:
        if len(made) == 1:
            found[made[0][0]] = err
            return
        middle = len(made) // 2
        await _ask(table, made[:middle], found)
        await _ask(table, made[middle:], found)
        return
    for (operator, _), *values in zip(made, *rows, strict=True):
        found[operator] = [plain(value) for value in values]


async def found_by(table: Any, name: str, makers: dict[str, Operator], values: tuple[Any, Any]) -> dict[str, Any]:
    """The rows that each condition finds."""
    found = {}
    for operator, make in makers.items():
        made = make(table.c[name], *values)
        async with session() as db:
            if made.type._type_affinity is sqltypes.Boolean:
                found[operator] = list((await db.scalars(select(table.c.id).where(made).order_by(table.c.id))).all())
    return found


async def in_order(table: Any, name: str, makers: dict[str, Operator], values: tuple[Any, Any]) -> dict[str, Any]:
    """The rows in the order of each expression; its error."""
    found = {}
    for operator, make in makers.items():
        try:
            async with session() as db:
                ordered = select(table.c.id).order_by(make(table.c[name], *values), table.c.id)
                found[operator] = list((await db.scalars(ordered)).all())
        except Exception as err:
            found[operator] = err
    return found


def beside(vendor: str, kinds: dict[str, Kind], name: str) -> Table:
    """The same table, of SQLAlchemy's own types."""
    own = (Column(key, kind.own[vendor]) for key, kind in kinds.items())
    return Table(name, MetaData(), Column("id", Integer, primary_key=True), *own)


async def compared(ours: Table, own: Table, kinds: dict[str, Kind], vendor: str) -> dict[str, Any]:
    """What differs where SQLAlchemy's own type gives an answer, by column and operator."""
    differs = {}
    for name, kind in kinds.items():
        taken = (lambda value: value) if vendor == "postgresql" else kind.taken
        groups = ["all", *kind.more, *(["jsonb"] if (name, vendor) == ("json", "postgresql") else [])]
        makers = {operator: make for group in groups for operator, make in OPERATORS[group].items()}
        asked: list[tuple[Any, dict[str, Operator]]] = [(outcomes, makers), (in_order, OPERATORS["ordering"])]
        if "boolean" in kind.more:
            asked.append((found_by, OPERATORS["boolean"]))
        for ask, some in asked:
            given = await ask(ours, name, some, (kind.first, kind.second))
            wanted = await ask(own, name, some, (taken(kind.first), taken(kind.second)))
            for operator, value in wanted.items():
                if not isinstance(value, Exception) and given[operator] != value:
                    differs[f"{name} {operator}"] = given[operator]
    return differs


STORES = {"first": '"a"=>"1", "b"=>NULL', "second": '"c"=>"x"'}


def vendor_of(family: str) -> str:
    return "mysql" if family == "mariadb" else family


async def test_each_operator_gives_what_sqlalchemys_own_type_gives(shop: Any) -> None:
    value = shop.models.Value
    await shop.create(value)
    vendor = vendor_of(shop.family)

    def fill() -> None:
        value.objects.create(**{name: kind.first for name, kind in KINDS.items()})
        value.objects.create(**{name: kind.second for name, kind in KINDS.items()})
        value.objects.create()

    shop.in_plain_thread(fill)
    ours = table_for(value)
    differs = await compared(ours, beside(vendor, KINDS, ours.name), KINDS, vendor)
    if shop.family == "mysql":  # JSON's operators find nothing by SQLAlchemy's own type there
        differs = {key: value for key, value in differs.items() if not key.startswith("json ")}
    assert {key: value for key, value in differs.items() if key not in DIFFERENCES[vendor]} == {}
    for key in differs:
        if key.endswith("interval"):
            assert isinstance(differs[key], FieldValueError)


@pytest.mark.families("postgresql")
async def test_each_operator_of_postgresqls_own_fields_does_too(shop: Any, postgresql: Any, database_name: str) -> None:
    from django.apps.registry import Apps
    from django.db import connections, models

    from django_bridge.mapping.types import type_of

    made = postgres()
    fields = {name: field for name, (field, _) in made.items()}
    kinds = {name: kind for name, (_, kind) in made.items()}
    meta = type("Meta", (), {"app_label": "operators", "apps": Apps()})
    model: Any = type("Own", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})

    def fill() -> None:
        shop.create_now(model)
        with connections["default"].cursor() as cursor:
            for row in ("first", "second"):
                sent = {name: getattr(kind, row) for name, kind in kinds.items()}
                sent["store"] = STORES[row]  # the text that it is on the wire: contrib.postgres is not installed
                names = ", ".join(f'"{name}"' for name in sent)
                cursor.execute(
                    f"INSERT INTO operators_own ({names}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", [*sent.values()]
                )
            cursor.execute("INSERT INTO operators_own DEFAULT VALUES")

    postgresql.execute("CREATE EXTENSION hstore", database=database_name)
    shop.in_plain_thread(fill)
    ours = Table(
        "operators_own",
        MetaData(),
        Column("id", Integer, primary_key=True),
        *(Column(name, type_of(model._meta.get_field(name))) for name in fields),
    )
    assert await compared(ours, beside("postgresql", kinds, ours.name), kinds, "postgresql") == {}


async def test_is_false_finds_its_rows_on_a_mapped_class(shop: Any) -> None:
    value = shop.models.Value
    await shop.create(value)
    shop.in_plain_thread(lambda: [value.objects.create(boolean=said) for said in (True, False, None)])
    mine = mapped(value)
    async with session() as db:
        for condition, wanted in {
            mine.boolean.is_(False): [2],
            mine.boolean.is_not(False): [1, 3],
            ~mine.boolean.is_(True): [2, 3],
            mine.boolean.is_(None): [3],
        }.items():
            assert (await db.scalars(select(mine.id).where(condition).order_by(mine.id))).all() == wanted


async def test_a_field_that_says_true_in_its_own_way_compares_by_it(shop: Any) -> None:
    from django.apps.registry import Apps
    from django.db import models

    from django_bridge.mapping.types import type_of

    class YesOrNo(models.BooleanField):
        """Kept as ``Y`` and ``N``."""

        def db_type(self, connection: Any) -> str:
            return "char(1)"

        def get_prep_value(self, value: Any) -> Any:
            return value if value is None else "NY"[value]

        def from_db_value(self, value: Any, *_: Any) -> Any:
            return None if value is None else value == "Y"

        def get_db_converters(self, connection: Any) -> list[Any]:
            return [self.from_db_value]

    meta = type("Meta", (), {"app_label": "operators", "apps": Apps()})
    model: Any = type("Answer", (models.Model,), {"__module__": __name__, "Meta": meta, "said": YesOrNo(null=True)})
    shop.in_plain_thread(shop.create_now, model)
    shop.in_plain_thread(lambda: [model.objects.create(said=value) for value in (True, False, None)])
    answers = Table(
        "operators_answer",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("said", type_of(model._meta.get_field("said"))),
    )
    async with session() as db:
        for condition, wanted in {
            answers.c.said.is_(True): [1],
            answers.c.said.is_not(True): [2, 3],
            answers.c.said == False: [2],  # noqa: E712
        }.items():
            assert (await db.scalars(select(answers.c.id).where(condition).order_by(answers.c.id))).all() == wanted


DOCUMENTS: list[Any] = [{"a": 1, "b": [1, {"c": "x"}], "t": True}, [1, 2], "text", 5, True, {"a": "1"}, {"a": {"z": 2}}]
ITEMS: list[Any] = [1, "1", {"z": 2}, 2]


async def test_json_documents_and_their_items_are_found_as_djangos_own_queries_find_them(shop: Any) -> None:
    value = shop.models.Value
    await shop.create(value)
    shop.in_plain_thread(lambda: [value.objects.create(json=document) for document in DOCUMENTS])
    mine = mapped(value)
    async with session() as db:
        await db.execute(insert(mine), [{"json": document} for document in DOCUMENTS])
        await db.execute(insert(mine).values(json=None))
        await db.execute(update(mine).where(mine.json == 5).values(json=6))
        await db.commit()

    def by_django(**conditions: Any) -> list[int]:
        found: list[int] = shop.in_plain_thread(
            lambda: list(value.objects.filter(**conditions).order_by("pk").values_list("pk", flat=True))
        )
        return found

    assert shop.in_plain_thread(lambda: list(value.objects.order_by("pk").values_list("json", flat=True))) == [
        *(6 if document is DOCUMENTS[3] else document for document in [*DOCUMENTS, *DOCUMENTS]),
        None,
    ]
    asked = [
        *((mine.json == document, by_django(json=document)) for document in [*DOCUMENTS, 6, {}]),
        *((mine.json["a"] == item, by_django(json__a=item)) for item in ITEMS),
        *((mine.json["b"][1]["c"] == item, by_django(json__b__1__c=item)) for item in ("x", "y")),
        (mine.json.in_(DOCUMENTS[:2]), sorted({*by_django(json=DOCUMENTS[0]), *by_django(json=DOCUMENTS[1])})),
        (mine.json["a"].in_([1, "1"]), sorted({*by_django(json__a=1), *by_django(json__a="1")})),
        (mine.json.in_([]), []),
    ]
    async with session() as db:
        for number, (condition, wanted) in enumerate(asked):
            found = (await db.scalars(select(mine.id).where(condition).order_by(mine.id))).all()
            assert (number, found) == (number, wanted)
