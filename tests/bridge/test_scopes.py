"""What a scope does with its connection, and that Django's ORM is itself on it: state, logs, errors, faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    reset_queries,
    transaction,
)
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponse
from django.test import TransactionTestCase
from django.test.utils import CaptureQueriesContext

import django_bridge
from django_bridge import run_django, scope

from .site import SCOPED, get, site

servers = pytest.mark.families("mariadb", "postgresql", "mysql")
pool = pytest.mark.native_only("it looks at the pool")


@pytest.fixture
async def rows(shop: Any) -> Any:
    await shop.create(shop.models.Row)
    return shop.models.Row.objects


@pytest.fixture
async def named(shop: Any) -> Any:
    await shop.create(shop.models.Named)
    return shop.models.Named.objects


def sql(statement: str, *parameters: Any) -> list[Any]:
    """Executes and fetches, on one cursor."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return list(cursor.fetchall()) if cursor.description else []


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await sync_to_async(function)(*args, **kwargs)


ways = pytest.mark.parametrize("run", [run_django, in_thread], ids=["loop", "thread"])
WHO = {
    "mariadb": "SELECT CONNECTION_ID()",
    "mysql": "SELECT CONNECTION_ID()",
    "postgresql": "SELECT pg_backend_pid()",
}


# The connection comes and goes


@pool
async def test_the_connection_goes_back_after_each_operation(shop: Any, rows: Any) -> None:
    async with scope():
        assert shop.checked_out() == 0
        for number in range(3):
            await rows.acreate(number=number)
            assert shop.checked_out() == 0
        assert [row.number async for row in rows.order_by("number")] == [0, 1, 2]
        assert shop.checked_out() == 0
        assert [row.number async for row in rows.aiterator()]
        assert shop.checked_out() == 0
        await run_django(sql, "SELECT 1")
        await in_thread(sql, "SELECT 1")
        assert shop.checked_out() == 0
        await in_thread(lambda: [row.number for row in rows.all()])
        assert shop.checked_out() == 0


@pool
async def test_one_operation_keeps_one_connection_from_its_first_query_to_its_last(shop: Any, rows: Any) -> None:
    held: list[int] = []

    def work() -> None:
        held.append(shop.checked_out())
        rows.create(number=1)
        held.append(shop.checked_out())
        assert rows.count() == 1
        held.append(shop.checked_out())

    await run_django(work)
    assert held == [0, 1, 1]
    assert shop.checked_out() == 0


@pool
async def test_an_error_gives_the_connection_back_too(shop: Any, named: Any) -> None:
    async with scope():
        await named.acreate(name="a")
        for run in (lambda: named.acreate(name="a"), lambda: in_thread(named.model(name="a").save)):
            with pytest.raises(IntegrityError):
                await run()
            assert shop.checked_out() == 0
        with pytest.raises(named.model.DoesNotExist):
            await named.aget(name="b")
        assert shop.checked_out() == 0


@pool
async def test_a_transaction_keeps_the_connection_until_its_end(shop: Any, rows: Any) -> None:
    async with scope():
        block = transaction.atomic()
        await run_django(block.__enter__)
        await rows.acreate(number=1)
        assert shop.checked_out() == 1
        await run_django(block.__exit__, None, None, None)
        assert shop.checked_out() == 0
    assert await rows.acount() == 1


@pool
async def test_a_transaction_left_open_is_rolled_back_at_the_scopes_end(shop: Any, rows: Any) -> None:
    async with scope():
        await run_django(transaction.atomic().__enter__)
        await rows.acreate(number=1)
    assert shop.checked_out() == 0
    assert await rows.acount() == 0


@pool
async def test_autocommit_switched_off_keeps_the_connection_and_is_rolled_back(shop: Any, rows: Any) -> None:
    async with scope():
        await run_django(transaction.set_autocommit, False)
        await rows.acreate(number=1)
        assert shop.checked_out() == 1
        await run_django(transaction.commit)
        await rows.acreate(number=2)
        await run_django(transaction.rollback)
        await rows.acreate(number=3)
    assert shop.checked_out() == 0
    assert [row.number async for row in rows.all()] == [1]


# What a statement leaves on the session

