"""What the type checker knows of the verbs; ``test_typing.py`` asks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, assert_type

from pydantic import BaseModel
from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession

from asyncdb import Database, KeysetPage, Page, RowStream, Session
from tests.tables import Book


class BookOut(BaseModel):
    id: int
    title: str


@dataclasses.dataclass
class Card:
    id: int


PAIRS = select(Book.id, Book.title)


async def of_the_database(database: Database) -> None:
    assert_type(await database.fetch_all(PAIRS, into=BookOut), list[BookOut])
    assert_type(await database.fetch_all(PAIRS, into=Card), list[Card])
    assert_type(await database.fetch_all(PAIRS, into=dict), list[dict[str, Any]])
    assert_type(await database.fetch_all(PAIRS, into=int), list[int])
    assert_type(await database.fetch_all(PAIRS), Sequence[Row[int, str]])
    assert_type(await database.fetch_all(text("SELECT 1")), Sequence[Row[Any]])
    assert_type(await database.fetch_all(select(Book)), Sequence[Row[Book]])

    assert_type(await database.fetch_one(PAIRS, into=BookOut), BookOut)
    assert_type(await database.fetch_one(PAIRS, into=dict), dict[str, Any])
    assert_type(await database.fetch_one(PAIRS), Row[int, str])
    assert_type(await database.fetch_one_or_none(PAIRS, into=BookOut), BookOut | None)
    assert_type(await database.fetch_one_or_none(PAIRS, into=dict), dict[str, Any] | None)
    assert_type(await database.fetch_one_or_none(PAIRS), Row[int, str] | None)

    assert_type(await database.fetch_val(PAIRS), int)
    assert_type(await database.fetch_val(select(Book.title)), str)
    assert_type(await database.fetch_val(text("SELECT 1"), into=int), int)

    assert_type(await database.fetch_page(PAIRS, size=10, into=BookOut), Page[BookOut])
    assert_type(await database.fetch_page(PAIRS, page=2, size=10, into=dict), Page[dict[str, Any]])
    assert_type(await database.fetch_page(PAIRS, size=10), Page[Row[int, str]])
    assert_type(await database.fetch_page(text("SELECT 1"), size=10), Page[Row[Any]])
    assert_type((await database.fetch_page(PAIRS, size=10, into=BookOut)).items, list[BookOut])
    assert_type(await database.fetch_keyset(PAIRS, size=10, into=BookOut), KeysetPage[BookOut])
    assert_type(await database.fetch_keyset(PAIRS, cursor="", size=10, into=dict), KeysetPage[dict[str, Any]])
    assert_type(await database.fetch_keyset(PAIRS, size=10), KeysetPage[Row[int, str]])
    assert_type(await database.fetch_keyset(text("SELECT 1"), size=10), KeysetPage[Row[Any]])
    keyset = await database.fetch_keyset(PAIRS, size=10, into=BookOut)
    assert_type(keyset.next, str | None)
    assert_type(keyset.has_next, bool)
    for item in keyset:
        assert_type(item, BookOut)

    assert_type(database.stream(PAIRS, into=BookOut), RowStream[BookOut])
    assert_type(database.stream(PAIRS, into=dict), RowStream[dict[str, Any]])
    async for streamed in database.stream(PAIRS, into=BookOut):
        assert_type(streamed, BookOut)
    async for row in database.stream(PAIRS):
        assert_type(row, Row[int, str])
    async with database.stream(PAIRS, into=int) as numbers:
        assert_type(numbers, RowStream[int])


async def of_a_session(database: Database) -> None:
    async with database.session() as db:
        assert_type(db, Session)
        _plain: AsyncSession = db
        assert_type(await db.fetch_all(PAIRS, into=BookOut), list[BookOut])
        assert_type(await db.fetch_one(PAIRS), Row[int, str])
        assert_type(await db.fetch_page(PAIRS, size=10, into=BookOut), Page[BookOut])
        assert_type(await db.fetch_keyset(PAIRS, size=10, into=BookOut), KeysetPage[BookOut])
        assert_type(await db.fetch_val(PAIRS, into=int), int)
        result: AsyncResult[Any] = await db.stream(PAIRS)
        await result.close()
    async with database.atomic(isolation="SERIALIZABLE", read_only=True) as db:
        assert_type(db, Session)
        db.on_commit(lambda: None)
    database.atomic(isolation="SNAPSHOT")  # type: ignore[arg-type]
    await database.fetch_all(PAIRS, into=3)  # type: ignore[call-overload]
