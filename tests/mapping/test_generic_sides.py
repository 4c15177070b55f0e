"""Both sides of a ``GenericRelation``, and one whose two sides are one table."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload, subqueryload

from django_bridge import mapped, run_django, session


@pytest.fixture
async def stocked(shop: Any) -> Any:
    from tests.mapping.conftest import relations

    def fill() -> None:
        ann = relations.Author.objects.create(name="Ann")
        book = relations.Book.objects.create(title="Sea", author=ann)
        for about in (book, book, ann):  # a book and an author with the same key
            relations.Tag.objects.create(word=type(about).__name__, content_object=about)
        first = relations.Remark.objects.create(text="first", about=book)
        second = relations.Remark.objects.create(text="second", about=first)
        relations.Remark.objects.create(text="third", about=second)
        relations.Remark.objects.create(text="fourth", about=first)

    await run_django(fill)
    return relations


LOADS = pytest.mark.parametrize("load", [selectinload, joinedload, subqueryload])


@LOADS
async def test_a_generic_relation_with_a_query_name_is_there_on_its_other_side(stocked: Any, load: Any) -> None:
    Tag = mapped(stocked.Tag)
    async with session() as db:
        tags = (await db.scalars(select(Tag).options(load(Tag.book)).order_by(Tag.id))).unique().all()

    def by_django() -> list[list[str]]:
        return [[book.title for book in tag.book.all()] for tag in stocked.Tag.objects.order_by("pk")]

    assert [[book.title for book in tag.book] for tag in tags] == await run_django(by_django)
    assert [len(tag.book) for tag in tags] == [1, 1, 0]


@LOADS
async def test_a_generic_relation_to_its_own_table_leads_both_ways(stocked: Any, load: Any) -> None:
    Remark = mapped(stocked.Remark)
    for name in ("replies", "replied_to"):
        async with session() as db:
            statement = select(Remark).options(load(getattr(Remark, name))).order_by(Remark.id)
            rows = (await db.scalars(statement)).unique().all()

        def by_django(name: str = name) -> list[set[str]]:
            found = stocked.Remark.objects.order_by("pk")
            return [{other.text for other in getattr(row, name).all()} for row in found]

        assert [{other.text for other in getattr(row, name)} for row in rows] == await run_django(by_django), name
        assert sum(len(getattr(row, name)) for row in rows) == 3


async def test_the_other_side_goes_into_a_django_instance(stocked: Any) -> None:
    Tag = mapped(stocked.Tag)
    async with session() as db:
        tags = await db.fetch_all(select(Tag).options(selectinload(Tag.book)).order_by(Tag.id), into=stocked.Tag)

    assert [[book.title for book in tag.book.all()] for tag in tags] == [["Sea"], ["Sea"], []]


def test_a_generic_relation_without_a_query_name_has_no_other_side() -> None:
    from tests.mapping.conftest import relations

    assert "+" not in mapped(relations.Tag).__mapper__.relationships
    assert set(mapped(relations.Tag).__mapper__.relationships.keys()) == {"content_type", "book"}