LEAVING = {
    "mariadb": {
        "setting": ("SET SESSION sql_mode = 'ANSI_QUOTES'", "SELECT @@sql_mode"),
        "bare setting": ("SET lock_wait_timeout = 77", "SELECT @@lock_wait_timeout"),
        "zone": ("SET time_zone = '+03:00'", "SELECT @@time_zone"),
        "lower case": ("  set /* x */ session max_statement_time = 7", "SELECT @@max_statement_time"),
        "lock": ("SELECT GET_LOCK('mine', 1)", "SELECT IS_USED_LOCK('mine') IS NOT NULL"),
        "lock in words": ("SELECT 1, get_lock ('mine', 1)", "SELECT IS_USED_LOCK('mine') IS NOT NULL"),
        "table": ("CREATE TEMPORARY TABLE mine (n INT)", "SELECT COUNT(*) FROM mine"),
        "variable": ("SET @mine = 3", "SELECT @mine"),
        "database": ("USE information_schema", "SELECT DATABASE()"),
        "prepared": ("PREPARE mine FROM 'SELECT 5'", "EXECUTE mine"),
        "foreign keys": ("SET foreign_key_checks = 0", "SELECT @@foreign_key_checks"),
    },
    "postgresql": {
        "setting": ("SET statement_timeout = 7654", "SHOW statement_timeout"),
        "search path": ("SET search_path TO pg_catalog", "SHOW search_path"),
        "function": ("SELECT set_config('work_mem', '7MB', false)", "SHOW work_mem"),
        "lower case": ("-- x\n set session lock_timeout = 7", "SHOW lock_timeout"),
        "lock": ("SELECT pg_advisory_lock(7)", "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory'"),
        "try lock": ("SELECT pg_try_advisory_lock(7)", "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory'"),
        "table": ("CREATE TEMPORARY TABLE mine (n INT)", "SELECT COUNT(*) FROM mine"),
        "temp": ("CREATE TEMP TABLE mine AS SELECT 1", "SELECT COUNT(*) FROM mine"),
        "select into": ("SELECT 1 AS n INTO TEMPORARY mine", "SELECT COUNT(*) FROM mine"),
        "prepared": ("PREPARE mine AS SELECT 5", "EXECUTE mine"),
        "isolation": (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SHOW default_transaction_isolation",
        ),
        "listen": ("LISTEN mine", "SELECT pg_listening_channels()"),
        "cursor": ("DECLARE mine CURSOR WITH HOLD FOR SELECT 5", "SELECT COUNT(*) FROM pg_cursors WHERE name = 'mine'"),
    },
    "sqlite": {
        "table": ("CREATE TEMPORARY TABLE mine (n INT)", "SELECT COUNT(*) FROM mine"),
        "foreign keys": ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys"),
        "attached": ("ATTACH ':memory:' AS mine", "SELECT COUNT(*) FROM mine.sqlite_master"),
    },
}
LEAVING["mysql"] = LEAVING["mariadb"] | {
    "lower case": ("  set /* x */ session max_execution_time = 7000", "SELECT @@max_execution_time"),
}


def answer_to(probe: str) -> Any:
    try:
        return sql(probe)
    except DatabaseError as err:
        return type(err)


async def answers_in_the_end(probe: str, clean: Any, statement: str) -> None:
    """A named lock is the server's: it goes when the server has noticed that its connection was closed."""
    async with asyncio.timeout(5):
        while (answer := await run_django(answer_to, probe)) != clean:
            assert "IS_USED_LOCK" in probe or "pg_locks" in probe, (statement, answer)
            await asyncio.sleep(0.01)


async def kept_for_the_scope_and_nobody_else(shop: Any, statement: str, probe: str, run: Any) -> None:
    shop.configure(async_db={"pool_size": 1})
    clean = await run_django(answer_to, probe)
    async with scope():
        await run(sql, statement)
        assert shop.checked_out() == 1
        assert await run(answer_to, probe) != clean
        assert shop.checked_out() == 1
    assert shop.checked_out() == 0
    await answers_in_the_end(probe, clean, statement)
    assert shop.checked_out() == 0


def _cases(family: str) -> Any:
    return pytest.mark.parametrize(("statement", "probe"), LEAVING[family].values(), ids=LEAVING[family])


