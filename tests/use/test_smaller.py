"""Smaller things that real use broke: each has a sentence here."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import sqlite3
import sys
import threading
from contextlib import suppress
from typing import Any
from unittest import mock

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, models, transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Upper
from django.db.utils import DatabaseError
from django.test import override_settings
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from pydantic import BaseModel
from sqlalchemy import and_, delete, false, func, insert, literal, or_, select, text, true, update
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.orm import aliased

from asyncdb import Database, registry
from asyncdb.config import DatabaseConfig
from asyncdb.errors import TransactionPoisoned
from django_bridge import atomic, mapped, scope, session, sync_session, table_for
from django_bridge import database as bridged_database
from django_bridge.errors import FieldValueError, MappingError, ScopeClosed
from django_bridge.loops import run_on
from django_bridge.mapping.types import type_of

# -- DJANGO_ALLOW_ASYNC_UNSAFE -------------------------------------------------------------------------------------


@pytest.fixture
def unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


async def test_with_async_unsafe_allowed_sync_queries_work_outside_of_scopes_as_on_stock(
    shop: Any, unsafe: None
) -> None:
    await shop.create(shop.models.Row)
    try:
        assert shop.models.Row.objects.create(number=1).pk
        assert [row.number for row in shop.models.Row.objects.all()] == [1]
        with transaction.atomic():
            shop.models.Row.objects.update(number=2)
        assert await shop.models.Row.objects.aget() == shop.models.Row.objects.get(number=2)
    finally:
        connections["default"].close()


DOORS: dict[str, Any] = {
    "count": lambda rows: rows.count(),
    "rows": lambda rows: list(rows.all()),
    "iterator": lambda rows: list(rows.iterator()),
    "create": lambda rows: rows.create(number=2),
    "in a block": lambda rows: _in_a_block(rows),  # noqa: PLW0108  (it stands below)
    "refresh": lambda rows: rows.model(pk=1).refresh_from_db(),
}


def _in_a_block(rows: Any) -> None:
    with transaction.atomic():
        rows.create(number=2)


@pytest.mark.parametrize("place", [scope, atomic])
async def test_with_async_unsafe_allowed_they_are_refused_by_name_in_a_scope_and_write_nothing(
    place: Any, shop: Any, unsafe: None
) -> None:
    await shop.create(shop.models.Row)
    for door in DOORS.values():
        with suppress(TransactionPoisoned):  # save() has marked the block, whose end says that nothing was saved
            async with place():
                await shop.models.Row.objects.acount()
                with pytest.raises(SynchronousOnlyOperation, match="DJANGO_ALLOW_ASYNC_UNSAFE"):
                    door(shop.models.Row.objects)
        with suppress(TransactionPoisoned):
            async with place():
                with pytest.raises(SynchronousOnlyOperation, match="DJANGO_ALLOW_ASYNC_UNSAFE"):
                    door(shop.models.Row.objects)  # before the scope has a connection
    assert await _numbers(shop) == []


async def _numbers(shop: Any) -> list[int]:
    return [number async for number in shop.models.Row.objects.values_list("number", flat=True)]


async def test_where_the_orm_is_in_threads_they_do_not_write_beside_the_block(shop: Any, unsafe: None) -> None:
    await shop.create(shop.models.Row)
    shop.configure(async_db={"mode": "threads"})
    with suppress(TransactionPoisoned):  # save() has marked the block, whose end says that nothing was saved
        async with atomic():
            with pytest.raises((DatabaseError, SynchronousOnlyOperation)):
                shop.models.Row.objects.create(number=2)
    assert await _numbers(shop) == []


# -- comparisons of Django's class attributes ----------------------------------------------------------------------


def wrong_ways(model: Any, mine: Any) -> dict[str, Any]:
    other = aliased(mine)
    return {
        "==": lambda: select(mine).where(model.name == "x"),
        "!=": lambda: delete(mine).where(model.name != "x"),
        "filter": lambda: select(mine).filter(model.name == "x"),
        "update": lambda: update(mine).where(model.id != 3).values(name="y"),
        "having": lambda: select(func.count()).select_from(mine).having(model.id == 3),
        "join": lambda: select(mine).join(other, model.id == 3),
        "onclause": lambda: select(mine).join(other, and_(other.id == mine.id, model.id == 3)),
        "and_": lambda: select(mine).where(and_(mine.id == 1, model.name != "x")),
        "or_": lambda: select(mine).where(or_(model.name == "x", mine.id == 1)),
        "&": lambda: select(mine).where((model.name == "x") & (model.id == 3)),
        "& clause": lambda: select(mine).where((model.name == "x") & (mine.id == 3)),
        "clause |": lambda: select(mine).where((mine.id == 3) | (model.name != "x")),
        "~": lambda: select(mine).where(~(model.name == "x")),
        "relation": lambda: select(mine).where(model.shelf == 3),
        "attname": lambda: select(mine).where(model.shelf_id == 3),
        "columns": lambda: select(mine).where(model.id == model.shelf_id),
        "itself": lambda: select(mine).where(model.id == model.id),
        "mixed": lambda: select(mine).where(model.name == mine.name),
        "case": lambda: select(mine).where(literal(1) == (model.name == "x")),
    }


async def test_a_comparison_of_djangos_own_attribute_is_refused_where_sql_is_wanted(shop: Any) -> None:
    model = shop.models.Item
    await shop.create(shop.models.Label, shop.models.Shelf, model)
    mine = mapped(model)
    taken = []
    for name, make in wrong_ways(model, mine).items():
        try:
            make()
        except MappingError as err:
            refused = "mapped(Item)." in str(err)
        else:
            refused = False
        if not refused:
            taken.append(name)
    assert taken == []
    with pytest.raises(MappingError, match=r"mapped\(Shelf\)\.items"):
        select(mine).where(shop.models.Shelf.items == 3)


def no_values(model: Any, mine: Any) -> dict[str, Any]:
    """What says where a value is found, and is none."""
    return {
        "attribute": model.name,
        "relation": model.shelf,
        "attname": model.shelf_id,
        "comparison": model.name == "x",
        "F": F("name"),
        "Q": Q(name="x"),
        "Value": Value("x"),
        "function": Upper("name"),
        "rows": model.objects.all(),
        "manager": model.objects,
        "field": model._meta.get_field("name"),
        "model": model,
        "mapped class": mine,
        "mapped object": mine(name="x"),
    }


def takers(model: Any, mine: Any) -> dict[str, Any]:
    """Where SQLAlchemy takes a value of a text field."""
    table = table_for(model)

    async def flushed(db: Any, value: Any) -> None:
        found = await db.get(mine, 1)
        found.name = value
        await db.flush()

    return {
        "==": lambda db, value: db.execute(select(mine.id).where(mine.name == value)),
        "in": lambda db, value: db.execute(select(mine.id).where(mine.name.in_(["a", value]))),
        "filter_by": lambda db, value: db.execute(select(mine.id).filter_by(name=value)),
        "update": lambda db, value: db.execute(update(mine).values(name=value)),
        "of the table": lambda db, value: db.execute(update(table).values(name=value)),
        "insert": lambda db, value: db.execute(insert(mine).values(name=value, shelf_id=1)),
        "many": lambda db, value: db.execute(
            insert(mine), [{"name": "a", "shelf_id": 1}, {"name": value, "shelf_id": 1}]
        ),
        "flush": flushed,
        "like": lambda db, value: db.execute(select(mine.id).where(mine.name.like(value))),
        "function": lambda db, value: db.execute(select(func.coalesce(mine.name, value))),
    }


async def test_what_says_where_a_value_is_found_is_never_written_as_text(shop: Any) -> None:
    model = shop.models.Item
    await shop.create(shop.models.Label, shop.models.Shelf, model)
    mine = mapped(model)
    shop.in_plain_thread(lambda: shop.models.Shelf.objects.create(pk=1))
    shop.in_plain_thread(lambda: model.objects.create(pk=1, name="x", shelf_id=1))
    taken = []
    for what, value in no_values(model, mine).items():
        for where, take in takers(model, mine).items():
            async with session() as db:
                # Beside no column of the field (LIKE, a function) SQLAlchemy or the driver has no literal for it.
                with suppress(MappingError, ArgumentError, StatementError, SynchronousOnlyOperation):
                    await take(db, value)
                    taken.append((what, where))
                await db.rollback()
    assert taken == []
    for value, wanted in ((model.name, r"mapped\(Item\)\.name"), (model.shelf_id, r"mapped\(Item\)\.shelf_id")):
        with pytest.raises(MappingError, match=wanted):
            select(mine).where(mine.name == value)
    async with session() as db:
        with pytest.raises(
            FieldValueError, match=r"Item\.name \(CharField\) cannot take an object of F, which is no value"
        ):
            await db.execute(update(mine).values(name=F("name")))
        await db.rollback()
        assert (await db.execute(select(mine.id, mine.name))).all() == [(1, "x")]
        await db.execute(update(mine).values(name=mine.name))  # an expression of SQLAlchemy's is one as ever
        assert (await db.execute(select(mine.id).where(mine.name == mine.name))).all() == [(1,)]
        await db.rollback()


class Big(enum.IntEnum):
    AND_ONE = 2**32 + 1


@pytest.mark.parametrize("value", [str(2**32 + 1), Big.AND_ONE, float(2**32 + 1)], ids=["text", "enum", "float"])
async def test_an_integer_that_is_too_big_is_no_other_one(shop: Any, value: Any) -> None:
    await shop.create(shop.models.Row)
    shop.in_plain_thread(lambda: shop.models.Row.objects.create(number=1))
    mine = mapped(shop.models.Row)
    for condition in (mine.number == value, mine.number.in_([value])):
        async with session() as db:
            with suppress(DBAPIError):  # PostgreSQL's server says that it is out of range
                assert (await db.scalars(select(mine.id).where(condition))).all() == []
    async with session() as db:
        with suppress(DBAPIError):
            await db.execute(update(mine).values(number=value))
            assert shop.family == "sqlite", "a server says that it is out of range"
        await db.rollback()
    assert await _numbers(shop) == [1]


async def test_a_text_that_is_lazy_or_says_itself_is_stored_as_on_stock(shop: Any) -> None:
    class Said(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "said"

    await shop.create(shop.models.Item, shop.models.Label, shop.models.Shelf)
    mine = mapped(shop.models.Item)
    texts = [gettext_lazy("lazy"), mark_safe("<b>"), Said("raw")]
    if shop.family in {"mariadb", "mysql"}:  # the other drivers take no such thing
        texts.append(SimpleLazyObject(lambda: "object"))
    shop.in_plain_thread(lambda: [shop.models.Item.objects.create(name=text) for text in texts])
    async with session() as db:
        for one in texts:
            await db.execute(insert(mine).values(name=one))
        await db.commit()
        stored = (await db.scalars(select(mine.name).order_by(mine.id))).all()
    assert stored[: len(texts)] == stored[len(texts) :]


class Kept(models.CharField):  # type: ignore[type-arg]
    """A field of a project's own, whose values are models."""

    def get_prep_value(self, value: Any) -> Any:
        return value._meta.label if isinstance(value, type) else value


