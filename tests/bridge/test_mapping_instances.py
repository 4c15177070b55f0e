"""``into=models.Book`` and ``as_django``: Django's own instances of what a session has read."""

# ruff: noqa: N806  (what mapped() gives is a class)

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import SynchronousOnlyOperation, ValidationError
from django.db import models as django_models
from django.db.models.query import prefetch_related_objects
from django.test.utils import isolate_apps
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import aliased, joinedload, load_only, selectinload

from asyncdb import RowShape
from django_bridge import atomic, database, mapped, query_budget, run_django, session, table_for
from django_bridge.mapping.instances import as_django

from .conftest import Shop


@pytest.fixture
async def library(
    family: str, bridged: Any, project: Callable[..., None], django_db_blocker: Any
) -> AsyncIterator[Any]:
    """The models of ``tests.bridge.library``, with one author, two books, a novel and what belongs to them."""
    project(INSTALLED_APPS=[*settings.INSTALLED_APPS, "tests.bridge.library"])
    models = apps.get_app_config("library").models_module
    ContentType.objects.clear_cache()
    with django_db_blocker.unblock():
        await Shop(family, models, bridged).create(ContentType, *apps.get_app_config("library").get_models())
        await asyncio.create_task(run_django(fill, models), context=contextvars.Context())
        yield models
        assert database().stats().checked_out == 0
    ContentType.objects.clear_cache()


def fill(models: Any) -> None:
    author = models.Author.objects.create(name="Ende", publisher=models.Publisher.objects.create(name="T"))
    author.teachers.add(author)
    for title in ("Momo", "Jim"):
        book = models.Book.objects.create(title=title, summary="Time", author=author)
        book.tags.add(models.Tag.objects.create(name=f"of {title}"), models.Tag.objects.create(name="green"))
        book.notes.create(text="read")
    models.Cover.objects.create(book=models.Book.objects.get(title="Momo"), colour="green")
    models.Novel.objects.create(title="Mirror", summary="Old", author=author, pages=3)


async def nothing_is_asked(work: Callable[[], Any]) -> Any:
    """Calls sync code on the loop, where it can ask nothing."""
    with query_budget(0):
        return work()


async def test_columns_become_an_instance_as_django_reads_it(library: Any) -> None:
    table = table_for(library.Book)
    found = await database().fetch_all(select(table).order_by(table.c.id), into=library.Book)
    wanted = [book async for book in library.Book.objects.order_by("id")]
    assert found == wanted
    for ours, djangos in zip(found, wanted, strict=True):
        assert type(ours) is library.Book
        assert {key: value for key, value in vars(ours).items() if key != "_state"} == {
            key: value for key, value in vars(djangos).items() if key != "_state"
        }
        assert (ours._state.db, ours._state.adding, ours._state.fields_cache) == ("default", False, {})
        assert ours.get_deferred_fields() == set()


async def test_columns_that_were_not_selected_are_deferred(library: Any) -> None:
    table = table_for(library.Book)
    [book] = await database().fetch_all(select(table.c.title, table.c.id).where(table.c.id == 1), into=library.Book)
    assert (book.pk, book.title) == (1, "Momo")
    assert book.get_deferred_fields() == {"summary", "author_id", "editor_id"}
    assert await run_django(lambda: book.summary) == "Time"


async def test_an_instance_can_be_saved(library: Any) -> None:
    table = table_for(library.Book)
    async with atomic() as db:
        book = await db.fetch_one(select(table.c.id, table.c.title).where(table.c.id == 1), into=library.Book)
        book.title = "Momo!"
        await book.asave()
    assert await database().fetch_val(select(table.c.title).where(table.c.id == 1)) == "Momo!"


async def test_other_columns_are_attributes_and_no_name_is_overwritten(library: Any) -> None:
    table = table_for(library.Book)
    counted = func.length(table.c.title)
    [book] = await database().fetch_all(
        select(table.c.id, counted.label("letters")).where(table.c.id == 1), into=library.Book
    )
    assert book.letters == 4
    for taken in ("author", "save", "tags"):
        with pytest.raises(RowShape, match=f"Book has an attribute '{taken}'"):
            await database().fetch_all(select(table.c.id, counted.label(taken)), into=library.Book)


async def test_text_is_read_by_the_names_of_columns(library: Any) -> None:
    book = await database().fetch_one(text("SELECT id, author_id FROM library_book WHERE id = 2"), into=library.Book)
    assert (book.pk, book.author_id) == (2, 1)


async def test_a_missing_primary_key_is_named(library: Any) -> None:
    table = table_for(library.Book)
    with pytest.raises(RowShape, match="Book needs its primary key, and the rows have no 'id'"):
        await database().fetch_all(select(table.c.title), into=library.Book)
    novel = table_for(library.Novel)
    with pytest.raises(RowShape, match="no 'book_ptr_id'"):
        await database().fetch_all(select(novel.c.pages), into=library.Novel)


async def test_one_column_twice_is_refused(library: Any) -> None:
    table = table_for(library.Book)
    statement = select(table.c.id, table.c.title, func.upper(table.c.title).label("title"))
    with pytest.raises(RowShape, match="one value for 'title'"):
        await database().fetch_all(statement, into=library.Book)


