"""Pages by number and by keyset, on every family."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import random
import re
import uuid
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter
from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    bindparam,
    delete,
    desc,
    func,
    insert,
    select,
    text,
    union_all,
)
from sqlalchemy.orm import aliased, selectinload

from asyncdb import Database, InvalidCursor, KeysetPage, Page, PageError
from tests.tables import Author, Book

METADATA = MetaData()
THING = Table(
    "thing",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("a", Integer),
    Column("b", String(20)),
    Column("c", Integer, nullable=False),
    Column("flag", Boolean, nullable=False),
    Column("double", Double),
    Column("decimal", Numeric(10, 2)),
    Column("moment", DateTime),
    Column("day", Date),
    Column("key", Uuid),
    Column("single", Float(24)),
    Column("bytes", LargeBinary(20)),
    Column("left", Integer, nullable=False),
    Column("right", Integer, nullable=False),
    UniqueConstraint("left", "right"),
)
C = THING.c
KEYSET = select(Book.id, Book.title).order_by(Book.title, Book.id)


class BookOut(BaseModel):
    id: int
    title: str


@pytest.fixture
async def things(database: Database) -> Database:
    """Forty rows with many alike, and many NULLs."""
    chance = random.Random(5)
    rows = [
        {
            "id": number,
            "a": chance.choice([None, -1, 0, 7]),
            "b": chance.choice([None, "", "a", "b", "ä", "'; --", "\U0001f40d"]),
            "c": chance.randrange(3),
            "flag": chance.random() < 0.5,
            "double": chance.choice([None, 0.1, 1 / 3, -1e300, 2.5e-12]),
            "decimal": chance.choice(
                [None, decimal.Decimal("0.10"), decimal.Decimal("-3.33"), decimal.Decimal(1000000)]
            ),
            "moment": chance.choice(
                [None, *map(datetime.datetime.fromisoformat, ("2024-02-29T01:02:03", "1999-01-01"))]
            ),
            "day": chance.choice([None, datetime.date(2024, 2, 29), datetime.date(1, 1, 1)]),
            "key": chance.choice([None, uuid.UUID(int=1), uuid.UUID(int=2**127)]),
            "single": 0.1,
            "bytes": chance.choice([None, b"", b"\x00\xff", b"~"]),
            "left": number % 7,
            "right": number // 7,
        }
        for number in range(1, 41)
    ]
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
        await connection.execute(insert(THING), rows)
    return database


async def forwards(database: Database, statement: Any, size: int, **options: Any) -> list[KeysetPage[Any]]:
    pages, cursor = [], None
    while True:
        page = await database.fetch_keyset(statement, cursor=cursor, size=size, **options)
        pages.append(page)
        if (cursor := page.next) is None:
            return pages
        assert len(pages) < 200, "the pages never end"


async def backwards(database: Database, statement: Any, last: KeysetPage[Any], **options: Any) -> list[KeysetPage[Any]]:
    pages, cursor = [last], last.previous
    while cursor is not None:
        page = await database.fetch_keyset(statement, cursor=cursor, size=last.size, **options)
        pages.insert(0, page)
        cursor = page.previous
        assert len(pages) < 200, "the pages never end"
    return pages


def ids(pages: list[KeysetPage[Any]]) -> list[int]:
    return [row.id for page in pages for row in page]


# By number


async def test_a_page_by_number_has_its_rows_and_the_total(books: Database) -> None:
    statement = select(Book.id, Book.title).order_by(Book.id)
    page = await books.fetch_page(statement, page=2, size=2, into=BookOut)
    assert [item.id for item in page] == [3]
    assert page == Page(items=[BookOut(id=3, title="Jim Knopf")], total=3, page=2, size=2)
    assert (page.pages, page.has_next, page.has_previous, len(page)) == (2, False, True, 1)
    first = await books.fetch_page(statement, size=2, into=BookOut)
    assert ([item.id for item in first.items], first.has_next, first.has_previous) == ([1, 2], True, False)


async def test_a_page_past_the_end_is_empty_and_knows_the_total(books: Database) -> None:
    page = await books.fetch_page(select(Book).order_by(Book.id), page=9, size=2, into=BookOut)
    assert (page.items, page.total, page.has_next, page.has_previous, bool(page)) == ([], 3, False, True, True)
    nothing = await books.fetch_page(select(Book).where(Book.id < 0).order_by(Book.id), size=2)
    assert (nothing.items, nothing.total, nothing.pages, nothing.has_next) == ([], 0, 0, False)


async def test_distinct_grouped_and_joined_rows_are_counted_right(books: Database) -> None:
    distinct = select(Book.author_id).distinct().order_by(Book.author_id)
    assert (await books.fetch_page(distinct, size=10, into=int)).total == 1
    grouped = select(Book.author_id, func.count().label("n")).group_by(Book.author_id).order_by(Book.author_id)
    assert (await books.fetch_page(grouped, size=10)).total == 1
    joined = (
        select(Book.id, Author.id, Author.name.label("name")).join(Author).order_by(Book.id)
    )  # two columns named id
    assert (await books.fetch_page(joined, size=1)).total == 3
    loaded = select(Book).options(selectinload(Book.author)).order_by(Book.id)
    page = await books.fetch_page(loaded, size=2)
    assert (page.total, [row.Book.author.name for row in page]) == (3, ["Michael Ende"] * 2)


async def test_parameters_reach_the_count_and_the_rows(books: Database) -> None:
    statement = select(Book.id).where(Book.id > bindparam("least")).order_by(Book.id)
    page = await books.fetch_page(statement, {"least": 1}, size=1, into=int)
    assert (page.items, page.total) == ([2], 2)
    keyset = await books.fetch_keyset(statement, {"least": 1}, size=1, into=int)
    assert (await books.fetch_keyset(statement, {"least": 1}, cursor=keyset.next, size=1, into=int)).items == [3]


async def test_both_verbs_see_what_their_block_has_written(books: Database) -> None:
    async with books.atomic() as db:
        db.add(Book(id=4, title="Beowulf"))
        assert (await books.fetch_page(KEYSET, size=1, into=BookOut)).total == 4
        assert (await db.fetch_keyset(KEYSET, size=1, into=BookOut)).items == [BookOut(id=4, title="Beowulf")]


@pytest.mark.parametrize(
    ("statement", "options", "message"),
    [
        (select(Book.id), {}, "needs an order"),
        (select(Book.id).order_by(Book.id).limit(5), {}, "LIMIT or OFFSET of its own"),
        (select(Book.id).order_by(Book.id).offset(5), {}, "LIMIT or OFFSET of its own"),
        (union_all(select(Book.id), select(Author.id)), {}, "not out of a CompoundSelect"),
        (text("SELECT 1"), {}, "not out of a TextClause"),
        (select(Book.id).order_by(Book.id), {"size": 0}, "at least 1 row, and 0"),
    ],
)
async def test_what_cannot_be_paged_is_refused(books: Database, statement: Any, options: Any, message: str) -> None:
    for verb in (books.fetch_page, books.fetch_keyset):
        with pytest.raises(PageError, match=message):
            await verb(statement, **{"size": 2} | options)


async def test_page_nought_is_refused(books: Database) -> None:
    with pytest.raises(PageError, match="counted from 1, and 0"):
        await books.fetch_page(KEYSET, page=0, size=2)


def test_pages_are_serialized_with_all_that_they_say() -> None:
    page = Page([BookOut(id=1, title="Momo")], 3, 1, 2)
    assert TypeAdapter(Page[BookOut]).dump_python(page) == {
        "items": [{"id": 1, "title": "Momo"}],
        "total": 3,
        "page": 1,
        "size": 2,
        "pages": 2,
        "has_next": True,
        "has_previous": False,
    }
    keyset = KeysetPage([BookOut(id=1, title="Momo")], 2, "abc", None)
    assert json.loads(TypeAdapter(KeysetPage[BookOut]).dump_json(keyset)) == {
        "items": [{"id": 1, "title": "Momo"}],
        "size": 2,
        "next": "abc",
        "previous": None,
        "has_next": True,
        "has_previous": False,
    }


# By keyset

ORDERS = {
    "the primary key": [C.id],
    "the primary key, descending": [C.id.desc()],
    "never NULL, mixed": [C.c.desc(), C.id],
    "NULL, ascending": [C.a, C.id],
    "NULL, descending": [C.a.desc(), C.id],
    "NULL twice, mixed": [C.a.desc(), C.b, C.c.desc(), C.id.desc()],
    "NULL in the middle": [C.c, C.a.desc(), C.id],
    "text": [C.b, C.id],
    "truth": [C.flag.desc(), C.id],
    "truth, ascending": [C.flag, C.a, C.id.desc()],
    "double": [C.double.desc(), C.id],
    "decimal": [C.decimal, C.id],
    "moment": [C.moment.desc(), C.id],
    "day": [C.day, C.id],
    "uuid": [C.key, C.id],
    "bytes": [C.bytes, C.id],
    "an expression": [func.coalesce(C.a, 3).desc(), C.id],
    "two unique columns": [C.a, C.left, C.right.desc()],
    "a key before the end": [C.id, C.a],
}


@pytest.mark.parametrize(
    "size", [1, pytest.param(3, marks=pytest.mark.verify), 7, 40, pytest.param(100, marks=pytest.mark.verify)]
)
@pytest.mark.parametrize("order", ORDERS)
async def test_the_pages_are_the_rows_of_the_statement_there_and_back(things: Database, order: str, size: int) -> None:
    statement = select(C.id).order_by(*ORDERS[order])
    wanted = await things.fetch_all(statement, into=int)
    there = await forwards(things, statement, size)
    assert ids(there) == wanted
    assert [len(page) for page in there[:-1]] == [size] * (len(there) - 1)
    back = await backwards(things, statement, there[-1])
    assert back[0].previous is None
    assert ids(back) == wanted


@pytest.mark.parametrize(
    ("last", "descending"), [(last, descending) for last in (False, True) for descending in (False, True)]
)
async def test_nulls_first_and_last_are_kept_on_every_family(things: Database, last: bool, descending: bool) -> None:
    column = C.a.desc() if descending else C.a.asc()
    statement = select(C.id, C.a).order_by(column.nulls_last() if last else column.nulls_first(), C.id)
    rows = [tuple(row) for row in await things.fetch_all(select(C.id, C.a))]
    sign = -1 if descending else 1
    wanted = sorted(rows, key=lambda row: ((row[1] is None) == last, sign * (row[1] or 0), row[0]))
    there = await forwards(things, statement, 3)
    assert ids(there) == [row[0] for row in wanted]
    assert ids(await backwards(things, statement, there[-1])) == [row[0] for row in wanted]


async def test_the_keys_need_not_be_selected_and_are_not_in_the_rows(things: Database) -> None:
    page = await things.fetch_keyset(select(C.c).order_by(C.a.desc(), C.id), size=2, into=dict)
    assert [list(item) for item in page] == [["c"], ["c"]]


async def test_orm_objects_with_their_relations_are_paged(books: Database) -> None:
    statement = select(Book).options(selectinload(Book.author)).order_by(Book.title.desc(), Book.id)
    first = await books.fetch_keyset(statement, size=2, into=BookOut)
    assert [item.title for item in first] == ["Momo", "Jim Knopf"]
    second = await books.fetch_keyset(statement, cursor=first.next, size=2)
    assert [row.Book.author.name for row in second] == ["Michael Ende"]


async def test_an_outer_join_may_be_ordered_by_what_it_misses(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(insert(Book), [{"id": n, "title": "?", "author_id": None} for n in range(4, 7)])
    statement = select(Book.id).outerjoin(Author).order_by(Author.name, Book.id)
    there = await forwards(books, statement, 2)
    assert ids(there) == await books.fetch_all(statement, into=int)
    assert len(ids(there)) == 6


async def test_labels_aliases_and_names_are_followed(books: Database) -> None:
    other = aliased(Book)
    number = Book.id.label("number")
    for statement in (
        select(other.id.label("id"), other.title).order_by(other.title, other.id),
        select(number, Book.id).order_by(number.desc()),
        select(Book.id.label("id")).order_by("id"),
        select(Book.id.label("id")).order_by(desc("id")),
    ):
        assert ids(await forwards(books, statement, 1)) == [row.id for row in await books.fetch_all(statement)]


async def test_rows_that_come_and_go_shift_no_page(things: Database) -> None:
    statement = select(C.id).order_by(C.c, C.id)
    first = await things.fetch_keyset(statement, size=5, into=int)
    second = await things.fetch_keyset(statement, cursor=first.next, size=5, into=int)
    async with things.atomic() as db:
        await db.execute(delete(THING).where(C.id.in_([first.items[0], first.items[-1]])))
    assert (await things.fetch_keyset(statement, cursor=first.next, size=5, into=int)).items == second.items
    back = await things.fetch_keyset(statement, cursor=second.previous, size=5, into=int)
    assert back.items == first.items[1:-1]
    assert back.previous is None


async def test_a_page_whose_rows_are_gone_leads_back(things: Database) -> None:
    statement = select(C.id).order_by(C.id)
    first = await things.fetch_keyset(statement, size=10, into=int)
    async with things.atomic() as db:
        await db.execute(delete(THING).where(C.id > 10))
    gone = await things.fetch_keyset(statement, cursor=first.next, size=10, into=int)
    assert (gone.items, gone.next) == ([], None)
    assert gone.previous is not None
    assert (await things.fetch_keyset(statement, cursor=gone.previous, size=10, into=int)).items == first.items


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (select(Book.id).order_by(Book.title), r"rows may be alike in their order \(title\).*add the primary key"),
        (select(C.id).order_by(C.left), "rows may be alike"),
        (select(Book.id).order_by(func.abs(Book.id)), "rows may be alike"),
        (select(Book.title).group_by(Book.title).order_by(Book.title), "grouped"),
        (select(Book.id).order_by(text("id")), r"text\(\) is none"),
        (select(Book.id).order_by("nothing"), "'nothing', which is not the name of a column"),
    ],
)
async def test_an_order_that_is_no_keyset_is_refused(books: Database, statement: Any, message: str) -> None:
    with pytest.raises(PageError, match=message):
        await books.fetch_keyset(statement, size=2)


async def test_a_join_that_makes_rows_alike_is_refused_where_it_does(books: Database) -> None:
    statement = select(Author.id, Book.title).join(Book, Book.author_id == Author.id)
    with pytest.raises(PageError, match="two rows are alike in the order: a join"):
        await books.fetch_keyset(statement.order_by(Author.id), size=2)
    assert len(await forwards(books, statement.order_by(Author.id, Book.id), 2)) == 2


@pytest.mark.families("mariadb", "mysql", "postgresql")
async def test_a_single_precision_key_is_refused(things: Database) -> None:
    with pytest.raises(PageError, match="single is a single-precision number"):
        await things.fetch_keyset(select(C.id).order_by(C.single, C.id), size=2)


# Cursors


async def test_a_cursor_is_safe_in_a_url(things: Database) -> None:
    for page in await forwards(things, select(C.id).order_by(C.b.desc(), C.moment, C.id), 1):
        for cursor in filter(None, (page.next, page.previous)):
            assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)


async def test_a_cursor_of_another_order_is_refused(things: Database) -> None:
    cursor = (await things.fetch_keyset(select(C.id).order_by(C.a, C.id), size=2)).next
    for order in ([C.a.desc(), C.id], [C.c, C.id], [C.id], [C.a.nulls_last(), C.a.nulls_first(), C.id]):
        with pytest.raises(InvalidCursor, match="another statement"):
            await things.fetch_keyset(select(C.id).order_by(*order), cursor=cursor, size=2)
    # The same order with another filter is the same cursor's.
    await things.fetch_keyset(select(C.id).where(C.c > 0).order_by(C.a, C.id), cursor=cursor, size=2)


def forged(cursor: str, **changes: Any) -> str:
    version, order, flags, values = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    parts = {"version": version, "order": order, "flags": flags, "values": values} | changes
    return base64.urlsafe_b64encode(json.dumps(list(parts.values())).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"flags": 9},
        {"flags": "0"},
        {"values": []},
        {"values": 3},
        {"values": [["i", 1]]},
        {"values": [["s", "a"], ["i", 1.5]]},
        {"values": [["s", "a"], ["i", 10**40]]},
        {"values": [["s", "a"], ["i", "1; DROP TABLE thing"]]},
        {"values": [["s", "a"], ["s", "1"]]},
        {"values": [["s", "\ud800"], ["i", 1]]},
        {"values": [["z", "a"], ["i", 1]]},
        {"values": [["u", "a"], ["i", 1]]},
        {"values": [["n", "sNaN"], ["i", 1]]},
        {"values": [["t", "yesterday"], ["i", 1]]},
        {"values": [{"s": 1}, ["i", 1]]},
    ],
)
async def test_a_forged_cursor_is_refused_without_its_content(things: Database, changes: dict[str, Any]) -> None:
    statement = select(C.id).order_by(C.b, C.id)
    cursor = (await things.fetch_keyset(statement, size=2)).next
    assert cursor is not None
    assert (await things.fetch_keyset(statement, cursor=forged(cursor), size=2)).items  # the control
    with pytest.raises(InvalidCursor) as caught:
        await things.fetch_keyset(statement, cursor=forged(cursor, **changes), size=2)
    assert "DROP" not in str(caught.value)


@pytest.mark.parametrize("cursor", ["", "x", "ä", "AAAA", "W10", "A" * 5000, "=", "\x00", "bnVsbA"])
async def test_what_is_no_cursor_is_refused(things: Database, cursor: str) -> None:
    with pytest.raises(InvalidCursor, match="no cursor"):
        await things.fetch_keyset(select(C.id).order_by(C.id), cursor=cursor, size=2)


@pytest.mark.families("postgresql")
async def test_a_value_that_the_server_refuses_is_an_invalid_cursor(things: Database) -> None:
    statement = select(C.id).order_by(C.b, C.id)
    cursor = (await things.fetch_keyset(statement, size=2)).next
    assert cursor is not None
    for values in ([["s", "\x00"], ["i", 1]], [["s", "a"], ["i", 2**63]]):
        with pytest.raises(InvalidCursor, match="cannot have"):
            await things.fetch_keyset(statement, cursor=forged(cursor, values=values), size=2)
    assert things.stats().checked_out == 0


async def test_a_key_too_long_for_a_cursor_is_refused_when_it_is_written(books: Database) -> None:
    long = Book.title + "x" * 5000
    with pytest.raises(PageError, match="over 4096"):
        await books.fetch_keyset(select(Book.id).order_by(long, Book.id), size=1)