async def test_a_field_of_a_projects_own_may_keep_what_is_no_value_elsewhere(shop: Any) -> None:
    dialect = bridged_database().engine.dialect
    bind = type_of(Kept(max_length=99, name="kept")).bind_processor(dialect)
    assert bind(shop.models.Item) == shop.models.Item._meta.label


async def test_constants_of_sqlalchemy_and_its_users_bools_are_taken_as_ever(shop: Any) -> None:
    await shop.create(shop.models.Row)
    shop.in_plain_thread(lambda: shop.models.Row.objects.create(number=1))
    mine = mapped(shop.models.Row)
    for condition, count in [
        (true(), 1),
        (false(), 0),
        (True, 1),
        (False, 0),
        (and_(True, mine.number == 1), 1),
        (or_(False, mine.number == 2), 0),
    ]:
        async with session() as db:
            assert len((await db.scalars(select(mine).where(condition))).all()) == count


def test_djangos_attributes_compare_in_python_as_before(sync_shop: Any) -> None:
    model = sync_shop.models.Item
    mapped(model)
    assert model.name == model.name
    assert not model.name == "x"  # noqa: SIM201
    assert model.name != model.id
    assert (model.name == "x") == False  # noqa: E712
    assert model.name == mock.ANY
    assert model.name in [model.id, model.name]
    assert model.name not in [model.id, "name"]
    assert {model.name: 1}[model.name] == 1