@pool
@ways
@pytest.mark.families("mariadb")
@_cases("mariadb")
async def test_state_on_mariadb_is_kept_for_the_scope(statement: str, probe: str, run: Any, shop: Any) -> None:
    await kept_for_the_scope_and_nobody_else(shop, statement, probe, run)


@pool
@ways
@pytest.mark.families("mysql")
@_cases("mysql")
async def test_state_on_mysql_is_kept_for_the_scope(statement: str, probe: str, run: Any, shop: Any) -> None:
    await kept_for_the_scope_and_nobody_else(shop, statement, probe, run)


@pool
@ways
@pytest.mark.families("postgresql")
@_cases("postgresql")
async def test_state_on_postgresql_is_kept_for_the_scope(statement: str, probe: str, run: Any, shop: Any) -> None:
    await kept_for_the_scope_and_nobody_else(shop, statement, probe, run)


@pool
@ways
@pytest.mark.families("sqlite")
@_cases("sqlite")
async def test_state_on_sqlite_is_kept_for_the_scope(statement: str, probe: str, run: Any, shop: Any) -> None:
    await kept_for_the_scope_and_nobody_else(shop, statement, probe, run)


@pool
@servers
async def test_without_a_scope_the_state_ends_with_the_operation(shop: Any) -> None:
    shop.configure(async_db={"pool_size": 1})
    for statement, probe in LEAVING[shop.family].values():
        clean = await run_django(answer_to, probe)
        with suppress(TransactionManagementError):
            await run_django(sql, statement)
        assert shop.checked_out() == 0
        await answers_in_the_end(probe, clean, statement)


@pool
@servers
async def test_a_changed_session_is_the_same_connection_until_the_end_and_then_has_no_change(shop: Any) -> None:
    shop.configure(async_db={"pool_size": 1})
    ask, statement = WHO[shop.family], LEAVING[shop.family]["setting"][0]
    before = await run_django(sql, ask)
    async with scope():
        await run_django(sql, statement)
        assert await run_django(sql, ask) == await in_thread(sql, ask) == before
    await run_django(sql, ask)
    counts = django_bridge.database().stats().counts
    assert counts.reset + counts.connects > 1


@pool
@servers
async def test_a_clean_connection_is_used_again(shop: Any) -> None:
    shop.configure(async_db={"pool_size": 1})
    ask = WHO[shop.family]
    before = await run_django(sql, ask)
    async with scope():
        assert await run_django(sql, ask) == before
        assert await in_thread(sql, ask) == before
    assert await run_django(sql, ask) == before


LAST = {"mariadb": "SELECT LAST_INSERT_ID()", "mysql": "SELECT LAST_INSERT_ID()", "postgresql": "SELECT lastval()"}


@pool
@ways
async def test_the_last_inserted_id_is_right_or_refused_never_anothers(run: Any, shop: Any, rows: Any) -> None:
    ask = LAST.get(shop.family, "SELECT last_insert_rowid()")
    insert = "INSERT INTO shelf_row (number, text) VALUES (1, '')"

    def on_one_cursor() -> Any:
        with connection.cursor() as cursor:
            cursor.execute(insert)
            cursor.execute(ask)
            return cursor.fetchone()[0]

    def in_a_transaction() -> Any:
        with transaction.atomic():
            sql(insert)
            return sql(ask)[0][0]

    async with scope():
        assert await run(on_one_cursor) == (await rows.alatest("pk")).pk
        assert await run(in_a_transaction) == (await rows.alatest("pk")).pk
        await run(sql, insert)
        mine = (await rows.alatest("pk")).pk
        await asyncio.gather(*(rows.acreate(number=2) for _ in range(5)))
        with suppress(TransactionManagementError):
            assert (await run(sql, ask))[0][0] == mine


# Seen by Django: wrappers and logs


@ways
async def test_execute_wrappers_around_code_on_the_scopes_connection(run: Any, rows: Any) -> None:
    seen: list[str] = []

    def wrapper(execute: Any, query: str, params: Any, many: Any, context: Any) -> Any:
        seen.append(query.split(maxsplit=1)[0])
        return execute(query, params, many, context)

    def work() -> None:
        with connection.execute_wrapper(wrapper):
            rows.create(number=1)
            rows.count()

    async with scope():
        await run(work)
        assert seen == ["INSERT", "SELECT"]
        await rows.acount()
        assert len(seen) == 2


