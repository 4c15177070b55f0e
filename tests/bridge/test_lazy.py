"""Lazy loading on the loop: the error names what was read and what loads it; elsewhere nothing changes."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.core import serializers
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections
from django.db.models import Prefetch
from django.template import Context, Engine
from django.test import override_settings

from django_bridge import lazy
from django_bridge.errors import LazyLoadError

from .conftest import forget_connections

LABEL = "library"
fetch_modes = pytest.mark.skipif(django.VERSION < (6, 1), reason="fetch modes came with Django 6.1")
In = Callable[..., Awaitable[Any]]


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    before = bool(lazy._replaced)
    lazy.install()
    assert lazy._replaced
    yield
    if before:
        lazy.install()  # again, where the test has uninstalled it: others stand on it
    else:
        lazy.uninstall()


@pytest.fixture(scope="module")
def models() -> Iterator[Any]:
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "tests.bridge.library"]):
        yield apps.get_app_config(LABEL).models_module


@pytest.fixture
def in_thread(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any) -> Iterator[In]:
    """``await in_thread(load)``: in one of Django's threads, on an SQLite file with one object of each kind."""
    from django.contrib.contenttypes.models import ContentType

    monkeypatch.setitem(connections.settings["default"], "NAME", str(tmp_path / "library.sqlite3"))

    def create() -> None:
        with connection.schema_editor() as editor:
            for table in (ContentType, *apps.get_app_config(LABEL).get_models()):
                editor.create_model(table)
        author = models.Author.objects.create(name="Ende", publisher=models.Publisher.objects.create(name="T"))
        author.teachers.add(author)
        for title in ("Momo", "Jim"):
            book = models.Book.objects.create(title=title, summary="Time", author=author)
            book.tags.add(models.Tag.objects.create(name="green"))
            models.Cover.objects.create(book=book, colour="green")
            book.notes.create(text="read")
        models.Novel.objects.create(title="Mirror", summary="Old", author=author)

    def run(work: Callable[..., Any], *args: Any) -> Any:
        try:
            return work(*args)
        finally:
            connections.close_all()

    async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
        return await sync_to_async(run)(work, *args)

    ContentType.objects.clear_cache()
    forget_connections()  # this thread's may be those of another test's database
    with django_db_blocker.unblock():
        run(create)
        yield in_thread


def refused(read: Callable[[], Any]) -> str:
    """The message of the error, which stands on Django's own."""
    with pytest.raises(SynchronousOnlyOperation) as caught:
        read()
    assert type(caught.value) is LazyLoadError
    assert type(caught.value.__cause__) is SynchronousOnlyOperation
    return str(caught.value)


# Fields


async def test_a_deferred_field_names_defer_only_and_arefresh_from_db(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.defer("summary").first)
    assert refused(lambda: book.summary) == (
        'Book.summary is deferred, and loading it here would block the event loop: take "summary" out of .defer() '
        'or add it to .only(), or first await book.arefresh_from_db(fields=["summary"])'
    )


async def test_what_the_error_of_a_deferred_field_proposes_loads_it(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.only("title").first)
    refused(lambda: book.summary)
    await in_thread(lambda: book.refresh_from_db(fields=["summary"]))
    assert book.summary == "Time"


async def test_the_deferred_column_of_a_foreign_key_is_named_by_its_own_name(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.only("title").first)
    assert refused(lambda: book.author_id).startswith("Book.author_id is deferred")
    assert refused(lambda: book.author).startswith("Book.author_id is deferred")


async def test_a_deferred_field_of_a_parent_is_named_with_the_model_that_was_read(models: Any, in_thread: In) -> None:
    novel = await in_thread(models.Novel.objects.only("pages").first)
    assert refused(lambda: novel.title).startswith("Novel.title is deferred")


