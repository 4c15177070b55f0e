"""Each misuse of the mapping is refused by name, with what to do; and nothing is broken afterwards."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.db import models
from django.test.utils import isolate_apps
from sqlalchemy import select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import joinedload, selectinload

from asyncdb.errors import AsyncDBError
from django_bridge import atomic, mapped, run_django, session, sync_session, table_for
from django_bridge.errors import FieldValueError, LazyLoadError, MappingError, NotMapped, UnmappableField
from tests.mapping.conftest import relations


@pytest.fixture
async def two_books(shop: Any) -> Any:
    m = shop.relations

    def fill() -> None:
        ann, bob = m.Author.objects.create(name="Ann"), m.Author.objects.create(name="Bob")
        m.Book.objects.create(title="A", author=ann, editor=bob)
        m.Book.objects.create(title="B", author=bob)

    shop.in_plain_thread(fill)
    return m


@pytest.mark.parametrize("ask", [mapped, table_for])
def test_what_is_no_model_of_the_project_is_refused(ask: Any) -> None:
    with pytest.raises(NotMapped, match=r"Stamped.*abstract"):
        ask(relations.Stamped)
    with pytest.raises(NotMapped, match=r"model"):
        ask(int)
    with pytest.raises(NotMapped, match=r"model"):
        ask(relations.Author())
    with pytest.raises(NotMapped, match=r"model"):
        ask("shop.Author")
    assert issubclass(NotMapped, MappingError)
    assert issubclass(MappingError, AsyncDBError)


@pytest.mark.parametrize("ask", [mapped, table_for])
def test_a_model_of_no_installed_app_is_refused(ask: Any, project: Any) -> None:
    from django.conf import settings

    project(INSTALLED_APPS=[app for app in settings.INSTALLED_APPS if app != "tests.mapping.shop"])
    with pytest.raises(NotMapped, match=r"shop\.Author.*INSTALLED_APPS"):
        ask(relations.Author)


def test_a_swapped_model_names_the_one_it_is_swapped_for(project: Any) -> None:
    project(SHOP_SWAPPED="shop.Author")
    with pytest.raises(NotMapped, match=r"shop\.Swapped.*shop\.Author"):
        mapped(relations.Swapped)
    assert mapped(relations.Author)


def test_before_the_models_are_loaded_it_is_refused_with_the_remedy(tmp_path: Any) -> None:
    app = tmp_path / "early"
    app.mkdir()
    (app / "__init__.py").write_text("")
    (app / "models.py").write_text(
        "from django.db import models\nfrom django_bridge import mapped\n"
        "class Early(models.Model):\n    pass\n"
        "try:\n    mapped(Early)\nexcept Exception as err:\n    print(type(err).__name__, err)\n"
    )
    program = (
        "import django\nfrom django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['django_bridge', 'early'], DATABASES={'default': {"
        "'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}})\ndjango.setup()\n"
        "from early.models import Early\nfrom django_bridge import mapped\nprint(mapped(Early).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("NotMapped"), done.stderr
    assert "early.Early" in done.stdout
    assert "models.py" in done.stdout
    assert done.stdout.splitlines()[-1] == "Early"


@isolate_apps("tests.mapping.shop")
def test_an_unmappable_field_is_named_and_keeps_nobody_else_from_being_mapped() -> None:
    class Wrapped(models.IntegerField):
        def select_format(self, compiler: Any, sql: str, params: Any) -> Any:
            return f"({sql} + 1)", params

    class Bad(models.Model):
        number = Wrapped()

        class Meta:
            app_label = "shop"

    class Child(Bad):
        class Meta:
            app_label = "shop"

    class Good(models.Model):
        bad = models.ForeignKey(Bad, models.CASCADE)

        class Meta:
            app_label = "shop"

    for ask, model in ((mapped, Bad), (table_for, Bad), (mapped, Child)):
        with pytest.raises(UnmappableField, match=r"shop\.Bad\.number.*select_format"):
            ask(model)
    assert mapped(Good).bad_id is not None
    assert not hasattr(mapped(Good), "bad")


# -- relations that are not loaded -------------------------------------------------------------------------------------


async def test_a_relation_that_is_not_loaded_says_what_to_add(two_books: Any) -> None:
    Author, Book = mapped(two_books.Author), mapped(two_books.Book)
    async with session() as db:
        books = (await db.scalars(select(Book).order_by(Book.title))).all()
        with pytest.raises(LazyLoadError, match=r"Book\.author .*joinedload\(Book\.author\)"):
            _ = books[0].author
        with pytest.raises(LazyLoadError, match=r"Book\.genres .*selectinload\(Book\.genres\)"):
            _ = books[0].genres
        # The same session goes on, in the same transaction.
        await db.refresh(books[0], ["author"])
        assert books[0].author.name == "Ann"
        again = (
            await db.scalars(
                select(Book).order_by(Book.title).options(joinedload(Book.author), selectinload(Book.genres))
            )
        ).all()
        assert [book.author.name for book in again] == ["Ann", "Bob"]
        assert again[0] is books[0]
        assert again[0].genres == []
        author = (await db.scalars(select(Author).where(Author.name == "Ann"))).one()
        with pytest.raises(LazyLoadError, match=r"Author\.book_set .*selectinload\(Author\.book_set\)"):
            _ = author.book_set
        author.name = "Anna"
        await db.commit()
    assert await two_books.Author.objects.filter(name="Anna").aexists()


async def test_what_needs_no_statement_is_no_error(two_books: Any) -> None:
    Author, Book = mapped(two_books.Author), mapped(two_books.Book)
    async with session() as db:
        authors = (await db.scalars(select(Author))).all()
        books = (await db.scalars(select(Book).order_by(Book.title))).all()
        assert books[0].author in authors  # it is in the session already
        assert books[1].editor is None  # a key of NULL
        assert Book(title="new").author is None
        assert Book(title="new").genres == []


async def test_lazy_loading_works_where_something_can_wait(two_books: Any, shop: Any) -> None:
    Book = mapped(two_books.Book)

    def names(db: Any) -> list[str]:
        return [book.author.name for book in db.scalars(select(Book).order_by(Book.title))]

    async with session() as db:
        assert await db.run_sync(names) == ["Ann", "Bob"]

    def in_sync() -> Any:
        with sync_session() as db:
            return names(db)

    assert shop.in_plain_thread(in_sync) == ["Ann", "Bob"]
    assert await run_django(in_sync) == ["Ann", "Bob"]


async def test_what_left_its_session_says_so(two_books: Any) -> None:
    Book = mapped(two_books.Book)
    async with session() as db:
        book = (await db.scalars(select(Book))).first()
    assert book.title
    with pytest.raises(Exception, match=r"author"):  # SQLAlchemy's DetachedInstanceError
        _ = book.author


async def test_a_refused_relation_in_a_block_leaves_the_block_whole(two_books: Any) -> None:
    Book = mapped(two_books.Book)
    async with atomic() as db:
        book = (await db.scalars(select(Book).where(Book.title == "A"))).one()
        with pytest.raises(LazyLoadError):
            _ = book.author
        book.title = "changed"
    assert await two_books.Book.objects.filter(title="changed").aexists()


# -- keys --------------------------------------------------------------------------------------------------------------


async def test_a_composite_key_in_the_wrong_order_is_refused_by_name(shop: Any) -> None:
    Line = mapped(shop.relations.Line)
    shop.in_plain_thread(lambda: shop.relations.Line.objects.create(order="a", number=1))
    async with session() as db:
        assert await db.get(Line, ("a", 1)) is not None
        with pytest.raises((FieldValueError, StatementError), match=r"shop\.Line\.number.*order.*number"):
            await db.get(Line, (1, "a"))
        with pytest.raises(Exception, match=r"order.*number|number of values|primary key"):
            await db.get(Line, ("a",))
        assert await db.get(Line, ("a", 1)) is not None