@pytest.mark.native_only("with threads, the wrapper is on the loop's connection and the query in a thread")
async def test_an_execute_wrapper_in_async_code_sees_native_calls_and_threads(rows: Any) -> None:
    seen: list[str] = []

    def wrapper(execute: Any, query: str, params: Any, many: Any, context: Any) -> Any:
        seen.append(query.split(maxsplit=1)[0])
        return execute(query, params, many, context)

    async with scope():
        with connection.execute_wrapper(wrapper):
            await rows.acreate(number=1)
            assert seen == ["INSERT"]
            await in_thread(rows.count)
            assert seen == ["INSERT", "SELECT"]
            await asyncio.gather(rows.acount(), rows.aexists())
            assert len(seen) == 4
            assert [row async for row in rows.aiterator()]
            assert len(seen) == 5
        await rows.acount()
        assert len(seen) == 5
    await rows.acount()
    assert len(seen) == 5


@pytest.mark.native_only("with threads, the wrapper is on the loop's connection and the query in a thread")
async def test_an_execute_wrapper_that_refuses_is_obeyed(rows: Any) -> None:
    def refuse(*_: Any) -> Any:
        raise PermissionError

    async with scope():
        with connection.execute_wrapper(refuse), pytest.raises(PermissionError):
            await rows.acount()
        assert await rows.acount() == 0


@pytest.mark.native_only("with threads, the log is on the loop's connection and the query in a thread")
async def test_queries_are_logged_under_debug(rows: Any, project: Any) -> None:
    project(DEBUG=True)
    async with scope():
        await run_django(reset_queries)
        await rows.acreate(number=1)
        await in_thread(rows.count)
        logged = connection.queries
        assert [query["sql"].split()[0] for query in logged] == ["INSERT", "SELECT"]
        assert all(float(query["time"]) >= 0 for query in logged)
        await run_django(reset_queries)
        assert connection.queries == []


@pytest.mark.native_only("with threads, the log is on the loop's connection and the query in a thread")
async def test_force_debug_cursor_logs_until_it_is_taken_back(rows: Any) -> None:
    async with scope():
        await rows.acount()
        connection.force_debug_cursor = True
        await rows.acount()
        await rows.acount()
        connection.force_debug_cursor = False
        await rows.acount()
        assert len(connection.queries) == 2
    async with scope():
        await rows.acount()
        assert connection.queries == []


@pytest.mark.native_only("with threads, the log is on the loop's connection and the query in a thread")
async def test_captured_queries_and_assert_num_queries_around_native_calls(rows: Any) -> None:
    case = TransactionTestCase()
    async with scope():
        with CaptureQueriesContext(connection) as captured:
            await rows.acreate(number=1)
            await asyncio.gather(rows.acount(), rows.acount())
        assert len(captured) == 3
        assert "shelf_row" in captured[0]["sql"]
        with case.assertNumQueries(2):
            await rows.acount()
            await in_thread(rows.count)
        with pytest.raises(AssertionError, match="1 queries executed, 3 expected"), case.assertNumQueries(3):
            await rows.acount()


@ways
async def test_captured_queries_and_assert_num_queries_inside_sync_code(run: Any, rows: Any) -> None:
    def work() -> None:
        with TransactionTestCase().assertNumQueries(2):
            rows.create(number=1)
            rows.count()
        with CaptureQueriesContext(connection) as captured:
            list(rows.all())
        assert len(captured) == 1

    await run(work)
    async with scope():
        await run(work)


async def test_captured_queries_in_a_sync_view(shop: Any, rows: Any, project: Any) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        with CaptureQueriesContext(connection) as captured:
            rows.create(number=1)
            rows.count()
        return HttpResponse(str(len(captured)))

    site(project=project, middleware=[SCOPED], view=view)
    assert await get("/view") == (200, b"2")


# Cancellation

SLEEP = {"mariadb": "SELECT SLEEP(30)", "mysql": "SELECT SLEEP(30)", "postgresql": "SELECT pg_sleep(30)"}