async def test_a_loaded_field_is_read_on_the_loop(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    assert (book.summary, book.author_id) == ("Time", 1)
    assert models.Book.summary.field.name == "summary"


async def test_a_foreign_key_names_select_related(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    assert refused(lambda: book.author) == (
        'Book.author is not loaded, and loading it here would block the event loop: add .select_related("author") '
        'to the query (from another model: "...__author"), or first await run_django(getattr, book, "author")'
    )


async def test_what_the_error_of_a_foreign_key_proposes_loads_it(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.select_related("author").first)
    assert book.author.name == "Ende"
    book = await in_thread(models.Book.objects.first)
    refused(lambda: book.author)
    await in_thread(getattr, book, "author")
    assert book.author.name == "Ende"


async def test_a_foreign_key_that_is_null_is_read_on_the_loop(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    assert book.editor is None


async def test_of_a_chain_the_link_that_is_missing_is_named(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.select_related("author").first)
    message = refused(lambda: book.author.publisher)
    assert message.startswith("Author.publisher is not loaded")
    assert 'select_related("publisher") to the query (from another model: "...__publisher")' in message


async def test_a_forward_one_to_one_names_select_related(models: Any, in_thread: In) -> None:
    cover = await in_thread(models.Cover.objects.first)
    message = refused(lambda: cover.book)
    assert message.startswith("Cover.book is not loaded")
    assert '.select_related("book")' in message


async def test_a_reverse_one_to_one_names_the_accessor_and_the_name_that_queries_use(
    models: Any, in_thread: In
) -> None:
    book = await in_thread(models.Book.objects.first)
    message = refused(lambda: book.cover)
    assert message.startswith("Book.cover is not loaded")
    assert '.select_related("jacket")' in message
    assert 'run_django(getattr, book, "cover")' in message
    book = await in_thread(models.Book.objects.select_related("jacket").first)
    assert book.cover.colour == "green"


async def test_a_reverse_one_to_one_that_is_not_there_stays_does_not_exist(models: Any, in_thread: In) -> None:
    novel = await in_thread(lambda: models.Book.objects.select_related("jacket").get(title="Mirror"))
    with pytest.raises(models.Cover.DoesNotExist):
        novel.cover  # noqa: B018
    assert not hasattr(novel, "cover")


async def test_hasattr_does_not_hide_the_error(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    assert refused(lambda: hasattr(book, "cover")).startswith("Book.cover")


async def test_a_generic_foreign_key_names_prefetch_related(models: Any, in_thread: In) -> None:
    from django.contrib.contenttypes.models import ContentType

    note = await in_thread(models.Note.objects.first)
    for _ in ("the content type is known", "it is not"):
        message = refused(lambda: note.content_object)
        assert message.startswith("Note.content_object is not loaded")
        assert '.prefetch_related("content_object")' in message
        ContentType.objects.clear_cache()
    note = await in_thread(models.Note.objects.prefetch_related("content_object").first)
    assert note.content_object.title == "Momo"


# Related managers


@pytest.mark.parametrize(
    ("owner", "accessor"),
    [
        ("Author", "books"),
        ("Book", "tags"),
        ("Tag", "tagged"),
        ("Author", "friends"),
        ("Author", "teachers"),
        ("Author", "pupils"),
        ("Book", "notes"),
        ("Novel", "tags"),
    ],
)
async def test_a_related_manager_that_is_iterated_names_prefetch_related(
    owner: str, accessor: str, models: Any, in_thread: In
) -> None:
    rows = getattr(models, owner).objects
    one = await in_thread(rows.first)
    await in_thread(lambda: str(getattr(one, accessor)))  # the manager of a generic relation asks for its type
    message = refused(lambda: list(getattr(one, accessor).all()))
    assert message.startswith(f"{owner}.{accessor} is not loaded")
    assert f'.prefetch_related("{accessor}") to the query (from another model: "...__{accessor}"' in message
    one = await in_thread(rows.prefetch_related(accessor).first)
    list(getattr(one, accessor).all())


@pytest.mark.parametrize(
    "read",
    [
        lambda tags: len(tags.all()),
        lambda tags: bool(tags.all()),
        lambda tags: tags.all()[0],
        lambda tags: tags.first(),
        lambda tags: tags.get(),
        lambda tags: tags.count(),
        lambda tags: tags.exists(),
        lambda tags: list(tags.filter(name="green").order_by("name")),
        lambda tags: repr(tags.all()),
        lambda tags: list(tags.values_list("name", flat=True)),
        lambda tags: pickle.dumps(tags.all()),
        lambda tags: list(tags.iterator()),
        lambda tags: list(tags.all().iterator(chunk_size=2)),
    ],
    ids="len bool index first get count exists filtered repr values pickle iterator chunks".split(),
)
async def test_every_way_to_read_a_related_manager_says_the_same(read: Any, models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    message = refused(lambda: read(book.tags))
    assert message.startswith("Book.tags is not loaded")
    assert 'Prefetch("tags", queryset=..., to_attr=...)' in message


async def test_a_prefetched_manager_is_read_on_the_loop(models: Any, in_thread: In) -> None:
    tags = Prefetch("tags", queryset=models.Tag.objects.filter(name="green"), to_attr="green")
    book = await in_thread(models.Book.objects.prefetch_related("tags", tags).first)
    assert (book.tags.count(), book.tags.exists(), len(book.green)) == (1, True, 1)


async def test_a_generic_relation_whose_content_type_is_not_known_yet_is_named(models: Any, in_thread: In) -> None:
    from django.contrib.contenttypes.models import ContentType

    book = await in_thread(models.Book.objects.first)
    ContentType.objects.clear_cache()
    assert refused(lambda: book.notes).startswith("Book.notes is not loaded")


async def test_a_query_that_is_no_lazy_loading_keeps_djangos_error(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    for read in (
        lambda: list(models.Book.objects.all()),
        lambda: models.Book.objects.filter(author=1).count(),
        lambda: list(models.Book.objects.iterator()),
        lambda: list(models.Tag.objects.filter(book=book)),
        lambda: list(models.Note.objects.filter(object_id=1)),
        book.refresh_from_db,
        book.save,
    ):
        with pytest.raises(SynchronousOnlyOperation) as caught:
            read()
        assert type(caught.value) is SynchronousOnlyOperation


# Templates, text, pickles


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ book.author.name }}", "Book.author"),
        ("{% for tag in book.tags.all %}{{ tag }}{% empty %}none{% endfor %}", "Book.tags"),
        ("{{ book.tags.count }}", "Book.tags"),
        ("{{ book }}", "Book.author"),
        ("{{ book.author.name|default:'nobody' }}", "Book.author"),
        ("{% with name=book.author.name %}{{ name }}{% endwith %}", "Book.author"),
        ("{% firstof book.author.name 'nobody' %}", "Book.author"),
        ("{% if book.author %}by{% endif %}", "Book.author"),
        ("{% if book.title and book.author.name %}by{% endif %}", "Book.author"),
        ("{% if not book.tags.exists %}by{% endif %}", "Book.tags"),
        ("{% if 'green' in book.tags.all %}green{% endif %}", "Book.tags"),
        ("{% if book.tags.count > 3 or book.cover %}many{% endif %}", "Book.tags"),
    ],
)
async def test_a_template_does_not_swallow_the_error(template: str, named: str, models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    compiled = Engine(string_if_invalid="INVALID").from_string(template)
    assert refused(lambda: compiled.render(Context({"book": book}))).startswith(f"{named} is not loaded")


async def test_an_if_of_other_errors_stays_false(models: Any) -> None:
    compiled = Engine().from_string("{% if 1 in number or not number.x.y and 1 < text %}yes{% else %}no{% endif %}")
    assert compiled.render(Context({"number": 1, "text": "a"})) == "no"
    compiled = Engine().from_string("{% if not none and 1 < 2 and 3 in numbers %}yes{% else %}no{% endif %}")
    assert compiled.render(Context({"none": None, "numbers": [3]})) == "yes"


async def test_str_of_a_model_names_what_its_str_reads(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    for text in (str, repr, "{}".format):
        assert refused(lambda text=text: text(book)).startswith("Book.author is not loaded")


async def test_a_pickled_model_names_its_deferred_field_as_before(models: Any, in_thread: In) -> None:
    book = pickle.loads(pickle.dumps(await in_thread(models.Book.objects.defer("summary").first)))
    assert book.get_deferred_fields() == {"summary"}
    assert refused(lambda: book.summary).startswith("Book.summary is deferred")


def test_the_error_can_be_pickled() -> None:
    assert str(pickle.loads(pickle.dumps(LazyLoadError("Book.author is not loaded")))) == "Book.author is not loaded"


async def test_a_serializer_names_what_it_reads(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    assert refused(lambda: serializers.serialize("json", [book])).startswith("Book.tags is not loaded")
    book = await in_thread(models.Book.objects.prefetch_related("tags").first)
    assert '"tags": [1]' in serializers.serialize("json", [book])


# Fetch modes


@fetch_modes
async def test_fetch_peers_names_the_same_as_fetch_one(models: Any, in_thread: In) -> None:
    from django.db.models import FETCH_PEERS

    books = await in_thread(lambda: list(models.Book.objects.defer("summary").fetch_mode(FETCH_PEERS)))
    assert len(books) > 1
    assert refused(lambda: books[0].author).startswith("Book.author is not loaded")
    assert refused(lambda: books[0].cover).startswith("Book.cover is not loaded")
    assert refused(lambda: books[0].summary).startswith("Book.summary is deferred")
    notes = await in_thread(lambda: list(models.Note.objects.fetch_mode(FETCH_PEERS)))
    assert refused(lambda: notes[0].content_object).startswith("Note.content_object is not loaded")


@fetch_modes
async def test_fetch_raise_raises_its_own_error(models: Any, in_thread: In) -> None:
    from django.core.exceptions import FieldFetchBlocked
    from django.db.models import FETCH_RAISE

    book = await in_thread(models.Book.objects.fetch_mode(FETCH_RAISE).first)
    with pytest.raises(FieldFetchBlocked, match=r"Fetching of Book\.author blocked"):
        book.author  # noqa: B018


@fetch_modes
async def test_fetch_modes_are_pickled_by_name_as_before(models: Any, in_thread: In) -> None:
    from django.db.models import FETCH_ONE, FETCH_PEERS, FETCH_RAISE

    for mode in (FETCH_ONE, FETCH_PEERS, FETCH_RAISE):
        assert pickle.loads(pickle.dumps(mode)) is mode


# Where the ORM works, and without us


async def test_in_a_thread_everything_is_loaded_lazily(models: Any, in_thread: In) -> None:
    def read() -> list[Any]:
        book = models.Book.objects.defer("summary").first()
        note = models.Note.objects.first()
        names = [tag.name for tag in book.tags.all()]
        assert inspect.isgenerator(book.tags.iterator())
        return [book.summary, book.author.publisher.name, book.cover.colour, note.content_object.title, *names]

    assert await in_thread(read) == ["Time", "T", "green", "Momo", "green"]


async def test_with_djangos_own_switch_nothing_is_refused(
    models: Any, in_thread: In, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    book = await in_thread(models.Book.objects.first)
    try:
        assert book.author.name == "Ende"
    finally:
        connections.close_all()


async def test_uninstalled_django_speaks_for_itself(models: Any, in_thread: In) -> None:
    book = await in_thread(models.Book.objects.first)
    lazy.uninstall()
    for read in (lambda: book.author, lambda: list(book.tags.all())):
        with pytest.raises(SynchronousOnlyOperation) as caught:
            read()
        assert type(caught.value) is SynchronousOnlyOperation


def test_install_and_uninstall_are_exact_inverses_however_often() -> None:
    lazy.uninstall()
    lazy.uninstall()
    owners = {owner for owner, _, _ in lazy._hooks()}
    before = {owner: dict(vars(owner)) for owner in owners}
    lazy.install()
    once = {owner: dict(vars(owner)) for owner in owners}
    lazy.install()
    assert {owner: dict(vars(owner)) for owner in owners} == once
    assert all(once[owner] != before[owner] for owner in owners)
    lazy.uninstall()
    lazy.uninstall()
    assert {owner: dict(vars(owner)) for owner in owners} == before


def test_what_replaces_a_function_of_django_leads_to_it() -> None:
    for owner, name, original in lazy._replaced:
        if original is not None:
            assert inspect.unwrap(vars(owner)[name]) is inspect.unwrap(original)
