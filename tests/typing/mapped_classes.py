"""What the type checker knows of mapped classes; ``test_typing.py`` makes ``made`` and asks it."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Sequence
from typing import Any, assert_type

import made
from pydantic import BaseModel
from sqlalchemy import ColumnElement, Row, Select, select
from sqlalchemy.orm import joinedload, selectinload

from asyncdb import Session


class BookOut(BaseModel):
    id: int
    title: str


async def columns(db: Session) -> None:
    assert_type(made.Book.id == 1, ColumnElement[bool])
    assert_type(select(made.Book.title), Select[str])
    assert_type(select(made.Book.subtitle, made.Book.author_id), Select[str | None, int])
    assert_type(await db.fetch_val(select(made.Book.uuid)), uuid.UUID)
    assert_type(await db.fetch_all(select(made.Book.id, made.Book.price)), Sequence[Row[int, decimal.Decimal]])
    assert_type(await db.fetch_all(select(made.Book)), Sequence[Row[made.Book]])
    assert_type(await db.fetch_all(select(made.Book), into=BookOut), list[BookOut])


async def values(db: Session) -> None:
    book = (await db.scalars(select(made.Book).where(made.Book.title.like("A%")).order_by(made.Book.id.desc()))).one()
    assert_type(book, made.Book)
    assert_type(book.id, int)
    assert_type(book.title, str)
    assert_type(book.subtitle, str | None)
    assert_type(book.isbn, str)
    assert_type(book.weight, Any)
    assert_type(book.editor_id, int | None)
    assert_type(book.published, datetime.date | None)
    assert_type(book.seen, datetime.datetime)
    assert_type(book.length, datetime.timedelta | None)
    assert_type(book.cover, str | None)
    assert_type(book.data, Any)
    assert_type(book.digest, bytes)
    assert_type(book.datetime, datetime.datetime | None)
    assert_type(book.int, int)
    assert_type(book.lowered, str)
    print(book.titel)  # type: ignore[attr-defined]
    book.title = "Another"
    book.title = 3  # type: ignore[assignment]


async def relations(db: Session) -> None:
    loads = (selectinload(made.Book.tags), joinedload(made.Book.author).joinedload(made.Author.user))
    book = await db.get_one(made.Book, 1, options=loads)
    assert_type(book.author, made.Author)
    assert_type(book.editor, made.Author | None)
    assert_type(book.first_edition, made.Book | None)
    assert_type(book.tags, list[made.Tag])
    assert_type(book.notes, list[made.Note])
    assert_type(book.loan_set, list[made.Loan])
    assert_type(book.tags[0].books, list[made.Book])
    assert_type(book.author.edited, list[made.Book])
    assert_type(book.author.user, made.User | None)
    assert_type((await db.get_one(made.User, 1)).author, made.Author | None)
    assert_type((await db.get_one(made.Loan, 1)).book_id, uuid.UUID)


async def inheritance(db: Session) -> None:
    novel = await db.get_one(made.Novel, 1)
    _book: made.Book = novel
    assert_type(novel.title, str)
    assert_type(novel.pages, int)
    assert_type(novel.book_ptr, made.Book)
    assert_type((await db.get_one(made.Recent, 1)).title, str)