@pytest.fixture
def left_asleep(server: Any, database_name: str) -> Iterator[None]:
    """What a cancelled client leaves on the server sleeps on there: it is ended."""
    yield
    server.kill_connections(database=database_name)


def is_sleeping(server: Any, database: str) -> bool:
    busy = {"Query", "Execute", "active"}
    return any(one.database == database and one.command in busy for one in server.connections())


@pool
@servers
@pytest.mark.parametrize("in_block", [False, True])
@pytest.mark.usefixtures("left_asleep")
async def test_a_cancelled_statement_costs_its_connection_and_nothing_else(
    in_block: bool, shop: Any, server: Any, database_name: str, eventually: Any
) -> None:
    rows = shop.models.Row.objects
    await shop.create(shop.models.Row)
    shop.configure(async_db={"pool_size": 1})

    def work() -> None:
        if not in_block:
            sql(SLEEP[shop.family])
            return
        with transaction.atomic():
            rows.create(number=1)
            sql(SLEEP[shop.family])

    async def owner() -> None:
        async with scope():
            await run_django(work)

    task = asyncio.create_task(owner())
    await eventually(lambda: asyncio.to_thread(is_sleeping, server, database_name), within=10.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await task
    assert shop.checked_out() == 0
    async with asyncio.timeout(10):
        assert await rows.acount() == 0


@pool
@servers
async def test_a_time_out_amid_a_statement_leaves_the_scope_usable(shop: Any, rows: Any, left_asleep: Any) -> None:
    async with scope():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run_django(sql, SLEEP[shop.family])
        assert shop.checked_out() == 0
        await rows.acreate(number=1)
        assert await rows.acount() == 1


@pool
@servers
async def test_a_time_out_in_a_transaction_rolls_it_back_and_leaves_the_scope_usable(
    shop: Any, rows: Any, left_asleep: Any
) -> None:
    def work() -> None:
        with transaction.atomic():
            rows.create(number=1)
            sql(SLEEP[shop.family])

    async with scope():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await run_django(work)
        assert await rows.acount() == 0
        await rows.acreate(number=2)
    assert shop.checked_out() == 0
    assert await rows.acount() == 1


# Errors and transactions

# Django < 6.1: it has only the old name.
savepoint: Any = getattr(transaction, "savepoint_create", None) or transaction.savepoint


@ways
async def test_errors_are_djangos_outside_of_a_transaction(run: Any, shop: Any, named: Any) -> None:
    async with scope():
        await named.acreate(name="a")
        with pytest.raises(IntegrityError) as caught:
            await run(named.create, name="a")
        assert caught.value.__cause__ is not None
        with pytest.raises((ProgrammingError, OperationalError)):
            await run(sql, "SELECT * FROM nowhere")
        if shop.on_server:
            with pytest.raises(DataError):
                await run(named.create, name="x" * 60)
        assert await named.acount() == 1


async def test_native_calls_raise_djangos_errors(named: Any) -> None:
    await named.acreate(name="a")
    with pytest.raises(IntegrityError):
        await named.acreate(name="a")
    with pytest.raises(IntegrityError):
        await named.abulk_create([named.model(name="b"), named.model(name="a")])
    assert await named.acount() == 1


@ways
async def test_atomic_commits_and_rolls_back(run: Any, named: Any) -> None:
    def work(fail: bool) -> None:
        with transaction.atomic():
            named.create(name="a")
            if fail:
                raise LookupError

    with pytest.raises(LookupError):
        await run(work, True)
    assert await named.acount() == 0
    await run(work, False)
    assert await named.acount() == 1


@ways
async def test_an_error_in_a_savepoint_is_rolled_back_to_it(run: Any, named: Any) -> None:
    def work() -> None:
        with transaction.atomic():
            named.create(name="a")
            with pytest.raises(IntegrityError), transaction.atomic():
                named.create(name="b")
                named.create(name="a")
            with transaction.atomic():
                named.create(name="c")
            sid = savepoint()
            named.create(name="d")
            transaction.savepoint_rollback(sid)
            sid = savepoint()
            named.create(name="e")
            transaction.savepoint_commit(sid)

    async with scope():
        await run(work)
    assert sorted([one.name async for one in named.all()]) == ["a", "c", "e"]


@ways
async def test_after_an_error_in_a_block_only_its_end_is_allowed(run: Any, named: Any) -> None:
    def work() -> None:
        with transaction.atomic():
            named.create(name="a")
            with transaction.atomic(savepoint=False), suppress(IntegrityError):
                pass
            with suppress(IntegrityError), transaction.atomic(savepoint=False):
                named.create(name="a")
            with pytest.raises(TransactionManagementError):
                named.count()

    async with scope():
        await run(work)
        assert await named.acount() == 0


@ways
async def test_hooks_run_after_the_commit_and_may_ask_the_database(run: Any, named: Any) -> None:
    seen: list[Any] = []

    def work() -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append(("first", connection.in_atomic_block, named.count())))
            with suppress(LookupError), transaction.atomic():
                transaction.on_commit(lambda: seen.append("lost"))
                raise LookupError
            named.create(name="a")
            transaction.on_commit(lambda: named.create(name="from a hook"))
            transaction.on_commit(lambda: 1 / 0, robust=True)
            assert seen == []
        transaction.on_commit(lambda: seen.append("at once"))

    async with scope():
        await run(work)
    assert seen == [("first", False, 1), "at once"]
    assert await named.acount() == 2