def test_the_guard_leaves_alone_what_compares_in_a_way_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_bridge.mapping import comparisons

    class Own:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    class Plain:
        pass

    monkeypatch.setattr(comparisons, "GUARDED", (Own, Plain))
    with override_settings(ASYNC_DB_GUARD_COMPARISONS=False):
        comparisons.guard_comparisons()
    assert Plain.__eq__ is object.__eq__
    comparisons.guard_comparisons()
    assert (Own() == 1) is True
    assert Plain.__eq__ is not object.__eq__


def test_what_the_guard_replaces_is_what_django_has_not() -> None:
    """In a Django whose attributes compare by themselves this fails: read them, and let the guard go."""
    from django_bridge.mapping import comparisons

    for cls in comparisons.GUARDED:
        own = [base for base in cls.__mro__ if "__eq__" in vars(base)]
        assert [base for base in own if vars(base)["__eq__"] is not comparisons._equal] == [object]
        assert cls.__hash__ is object.__hash__
        of_sql = [base for base in cls.__mro__ if "__clause_element__" in vars(base)]
        assert [base for base in of_sql if vars(base)["__clause_element__"] is not comparisons._refuse] == []


# -- rows ----------------------------------------------------------------------------------------------------------


class Inner(BaseModel, from_attributes=True):
    name: str


