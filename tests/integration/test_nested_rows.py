"""Rows into models inside models: labels, outer joins, several ORM objects, loaded relations."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

import pytest
from pydantic import BaseModel, Field
from sqlalchemy import func, insert, literal, select
from sqlalchemy.orm import aliased, joinedload, load_only, selectinload
from typing_extensions import TypedDict  # typing.TypedDict is refused by pydantic before Python 3.12

from asyncdb import Database, RowShape
from asyncdb import rows as rows_module
from asyncdb.nesting import nested
from tests.tables import Author, Book


class AuthorOut(BaseModel):
    id: int
    name: str


class BookOut(BaseModel):
    title: str
    author: AuthorOut | None


class AlwaysAnAuthor(BaseModel):
    title: str
    author: AuthorOut


class Town(BaseModel):
    name: str


class Deep(BaseModel):
    name: str
    town: Optional[Town]  # noqa: UP045  (the other spelling)


class DeepBook(BaseModel):
    title: str
    author: Deep | None


class Writer(TypedDict):
    id: int
    name: str


@dataclasses.dataclass
class Person:
    id: int
    name: str


@dataclasses.dataclass
class Card:
    title: str
    author: Person | None


@dataclasses.dataclass
class CardOfDict:
    title: str
    author: Writer | None


class Slip(TypedDict):
    title: str
    author: Writer | None


LABELLED = (
    select(Book.title, Author.id.label("author__id"), Author.name.label("author__name"))
    .outerjoin(Author)
    .order_by(Book.id)
)


@pytest.fixture
async def orphan(books: Database) -> Database:
    """The books, and one without an author, which comes first."""
    async with books.atomic() as db:
        await db.execute(insert(Book), [{"id": -1, "title": "Beowulf", "author_id": None}])
    return books


@pytest.mark.parametrize("into", [BookOut, Card, CardOfDict])
async def test_labels_fill_a_model_in_a_model_and_an_empty_outer_join_is_none(orphan: Database, into: Any) -> None:
    found = await orphan.fetch_all(LABELLED, into=into)
    assert (found[0].title, found[0].author) == ("Beowulf", None)
    author = found[1].author
    assert (author if isinstance(author, dict) else vars(author)) == {"id": 1, "name": "Michael Ende"}


async def test_labels_fill_a_typed_dict_in_a_typed_dict(orphan: Database) -> None:
    found = await orphan.fetch_all(LABELLED, into=Slip)
    assert found[0] == {"title": "Beowulf", "author": None}
    assert found[1] == {"title": "Momo", "author": {"id": 1, "name": "Michael Ende"}}


async def test_an_empty_outer_join_into_a_model_that_must_be_there_is_named(orphan: Database) -> None:
    with pytest.raises(RowShape, match=r"row 0, author\.id"):
        await orphan.fetch_all(LABELLED, into=AlwaysAnAuthor)


async def test_labels_nest_to_any_depth(books: Database) -> None:
    statement = LABELLED.add_columns(literal("Garmisch").label("author__town__name")).limit(1)
    [found] = await books.fetch_all(statement, into=DeepBook)
    assert found == DeepBook(title="Momo", author=Deep(name="Michael Ende", town=Town(name="Garmisch")))
    [found] = await books.fetch_all(
        LABELLED.add_columns(literal(None).label("author__town__name")).limit(1), into=DeepBook
    )
    assert found == DeepBook(title="Momo", author=Deep(name="Michael Ende", town=None))


async def test_an_alias_is_a_name_too(books: Database) -> None:
    class Aliased(BaseModel):
        title: str
        writer: AuthorOut | None = Field(alias="author")

    assert (await books.fetch_all(LABELLED, into=Aliased))[0].writer == AuthorOut(id=1, name="Michael Ende")


async def test_a_field_whose_name_has_two_underscores_is_filled_as_it_is(books: Database) -> None:
    class Flat(BaseModel):
        author: str = ""
        author__name: str

    assert (await books.fetch_all(LABELLED, into=Flat))[0].author__name == "Michael Ende"


async def test_a_dict_has_the_labels_as_they_are(books: Database) -> None:
    assert (await books.fetch_all(LABELLED, into=dict))[0] == {
        "title": "Momo",
        "author__id": 1,
        "author__name": "Michael Ende",
    }


async def test_a_stream_nests_as_well(orphan: Database) -> None:
    found = [item async for item in orphan.stream(LABELLED, into=BookOut, batch=2)]
    assert found == await orphan.fetch_all(LABELLED, into=BookOut)


async def test_several_orm_objects_fill_the_fields_of_their_names(orphan: Database) -> None:
    class Line(BaseModel):
        book: BookTitle
        author: AuthorOut | None
        length: int

    statement = select(Book, Author, func.length(Book.title).label("length")).outerjoin(Author).order_by(Book.id)
    found = await orphan.fetch_all(statement, into=Line)
    assert (found[0].book.title, found[0].author, found[0].length) == ("Beowulf", None, 7)
    assert found[1].author == AuthorOut(id=1, name="Michael Ende")


class BookTitle(BaseModel):
    title: str


@dataclasses.dataclass
class CardAndPerson:
    book: BookTitle
    editor: Person


async def test_an_aliased_class_fills_the_field_of_its_alias(books: Database) -> None:
    editor = aliased(Author, name="editor")
    statement = select(Book, editor).join(editor, editor.id == Book.author_id).order_by(Book.id).limit(1)
    assert await books.fetch_one(statement, into=CardAndPerson) == CardAndPerson(
        BookTitle(title="Momo"), Person(1, "Michael Ende")
    )


@pytest.mark.parametrize("into", [BookOut, Card, CardOfDict])
async def test_a_loaded_relation_fills_a_model_in_a_model(orphan: Database, into: Any) -> None:
    for load in (selectinload(Book.author), joinedload(Book.author)):
        found = await orphan.fetch_all(select(Book).options(load).order_by(Book.id), into=into)
        assert found[0].author is None
        author = found[1].author
        assert (author if isinstance(author, dict) else author.name) in (
            "Michael Ende",
            Writer(id=1, name="Michael Ende"),
        )


@pytest.mark.parametrize("into", [BookOut, Card, Slip])
async def test_a_relation_that_was_not_loaded_is_named_with_its_remedy(books: Database, into: Any) -> None:
    with pytest.raises(
        RowShape, match=r"the relation Book\.author was not loaded: add options\(joinedload\(Book\.author\)\)"
    ):
        await books.fetch_all(select(Book), into=into)
    assert books.stats().checked_out == 0


async def test_a_relation_of_a_nested_object_that_was_not_loaded_is_named(books: Database) -> None:
    class Line(BaseModel):
        book: BookOut
        number: int

    with pytest.raises(RowShape, match=r"row 0, book\.author: the relation Book\.author was not loaded"):
        await books.fetch_all(select(Book, literal(1).label("number")), into=Line)


async def test_a_column_that_was_not_loaded_is_named(books: Database) -> None:
    statement = select(Book).options(load_only(Book.id)).order_by(Book.id)
    for into in (BookTitle, Card):
        with pytest.raises(RowShape, match=r"the column Book\.title was not loaded"):
            await books.fetch_all(statement, into=into)
    assert (await books.fetch_all(statement, into=dict))[0] == {"id": 1}


async def test_flat_rows_are_given_to_pydantic_as_they_are(books: Database) -> None:
    found = await books.fetch_all(select(Book.id, Book.title, Author.name.label("writer")).join(Author))
    assert nested(found, BookOut) is None
    assert nested(await books.fetch_all(LABELLED), BookOut) is not None  # the control


async def test_other_types_are_taught_and_get_the_alias(books: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    class Taught:
        pass

    with pytest.raises(Exception, match="Taught"):
        await books.fetch_all(select(Book.id), into=Taught)
    monkeypatch.setattr(rows_module, "_extensions", [])
    rows_module.extend(lambda into: (lambda rows, alias: [(alias, len(rows))]) if into is Taught else None)
    try:
        assert await books.fetch_all(select(Book.id), into=Taught) == [("default", 3)]
        assert [item async for item in books.stream(select(Book.id), into=Taught)] == [("default", 3)]
        async with books.session() as db:
            assert await db.fetch_all(select(Book.id), into=Taught) == [("default", 3)]
        assert (await books.fetch_all(select(Book.title).order_by(Book.id), into=BookTitle))[0].title == "Momo"
    finally:
        rows_module._converter.cache_clear()