@ways
async def test_durable_and_set_rollback(run: Any, named: Any) -> None:
    def work() -> None:
        with transaction.atomic():
            with pytest.raises(RuntimeError, match="durable"), transaction.atomic(durable=True):
                pass
            named.create(name="a")
            assert not transaction.get_rollback()
            transaction.set_rollback(True)
        with transaction.atomic(durable=True):
            named.create(name="b")

    await run(work)
    assert [one.name async for one in named.all()] == ["b"]


@ways
async def test_select_for_update_outside_of_a_transaction_is_refused(run: Any, shop: Any, rows: Any) -> None:
    if not shop.on_server:
        assert await run(lambda: list(rows.select_for_update())) == []
        return
    with pytest.raises(TransactionManagementError):
        await run(lambda: list(rows.select_for_update()))
    with pytest.raises(TransactionManagementError):
        await rows.select_for_update().afirst()


@pool
@servers
async def test_a_row_locked_by_one_scope_is_locked_for_another(shop: Any, rows: Any) -> None:
    row = await rows.acreate(number=1)

    def lock(**options: Any) -> Any:
        with transaction.atomic():
            return list(rows.select_for_update(**options).filter(pk=row.pk))

    async def other(**options: Any) -> Any:
        async with scope():
            return await run_django(lock, **options)

    block = transaction.atomic()
    async with scope():
        await run_django(block.__enter__)
        assert (await rows.select_for_update().aget(pk=row.pk)).number == 1
        with pytest.raises(DatabaseError):
            await asyncio.create_task(other(nowait=True))
        assert await asyncio.create_task(other(skip_locked=True)) == []
        await run_django(block.__exit__, None, None, None)
    assert await other(nowait=True) == [row]
    assert shop.checked_out() == 0


# Killed connections


@pool
@servers
@ways
async def test_a_connection_killed_while_idle_is_not_noticed(run: Any, shop: Any, rows: Any, server: Any) -> None:
    shop.configure(async_db={"pool_size": 2, "ping_after": 0.0})
    async with scope():
        await rows.acreate(number=1)
        server.kill_connections(database=connections.settings["default"]["NAME"])
        assert await run(rows.count) == 1
    assert shop.checked_out() == 0


@pool
@servers
@ways
async def test_a_connection_killed_in_a_transaction_rolls_it_back(run: Any, shop: Any, rows: Any, server: Any) -> None:
    def work() -> None:
        with transaction.atomic():
            rows.create(number=1)
            server.kill_connections(database=connections.settings["default"]["NAME"])
            rows.create(number=2)

    async with scope():
        with pytest.raises((OperationalError, InterfaceError)):
            await run(work)
        assert await rows.acount() == 0
        await rows.acreate(number=3)
    assert shop.checked_out() == 0
    assert await rows.acount() == 1


# Django's other doors