class Outer(BaseModel):
    book: dict[str, Inner]


async def test_an_alias_with_two_underscores_goes_into_the_field_of_its_name(shop: Any) -> None:
    await shop.create(shop.models.Named)
    shop.in_plain_thread(lambda: shop.models.Named.objects.create(name="Momo"))
    entity = aliased(mapped(shop.models.Named), name="book__author")
    async with session() as db:
        (found,) = await db.fetch_all(select(entity), into=Outer)
    assert found.book["author"].name == "Momo"


# -- registry ------------------------------------------------------------------------------------------------------


def test_the_registry_tells_its_databases_while_another_thread_makes_some(tmp_path: Any) -> None:
    made, stop = threading.Event(), threading.Event()

    async def make() -> None:
        for number in range(4000):
            config = DatabaseConfig.of(alias=f"a{number}", family="sqlite", database=str(tmp_path / "x"))
            registry.get(config.alias, lambda config=config: Database(config))
            made.set()
            if stop.is_set():
                break
        await registry.close_all()

    before, worker = sys.getswitchinterval(), threading.Thread(target=lambda: asyncio.run(make()))
    sys.setswitchinterval(1e-6)
    try:
        worker.start()
        assert made.wait(30)
        while worker.is_alive() and len(registry.databases()) < 1000:
            pass
    finally:
        stop.set()
        worker.join(60)
        sys.setswitchinterval(before)


# -- engine.dispose() ----------------------------------------------------------------------------------------------


@pytest.mark.config(pool_size=2, max_overflow=0)
async def test_an_engine_that_was_disposed_of_keeps_its_pool_and_all_that_belongs_to_it(database: Database) -> None:
    pool = database.engine.sync_engine.pool
    async with database.session() as held:
        await held.execute(text("SELECT 1"))
        async with database.session() as other:
            await other.execute(text("SELECT 1"))
        await database.engine.dispose()
        assert database.engine.sync_engine.pool is pool
        stats = database.stats()
        assert (stats.checked_out, stats.idle, stats.counts.connects) == (1, 0, 2)
        assert (await held.execute(text("SELECT 2"))).scalar() == 2
        async with database.session() as other:  # within the bound of two
            assert (await other.execute(text("SELECT 3"))).scalar() == 3
            assert database.stats().checked_out == 2
    connects = database.stats().counts.connects
    assert await database.fetch_val(select(literal(4))) == 4
    assert database.stats().counts.connects <= connects + 1


@pytest.mark.families("mariadb", "mysql", "postgresql")
async def test_after_dispose_a_changed_session_is_reset_and_not_replaced(database: Database) -> None:
    await database.fetch_val(select(literal(1)))
    await database.engine.dispose()
    await database.fetch_val(select(literal(1)))
    async with database.session() as db:
        await db.execute(text("SET @a = 1" if database.config.family == "mysql" else "SET application_name = 'other'"))
        await db.commit()
    before = database.stats().counts
    await database.fetch_val(select(literal(1)))
    after = database.stats().counts
    assert (before.reset, after.connects) == (1, before.connects)


