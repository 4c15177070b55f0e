"""Rows into what the caller asked for, on every family."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from sqlalchemy import func, literal, select, text
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from typing_extensions import TypedDict  # typing.TypedDict is refused by pydantic before Python 3.12

from asyncdb import Database, ManyRows, NoRow, RowShape
from tests.tables import Author, Book

BOOKS = select(Book.id, Book.title).order_by(Book.id)


class BookOut(BaseModel):
    id: int
    title: str


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    number: int = Field(validation_alias=AliasChoices("id", "number"))
    title: str = Field(serialization_alias="name")


class AuthorOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    name: str


class WithAuthor(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    title: str
    author: AuthorOut | None


@dataclasses.dataclass
class Card:
    id: int
    title: str
    shelf: str = "none"


class Entry(TypedDict):
    id: int
    title: str


class Pair(NamedTuple):
    id: int
    title: str


@pytest.mark.contract
async def test_pydantic_models_in_order(books: Database) -> None:
    found = await books.fetch_all(BOOKS, into=BookOut)
    assert [type(item) for item in found] == [BookOut] * 3
    assert [item.id for item in found] == [1, 2, 3]


async def test_aliases_of_a_model_are_honoured(books: Database) -> None:
    assert (await books.fetch_one(BOOKS.limit(1), into=Aliased)).model_dump(by_alias=True) == {
        "number": 1,
        "name": "Momo",
    }


async def test_a_model_takes_the_attributes_of_an_orm_object(books: Database) -> None:
    found = await books.fetch_all(select(Book).order_by(Book.id), into=BookOut)
    assert found[0] == BookOut(id=1, title="Momo")


async def test_a_model_takes_related_objects_that_are_loaded(books: Database) -> None:
    from sqlalchemy.orm import joinedload

    found = await books.fetch_all(select(Book).options(joinedload(Book.author)).order_by(Book.id), into=WithAuthor)
    assert found[0] == WithAuthor(title="Momo", author=AuthorOut(name="Michael Ende"))


async def test_a_model_takes_labelled_columns_of_a_join(books: Database) -> None:
    class Line(BaseModel):
        title: str
        author: str

    statement = select(Book.title, Author.name.label("author")).join(Author).order_by(Book.id)
    assert (await books.fetch_all(statement, into=Line))[0] == Line(title="Momo", author="Michael Ende")


async def test_nested_models_are_made_of_json(books: Database) -> None:
    class Nested(BaseModel):
        inner: Annotated[BookOut, Field()]

    class FromJson(BaseModel):
        inner: str

    [row] = await books.fetch_all(select(literal(json.dumps({"id": 1})).label("inner")), into=FromJson)
    assert row.inner == '{"id": 1}'
    with pytest.raises(RowShape, match="row 0, inner"):
        await books.fetch_all(select(literal("x").label("inner")), into=Nested)


async def test_dataclasses_with_defaults(books: Database) -> None:
    assert (await books.fetch_all(BOOKS, into=Card))[0] == Card(1, "Momo")
    assert (await books.fetch_all(select(Book).order_by(Book.id), into=Card))[0] == Card(1, "Momo")


@pytest.mark.parametrize("into", [dict, dict[str, Any]])
async def test_dicts_have_plain_strings_as_keys(books: Database, into: Any) -> None:
    found = await books.fetch_all(BOOKS, into=into)
    assert found[0] == {"id": 1, "title": "Momo"}
    assert [type(key) for key in found[0]] == [str, str]


async def test_a_dict_of_an_orm_object_has_its_columns(books: Database) -> None:
    [found] = await books.fetch_all(select(Book).where(Book.id == 1), into=dict)
    assert found == {"id": 1, "title": "Momo", "author_id": 1}
    assert {type(key) for key in found} == {str}


async def test_a_dict_of_text_has_the_servers_names(books: Database) -> None:
    found = await books.fetch_one(text("SELECT id AS number, title FROM book WHERE id = 1"), into=dict)
    assert found == {"number": 1, "title": "Momo"}


async def test_two_columns_of_one_name_are_not_merged_in_silence(books: Database) -> None:
    statement = select(Book.id, Author.id).join(Author).where(Book.id == 2)
    found = await books.fetch_one(statement, into=dict)
    assert len(found) == 2


async def test_typed_dicts(books: Database) -> None:
    assert (await books.fetch_all(BOOKS, into=Entry))[0] == {"id": 1, "title": "Momo"}


async def test_named_tuples_and_tuples_take_columns_by_position(books: Database) -> None:
    assert (await books.fetch_all(BOOKS, into=Pair))[0] == Pair(1, "Momo")
    assert type((await books.fetch_all(BOOKS, into=Pair))[0]) is Pair
    assert (await books.fetch_all(BOOKS, into=tuple[int, str]))[0] == (1, "Momo")


async def test_scalars(books: Database) -> None:
    assert await books.fetch_all(select(Book.title).order_by(Book.id).limit(1), into=str) == ["Momo"]
    assert await books.fetch_val(select(func.count(Book.id)), into=int) == 3
    assert await books.fetch_one(select(literal("2024-02-29")), into=datetime.date) == datetime.date(2024, 2, 29)
    assert await books.fetch_val(select(literal(3)), into=decimal.Decimal) == decimal.Decimal(3)


async def test_a_null_as_scalar(books: Database) -> None:
    statement = select(Book.author_id).where(Book.id == 1)
    async with books.atomic() as db:
        await db.execute(text("UPDATE book SET author_id = NULL WHERE id = 1"))
    assert await books.fetch_val(statement) is None
    with pytest.raises(RowShape, match="row 0"):
        await books.fetch_val(statement, into=int)
    optional: Any = int | None
    assert await books.fetch_val(statement, into=optional) is None
    assert await books.fetch_one(statement, into=optional) is None


async def test_without_into_rows_are_sqlalchemys(books: Database) -> None:
    row = (await books.fetch_all(BOOKS))[0]
    assert (row.id, row.title) == (1, "Momo")
    assert (await books.fetch_one(select(Book).where(Book.id == 1)))[0].title == "Momo"


async def test_no_rows_are_an_empty_list(books: Database) -> None:
    assert await books.fetch_all(BOOKS.where(Book.id < 0), into=BookOut) == []
    assert list(await books.fetch_all(BOOKS.where(Book.id < 0))) == []


async def test_fetch_one_tells_none_and_many(books: Database) -> None:
    with pytest.raises(NoRow, match="none was found") as none:
        await books.fetch_one(BOOKS.where(Book.id < 0), into=BookOut)
    assert isinstance(none.value, NoResultFound)
    with pytest.raises(ManyRows, match="3 were found") as many:
        await books.fetch_one(BOOKS, into=BookOut)
    assert isinstance(many.value, MultipleResultsFound)
    with pytest.raises(ManyRows):
        await books.fetch_one_or_none(BOOKS)
    with pytest.raises(ManyRows):
        await books.fetch_val(BOOKS)
    with pytest.raises(NoRow):
        await books.fetch_val(BOOKS.where(Book.id < 0), into=int)
    assert await books.fetch_one_or_none(BOOKS.where(Book.id < 0), into=BookOut) is None
    assert await books.fetch_one_or_none(BOOKS.where(Book.id == 2), into=BookOut) is not None


async def test_a_row_that_does_not_fit_is_named_and_its_value_is_not(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(text("UPDATE book SET title = 'secret-value' WHERE id = 2"))

    class Numbers(BaseModel):
        id: int
        title: int

    with pytest.raises(RowShape) as caught:
        await books.fetch_all(BOOKS.where(Book.id == 2), into=Numbers)
    message = str(caught.value)
    assert "the rows do not fit Numbers: row 0, title" in message
    assert "secret-value" not in message
    assert caught.value.__cause__ is None
    assert isinstance(caught.value, ValueError)


async def test_the_second_row_that_does_not_fit_is_row_1(books: Database) -> None:
    class Low(BaseModel):
        id: Annotated[int, Field(lt=2)]

    with pytest.raises(RowShape, match=r"row 1, id: .*; row 2, id"):
        await books.fetch_all(BOOKS, into=Low)


async def test_a_missing_column_is_named(books: Database) -> None:
    with pytest.raises(RowShape, match="title"):
        await books.fetch_all(select(Book.id), into=BookOut)
    with pytest.raises(RowShape, match="title"):
        await books.fetch_all(select(Book.id), into=Card)


async def test_a_scalar_of_two_columns_is_refused_with_their_names(books: Database) -> None:
    with pytest.raises(RowShape, match=r"int takes one column and the row has 2 \(id, title\)"):
        await books.fetch_all(BOOKS, into=int)


async def test_a_validators_own_message_may_not_show_the_value(books: Database) -> None:
    from typing import Literal

    class Choice(BaseModel):
        title: Literal["a", "b"]

    with pytest.raises(RowShape) as caught:
        await books.fetch_all(select(Book.title).where(Book.id == 1), into=Choice)
    assert "Momo" not in str(caught.value)


async def test_a_bad_shape_leaves_the_pool_whole(books: Database) -> None:
    with pytest.raises(RowShape):
        await books.fetch_all(BOOKS, into=int)
    with pytest.raises(RowShape):
        async with books.stream(BOOKS, into=int) as rows:
            async for _ in rows:
                pass
    assert books.stats().checked_out == 0
    assert await books.fetch_val(select(literal(1))) == 1