@ways
async def test_raw_queries_and_cursors(run: Any, shop: Any, rows: Any) -> None:
    def work() -> None:
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO shelf_row (number, text) VALUES (%s, %s)", [(n, "100%") for n in range(5)])
            assert cursor.rowcount == 5
            cursor.execute("SELECT number, text FROM shelf_row ORDER BY number")
            assert [column[0] for column in cursor.description] == ["number", "text"]
            assert tuple(cursor.fetchone()) == (0, "100%")
            assert [tuple(row) for row in cursor.fetchmany(2)] == [(1, "100%"), (2, "100%")]
            assert [row[0] for row in cursor] == [3, 4]
            assert cursor.fetchone() is None
            assert list(cursor.fetchall()) == []
            cursor.execute("SELECT '%%' , %s", ["%s"])
            assert [tuple(row) for row in cursor.fetchall()] in ([("%", "%s")], [("%%", "%s")])
            cursor.execute("UPDATE shelf_row SET number = 0 WHERE number > %s", [2])
            assert cursor.rowcount == 2
            cursor.execute("UPDATE shelf_row SET number = 0")
            assert cursor.rowcount == 5, "matched rows, not changed ones"
        raw = rows.raw("SELECT id, number, 7 AS seven FROM shelf_row WHERE text = %s", ["100%"])
        assert [(row.number, row.seven) for row in raw] == [(0, 7)] * 5
        assert raw.columns == ["id", "number", "seven"]

    await run(work)
    raw = rows.raw("SELECT id, number FROM shelf_row WHERE number = %(n)s", {"n": 0})
    assert len([row async for row in raw]) == 5


@ways
@servers
async def test_stored_procedures(run: Any, shop: Any) -> None:
    def work() -> Any:
        if connection.vendor == "mysql":
            sql("CREATE PROCEDURE twice (IN n INT) BEGIN SELECT n * 2; SELECT n * 3; END")
            with connection.cursor() as cursor:
                cursor.callproc("twice", [4])
                first = [tuple(row) for row in cursor.fetchall()]
                more = cursor.nextset()
                second = [tuple(row) for row in cursor.fetchall()]
            return first, bool(more), second, sql("SELECT 1")
        sql("CREATE FUNCTION twice (n INT) RETURNS INT LANGUAGE SQL AS 'SELECT n * 2'")
        with connection.cursor() as cursor:
            cursor.callproc("twice", [4])
            return [tuple(row) for row in cursor.fetchall()]

    result = await run(work)
    stock = [(8,)] if shop.family == "postgresql" else ([(8,)], True, [(12,)], [(1,)])
    assert repr(result).replace("((1,),)", "[(1,)]") == repr(stock)
    assert shop.checked_out() == 0 or not shop.on_server


async def test_ten_thousand_rows_at_once(shop: Any, rows: Any) -> None:
    made = await rows.abulk_create([shop.models.Row(number=n, text="x" * 20) for n in range(10_000)])
    assert len(made) == 10_000
    assert await rows.acount() == 10_000
    assert len(await rows.ain_bulk(list(range(1, 2000)))) >= 1000
    if shop.family != "mysql":
        assert all(row.pk for row in made)
    assert await rows.filter(number__lt=5000).aupdate(text="y") == 5000
    deleted, _ = await rows.all().adelete()
    assert deleted == 10_000


async def test_commands_run_on_the_loop(shop: Any, tmp_path: Any) -> None:
    await shop.create(shop.models.Row)
    await shop.models.Row.objects.acreate(number=5, text="Zażółć")
    where = tmp_path / "rows.json"
    async with scope():
        await run_django(call_command, "dumpdata", "shelf.row", output=str(where), verbosity=0)
        await shop.models.Row.objects.all().adelete()
        await run_django(call_command, "loaddata", str(where), verbosity=0)
    assert (await shop.models.Row.objects.aget()).text == "Zażółć"


async def test_introspection_and_schema_editing_on_the_loop(shop: Any, rows: Any) -> None:
    from django.db import models

    def work() -> list[str]:
        field = models.IntegerField(default=3, null=True)
        field.set_attributes_from_name("extra")
        field.model = rows.model
        with connection.schema_editor() as editor:
            editor.add_field(rows.model, field)
        with connection.cursor() as cursor:
            return [one.name for one in connection.introspection.get_table_description(cursor, "shelf_row")]

    await rows.acreate(number=1)
    assert await run_django(work) == ["id", "number", "text", "extra"]