async def test_an_abstract_model_is_refused(library: Any) -> None:
    with isolate_apps("tests.bridge.library"):

        class Abstract(django_models.Model):
            class Meta:
                abstract = True
                app_label = "library"

    with pytest.raises(RowShape, match="Abstract is abstract"):
        await database().fetch_all(text("SELECT 1"), into=Abstract)


async def test_a_models_own_from_db_is_called(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def from_db(cls: Any, db: Any, field_names: Any, values: Any, **options: Any) -> Any:
        seen.append((db, list(field_names), list(values)))
        return super(library.Book, cls).from_db(db, field_names, values, **options)

    monkeypatch.setattr(library.Book, "from_db", classmethod(from_db))
    table = table_for(library.Book)
    await database().fetch_one(select(table.c.author_id, table.c.id).where(table.c.id == 1), into=library.Book)
    assert seen == [("default", ["id", "author_id"], [1, 1])]


async def test_every_verb_and_the_stream_give_instances(library: Any) -> None:
    Book = mapped(library.Book)
    statement = select(Book).order_by(Book.id)
    assert [book.title async for book in database().stream(statement, into=library.Book, batch=2)] == [
        "Momo",
        "Jim",
        "Mirror",
    ]
    page = await database().fetch_page(statement, size=2, into=library.Book)
    assert ([book.title for book in page], page.total) == (["Momo", "Jim"], 3)
    async with session() as db:
        assert (await db.fetch_one(statement.limit(1), into=library.Book)).title == "Momo"
        assert await db.fetch_one_or_none(statement.where(Book.id < 0), into=library.Book) is None


async def test_the_alias_is_the_databases(two: Any, project: Callable[..., None]) -> None:
    from django.contrib.contenttypes.models import ContentType

    statement = text("SELECT 1 AS id, 'a' AS app_label")
    for alias in ("default", "other"):
        assert (await database(alias).fetch_one(statement, into=ContentType))._state.db == alias
        async with session(alias) as db:
            assert (await db.fetch_one(statement, into=ContentType))._state.db == alias
        async with atomic(alias) as db:
            assert (await db.fetch_one(statement, into=ContentType))._state.db == alias
            assert [one._state.db async for one in db.stream(statement, into=ContentType)] == [alias]


# Mapped objects and their relations


async def test_a_mapped_object_gives_what_its_row_gives(library: Any) -> None:
    Book = mapped(library.Book)
    found = await database().fetch_all(select(Book).order_by(Book.id), into=library.Book)
    assert [vars(book)["title"] for book in found] == ["Momo", "Jim", "Mirror"]
    assert found[0]._state.fields_cache == {}
    assert not hasattr(found[0], "_prefetched_objects_cache")
    [book] = await database().fetch_all(
        select(Book).options(load_only(Book.title)).where(Book.id == 1), into=library.Book
    )
    assert book.get_deferred_fields() == {"summary", "author_id", "editor_id"}


async def test_loaded_relations_are_read_without_a_query_as_after_djangos_own_prefetch(library: Any) -> None:
    Book, Author = mapped(library.Book), mapped(library.Author)
    statement = (
        select(Book)
        .options(
            joinedload(Book.author).options(
                joinedload(Author.publisher),
                selectinload(Author.books),
                selectinload(Author.teachers),
                selectinload(Author.pupils),
            ),
            joinedload(Book.editor),
            selectinload(Book.tags),
            selectinload(Book.notes),
            joinedload(Book.cover),
        )
        .order_by(Book.id)
    )
    found = await database().fetch_all(statement, into=library.Book)

    def read(books: Any) -> list[Any]:
        return [
            (
                book.title,
                book.author.name,
                book.author.publisher.name,
                sorted(other.title for other in book.author.books.all()),
                [other.author.name for other in book.author.books.all()],
                [teacher.name for teacher in book.author.teachers.all()],
                [pupil.name for pupil in book.author.pupils.all()],
                book.editor,
                sorted(tag.name for tag in book.tags.all()),
                [note.text for note in book.notes.all()],
                getattr(book, "cover", None) and (book.cover.colour, book.cover.book.title),
            )
            for book in books
        ]

    ours = await nothing_is_asked(lambda: read(found))

    def djangos() -> list[Any]:
        books = list(library.Book.objects.order_by("id"))
        prefetch_related_objects(
            books,
            "author__publisher",
            "author__books",
            "author__teachers",
            "author__pupils",
            "editor",
            "tags",
            "notes",
        )
        return read(books)

    assert ours == await run_django(djangos)
    assert ours[0][-1] == ("green", "Momo")
    assert ours[1][-1] is None


async def test_one_mapped_object_is_one_instance(library: Any) -> None:
    Book = mapped(library.Book)
    found = await database().fetch_all(select(Book).options(joinedload(Book.author)), into=library.Book)
    assert len({id(book.author) for book in found}) == 1


async def test_a_relation_that_was_not_loaded_is_lazy_in_django_as_well(library: Any) -> None:
    Book = mapped(library.Book)
    book = await database().fetch_one(select(Book).where(Book.id == 1), into=library.Book)
    with pytest.raises(SynchronousOnlyOperation):
        book.author  # noqa: B018
    assert await run_django(lambda: book.author.name) == "Ende"


async def test_a_child_has_its_parents_columns(library: Any) -> None:
    Novel = mapped(library.Novel)
    novel = await database().fetch_one(select(Novel), into=library.Novel)
    assert (type(novel), novel.title, novel.pages, novel.pk) == (library.Novel, "Mirror", 3, novel.book_ptr_id)
    assert novel.get_deferred_fields() == set()
    async with session() as db:
        as_parent = await db.fetch_one(select(Novel), into=library.Book)
    assert (type(as_parent), as_parent.title) == (library.Book, "Mirror")
    Book = mapped(library.Book)
    with pytest.raises(RowShape, match="objects of Book, and not of Novel"):
        await database().fetch_all(select(Book), into=library.Novel)


async def test_rows_with_more_than_the_object_have_it_as_attributes(library: Any) -> None:
    Book = mapped(library.Book)
    statement = select(Book, func.length(Book.title).label("letters")).where(Book.id == 1)
    book = await database().fetch_one(statement, into=library.Book)
    assert (book.title, book.letters) == ("Momo", 4)


async def test_an_outer_join_without_an_object_is_refused_by_its_row(library: Any) -> None:
    Book, Author = mapped(library.Book), mapped(library.Author)
    editor = aliased(Author)
    async with atomic() as db:
        await db.execute(update(Book).where(Book.id == 1).values(editor_id=1))
    statement = select(editor).select_from(Book).outerjoin(editor, editor.id == Book.editor_id).order_by(Book.id)
    with pytest.raises(RowShape, match="row 1: there is no Author"):
        await database().fetch_all(statement, into=library.Author)


# as_django and full_clean


async def test_as_django_of_a_new_object_is_adding(library: Any) -> None:
    Book = mapped(library.Book)
    made = as_django(Book(title="Emma", author_id=1))
    assert (made._state.adding, made._state.db, made.pk, made.title, made.author_id) == (True, None, None, "Emma", 1)
    assert as_django(Book(), using="default")._state.db == "default"


async def test_as_django_of_a_stored_object_has_its_alias_and_what_was_changed(library: Any) -> None:
    Book, Author = mapped(library.Book), mapped(library.Author)
    async with session() as db:
        book = (await db.execute(select(Book).options(joinedload(Book.author)).where(Book.id == 1))).scalar_one()
        book.title = "Changed"
        made = as_django(book)
        assert (made._state.adding, made._state.db, made.title) == (False, "default", "Changed")
        assert made.author.name == "Ende"
        book.author = Author(name="New")
        assert (as_django(book).author.name, as_django(book).author_id) == ("New", None)
        await db.rollback()
    async with session() as db:
        book = (await db.execute(select(Book).options(joinedload(Book.author)).where(Book.id == 1))).scalar_one()
        book.author_id = 99
        made = as_django(book)
        assert (made.author_id, made._state.fields_cache) == (99, {})
        await db.rollback()


async def test_as_django_takes_mapped_objects_only(library: Any) -> None:
    for wrong in (library.Book(), 3, None, object()):
        with pytest.raises(TypeError, match="an object of a mapped"):
            as_django(wrong)


async def test_full_clean_says_what_django_says(library: Any) -> None:
    Book = mapped(library.Book)
    with pytest.raises(ValidationError) as ours:
        await run_django(Book(title="x" * 51, summary="").full_clean)
    with pytest.raises(ValidationError) as djangos:
        await run_django(library.Book(title="x" * 51, summary="").full_clean)
    assert ours.value.message_dict == djangos.value.message_dict
    assert set(ours.value.message_dict) == {"title", "summary", "author", "editor"}
    await run_django(Book(title="Emma", summary="S", author_id=1, editor_id=1).full_clean)
    Book(title="Emma", summary="S").full_clean(
        exclude={"author", "editor"}, validate_unique=False, validate_constraints=False
    )


async def test_full_clean_that_asks_the_database_is_refused_on_the_loop(library: Any) -> None:
    Book = mapped(library.Book)
    with pytest.raises(SynchronousOnlyOperation):
        Book(title="Emma", summary="S", author_id=1).full_clean()


async def test_full_clean_takes_back_what_was_cleaned(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def clean(self: Any) -> None:
        self.title = self.title.strip().title()

    monkeypatch.setattr(library.Book, "clean", clean)
    book = mapped(library.Book)(title=" emma ", summary="S", author_id="1", editor_id=1)
    await run_django(book.full_clean)
    assert (book.title, book.author_id) == ("Emma", 1)


async def test_full_clean_sees_unique_fields_and_not_the_object_itself(library: Any) -> None:
    Cover = mapped(library.Cover)
    with pytest.raises(ValidationError, match="already exists"):
        await run_django(Cover(book_id=1, colour="red").full_clean)
    async with session() as db:
        cover = (await db.execute(select(Cover))).scalar_one()
        await run_django(cover.full_clean)
