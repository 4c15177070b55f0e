"""query_budget: the statements of both ORMs in one count, wherever the block's work is done."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, transaction
from django.db.backends.base import base
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.test.utils import CaptureQueriesContext
from django.utils.connection import ConnectionDoesNotExist
from sqlalchemy import bindparam, insert, literal, select, text

from asyncdb import registry
from asyncdb.listening import told_as, unheard
from django_bridge import atomic, query_budget, run_django, scope, session, sync_session
from django_bridge.errors import QueryBudgetExceeded
from tests.bridge.shared import Kind

SECRET = "a value that nobody may print"


@pytest.fixture
async def two(project: Any, tmp_path: Any, django_db_blocker: Any) -> AsyncIterator[None]:
    """Two SQLite files, ``default`` and ``other``."""
    engine = "django.db.backends.sqlite3"
    project(DATABASES={alias: {"ENGINE": engine, "NAME": tmp_path / alias} for alias in ("default", "other")})
    with django_db_blocker.unblock():
        yield
    await registry.close_all()


def senders(spent: query_budget) -> list[str]:
    return [f"{one.orm} {one.sql.split()[0]}" for one in spent.statements]


async def session_reads(value: str = "x") -> None:
    async with session() as db:
        await db.execute(select(Kind.id).where(Kind.model == value))


async def orm_reads(value: str = "x") -> None:
    await ContentType.objects.filter(model=value).aexists()


def sync_reads() -> None:
    ContentType.objects.filter(model="x").exists()


# -- what is counted ---------------------------------------------------------------------------------------------------


async def test_both_orms_are_counted_together(tx: Any) -> None:
    async with query_budget(2) as spent:
        await session_reads()
        await orm_reads()
    assert senders(spent) == ["SQLAlchemy SELECT", "Django SELECT"]
    assert len(spent) == 2


async def test_what_makes_a_connection_ready_is_nobodys_query(tx: Any) -> None:
    await registry.close_all()  # both ORMs meet a server of which they know nothing
    async with query_budget(2, exactly=True):
        await session_reads()
        await ContentType.objects.acreate(app_label="a", model="b")  # of which Django asks whether it can say RETURNING


async def test_a_child_task_and_threads_spend_of_the_same_budget(tx: Any) -> None:
    async with query_budget(4, exactly=True) as spent:
        await asyncio.gather(session_reads(), orm_reads())
        await sync_to_async(sync_reads)()
        await run_django(sync_reads)
    assert sorted(senders(spent)) == ["Django SELECT"] * 3 + ["SQLAlchemy SELECT"]


async def test_a_thread_in_a_scope_is_counted_once(tx: Any) -> None:
    async with scope(), query_budget(1, exactly=True):
        await sync_to_async(sync_reads)()


async def test_another_task_beside_the_block_is_not_counted(tx: Any) -> None:
    begin = asyncio.Event()

    async def beside() -> None:
        await begin.wait()
        await session_reads()
        await orm_reads()

    other = asyncio.create_task(beside())
    async with query_budget(0):
        begin.set()
        await other


async def test_a_thread_that_copies_no_context_is_not_counted(tx: Any) -> None:
    def call() -> None:
        try:
            sync_reads()
        finally:
            connections.close_all()

    async with query_budget(0):
        thread = threading.Thread(target=contextvars.Context().run, args=[call])
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)


async def test_a_task_that_outlives_the_block_is_not_counted_any_more(tx: Any) -> None:
    begin = asyncio.Event()

    async def later() -> None:
        await begin.wait()
        await session_reads()
        await orm_reads()

    async with query_budget(0) as spent:
        child = asyncio.create_task(later())
    begin.set()
    await child
    assert len(spent) == 0


def what_django_logs_and_what_is_counted() -> tuple[int, list[str]]:
    assert connection.get_database_version()  # Django logs what it asks the server for that
    with CaptureQueriesContext(connection) as logged, query_budget(99) as spent, transaction.atomic():
        ContentType.objects.create(app_label="a", model="b")
        with transaction.atomic():
            sync_reads()
        ContentType.objects.update(model="c")
    return len(logged), [one.sql for one in spent.statements]


async def in_plain_thread(work: Any) -> Any:
    def call() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    return await asyncio.to_thread(call)


@pytest.mark.parametrize("run", [run_django, lambda work: sync_to_async(work)(), in_plain_thread])
async def test_django_is_counted_as_assert_num_queries_counts_it(tx: Any, run: Any) -> None:
    await run(
        lambda: connection.features.can_return_columns_from_insert
    )  # Django logs what it asks the server for that
    logged, counted = await run(what_django_logs_and_what_is_counted)
    assert len(counted) == logged, counted
    assert (counted[0], counted[-1]) == ("BEGIN", "COMMIT")
    assert sum(sql.startswith("SAVEPOINT") for sql in counted) == 1


async def test_a_sync_session_is_counted_beside_the_orm_whose_connection_it_is_on(tx: Any) -> None:
    def work() -> query_budget:
        with query_budget(7) as spent, transaction.atomic(), sync_session() as db:
            db.execute(select(Kind.id))
            with db.begin_nested():
                db.execute(select(Kind.model))
            sync_reads()
        return spent

    spent = await in_plain_thread(work)
    assert senders(spent) == [
        "Django BEGIN",
        "SQLAlchemy SELECT",
        "SQLAlchemy SAVEPOINT",
        "SQLAlchemy SELECT",
        "SQLAlchemy RELEASE",
        "Django SELECT",
        "Django COMMIT",
    ]


async def test_of_a_session_begin_and_commit_do_not_count_but_savepoints_do(tx: Any) -> None:
    async with query_budget(3) as spent, session() as db:
        async with db.begin_nested():
            await db.execute(insert(Kind).values(app_label="a", model="b"))
        await db.commit()
    assert senders(spent) == ["SQLAlchemy SAVEPOINT", "SQLAlchemy INSERT", "SQLAlchemy RELEASE"]


async def test_of_an_atomic_block_savepoints_alone_are_counted(tx: Any) -> None:
    async with query_budget(4) as spent, atomic() as db:
        await orm_reads()
        async with atomic():
            await db.execute(select(Kind.id))
    assert [one.sql.split()[0] for one in spent.statements] == [
        "SELECT",
        "SAVEPOINT",
        "SELECT",
        "RELEASE",
    ]


async def test_many_rows_in_one_call_and_a_stream_are_one_query(tx: Any) -> None:
    async with query_budget(3, exactly=True), session() as db:
        await db.execute(text("INSERT INTO django_content_type (app_label, model) VALUES (:a, :m)"), ROWS)
        await db.commit()
        assert [row async for row in await db.stream(select(Kind.id), execution_options={"yield_per": 2})]
        assert [one async for one in ContentType.objects.aiterator(chunk_size=2)]


ROWS = [{"a": "a", "m": f"m{number}"} for number in range(5)]


async def test_one_alias_can_be_counted_alone(two: Any) -> None:
    async with query_budget(0, using="default"), query_budget(1, using="other", exactly=True), session("other") as db:
        await db.execute(select(literal(1)))


async def test_an_unknown_alias_is_refused(two: Any) -> None:
    with pytest.raises(ConnectionDoesNotExist, match="no such alias"):
        query_budget(1, using="elsewhere")


async def test_budgets_nest_and_each_counts(tx: Any) -> None:
    async with query_budget(2, exactly=True):
        await session_reads()
        async with query_budget(1, exactly=True):
            await orm_reads()


def test_a_block_of_sync_code_is_counted_down_to_the_sessions_that_it_waits_for(bridged_now: Any, two: Any) -> None:
    with query_budget(1, exactly=True) as spent:
        async_to_sync(ask)()
    assert senders(spent) == ["SQLAlchemy SELECT"]


async def ask() -> None:
    async with session() as db:
        await db.execute(select(literal(1)))
    await registry.close_all()


async def test_a_statement_may_be_told_as_somebody_elses(tx: Any) -> None:
    async with query_budget(1, exactly=True) as spent:
        with told_as("SQLAlchemy"):
            await orm_reads()
        with unheard():
            await orm_reads()
    assert senders(spent) == ["SQLAlchemy SELECT"]


# -- what it says ------------------------------------------------------------------------------------------------------


async def test_the_error_lists_the_sql_of_both_orms_and_no_parameters(tx: Any) -> None:
    with pytest.raises(AssertionError) as caught:
        async with query_budget(1):
            await session_reads(SECRET)
            await orm_reads(SECRET)
    assert isinstance(caught.value, QueryBudgetExceeded)
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("2 queries on all aliases, at most 1 expected: ")
    assert rest[0].startswith("1. SQLAlchemy, 'default': SELECT django_content_type.id FROM django_content_type WHERE")
    assert rest[1].startswith("2. Django, 'default': SELECT %s AS ")
    assert len(rest) == 2
    assert SECRET not in str(caught.value)


async def test_a_value_that_somebody_wrote_into_the_sql_would_be_found(tx: Any) -> None:
    """The other side of the test before: the message is looked through where a value could be."""
    with pytest.raises(QueryBudgetExceeded, match=SECRET):
        async with query_budget(0), session() as db:
            await db.execute(text(f"SELECT '{SECRET}'"))


async def test_values_that_sqlalchemy_writes_into_the_sql_are_left_out(tx: Any) -> None:
    with pytest.raises(QueryBudgetExceeded) as caught:
        async with query_budget(0), session() as db:
            await db.execute(select(Kind.id).where(Kind.model == bindparam("m", SECRET, literal_execute=True)))
    assert "django_content_type.model =" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.families("postgresql")
async def test_values_that_psycopg_writes_into_the_sql_are_left_out(tx: Any) -> None:
    from psycopg import sql

    composed = sql.SQL("SELECT {} FROM {}").format(sql.Literal(SECRET), sql.Identifier("django_content_type"))

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.execute(composed)

    with pytest.raises(QueryBudgetExceeded) as caught:
        async with query_budget(0):
            await run_django(work)
    assert str(caught.value).endswith("1. Django, 'default': SELECT %s FROM \"django_content_type\"")


async def test_exactly_allows_no_fewer(tx: Any) -> None:
    with pytest.raises(QueryBudgetExceeded, match=r"1 query on 'default', exactly 2 expected\nof it\n1\. Django"):
        async with query_budget(2, using="default", exactly=True, info="of it"):
            await orm_reads()


async def test_an_exception_in_the_block_passes_unchanged(tx: Any) -> None:
    with pytest.raises(KeyError):
        async with query_budget(0):
            await orm_reads()
            raise KeyError


async def test_a_budget_is_entered_once(two: Any) -> None:
    budget = query_budget(0)
    with budget:
        pass
    with pytest.raises(RuntimeError, match="make another one"), budget:
        pass


# -- what it costs -----------------------------------------------------------------------------------------------------


def in_place() -> list[Any]:
    return [
        vars(CursorWrapper)["_execute_with_wrappers"],
        vars(base)["debug_transaction"],
        vars(BaseDatabaseWrapper)["connect"],
        vars(BaseDatabaseWrapper)["temporary_connection"],
    ]


async def test_django_is_as_it_was_when_no_budget_is_open(two: Any) -> None:
    before = in_place()
    async with query_budget(0):
        with query_budget(0):
            during = in_place()
        assert in_place() == during
        assert not set(map(id, during)) & set(map(id, before))
    assert in_place() == before


async def test_what_somebody_put_over_it_meanwhile_stays_and_nothing_counts_twice(
    tx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with query_budget(1, exactly=True):
        ours = CursorWrapper._execute_with_wrappers
        seen = []

        def theirs(cursor: Any, sql: str, *args: Any, **kwargs: Any) -> Any:
            seen.append(sql)
            return ours(cursor, sql, *args, **kwargs)

        monkeypatch.setattr(CursorWrapper, "_execute_with_wrappers", theirs)
        await orm_reads()
    assert CursorWrapper._execute_with_wrappers is theirs
    async with query_budget(1, exactly=True):
        await orm_reads()
    assert len([sql for sql in seen if "django_content_type" in sql]) == 2
    monkeypatch.undo()
    async with query_budget(1, exactly=True):
        await orm_reads()
    assert CursorWrapper._execute_with_wrappers is not ours