async def test_a_caller_in_line_is_served_when_the_engine_is_disposed_of(
    database_config: DatabaseConfig, eventually: Any
) -> None:
    database = Database(database_config.model_copy(update={"pool_size": 1, "max_overflow": 0}))
    try:
        async with database.session() as held:
            await held.execute(text("SELECT 1"))
            waiter = asyncio.create_task(database.fetch_val(select(literal(5))))
            await eventually(lambda: database.stats().waiting)
            await database.engine.dispose()
        assert await waiter == 5
        assert database.stats().checked_out == 0
    finally:
        await database.close()


async def test_a_database_in_memory_is_let_go_when_it_is_retired(eventually: Any) -> None:
    name = f"file:retired-{id(eventually)}?mode=memory&cache=shared"
    database = Database(DatabaseConfig.of(family="sqlite", database=name))
    await database.execute(text("CREATE TABLE kept (number INTEGER)"))

    def tables() -> int:
        other = sqlite3.connect(name, uri=True)
        try:
            return int(other.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        finally:
            other.close()

    assert tables() == 1
    database.retire()
    await eventually(lambda: tables() == 0)


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.families("postgresql")
@pytest.mark.config(session_settings={"application_name": None, "timezone": None, "role": None})
async def test_a_session_setting_of_none_is_the_servers_own(database: Database) -> None:
    own = select(text("boot_val")).select_from(text("pg_settings")).where(text("name = 'application_name'"))
    assert await database.fetch_val(select(func.current_setting("application_name"))) == await database.fetch_val(own)
    assert await database.fetch_val(select(func.current_setting("role"))) == "none"
    assert await database.fetch_val(select(func.current_setting("timezone"))) != "None"


@pytest.mark.families("sqlite")
@pytest.mark.config(session_settings={"journal_mode": None})
async def test_a_pragma_of_none_is_sqlites_own(database: Database) -> None:
    async with database.session() as db:
        assert (await db.execute(text("PRAGMA journal_mode"))).scalar() == "delete"


# -- a thread whose loop answers no more ---------------------------------------------------------------------------


async def answer() -> str:
    return "answered"


def waiting_for(loop: asyncio.AbstractEventLoop) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []

    def call() -> None:
        try:
            found.append(run_on(loop, answer()))
        except BaseException as err:
            found.append(err)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, found


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_bridge import loops

    monkeypatch.setattr(loops, "_LOOK_AT_LOOP", 0.01)


def test_a_thread_does_not_wait_for_ever_for_a_loop_that_was_stopped(quickly: None) -> None:
    loop = asyncio.new_event_loop()
    try:
        thread, found = waiting_for(loop)
        thread.join(30)
        assert [type(one) for one in found] == [ScopeClosed]
        assert "stopped" in str(found[0])
        loop.run_until_complete(asyncio.sleep(0))  # and the work that it comes to after all is cancelled
        loop.run_until_complete(asyncio.sleep(0))
        assert asyncio.all_tasks(loop) == set()
    finally:
        loop.close()


def test_a_thread_does_not_wait_for_ever_for_a_loop_that_waits_for_it(quickly: None) -> None:
    async def wait_for_the_thread() -> list[Any]:
        thread, found = waiting_for(asyncio.get_running_loop())
        thread.join(30)
        return found

    (found,) = asyncio.run(wait_for_the_thread())
    assert isinstance(found, ScopeClosed)
    assert "blocks it" in str(found)


def test_a_thread_waits_as_long_as_its_loop_lives(quickly: None) -> None:
    async def late() -> str:
        await asyncio.sleep(0.2)  # many looks
        return "answered"

    async def main() -> str:
        return await asyncio.to_thread(run_on, asyncio.get_running_loop(), late())

    assert asyncio.run(main()) == "answered"


def test_a_sync_session_refuses_djangos_comparison_too(sync_shop: Any) -> None:
    item = sync_shop.models.Item

    def ask() -> None:
        with sync_session() as db, pytest.raises(MappingError, match=r"mapped\(Item\)\.name"):
            db.scalars(select(mapped(item)).where(item.name == "x")).all()

    contextvars.Context().run(ask)
