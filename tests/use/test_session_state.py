"""What a statement left on the session: all of its scope sees it, nobody else does, and nothing goes on without it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import close_old_connections, connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from sqlalchemy import text

from asyncdb.drivers.residue import leaves_something, residue
from asyncdb.errors import TransactionMisuse
from django_bridge import atomic, database, run_django, scope, session
from django_bridge.errors import ScopeOwnedByTask, SessionLost
from tests.asking import tell, value
from tests.bridge.site import SCOPED, get, site

SERVERS = pytest.mark.families("mariadb", "mysql", "postgresql")
POSTGRESQL = pytest.mark.families("postgresql")


class Setting:
    """A setting of a session: how a family sets and reads it, and what it is for everybody else."""

    def __init__(self, family: str) -> None:
        mysql = family in {"mariadb", "mysql"}
        self.set = "SET SESSION group_concat_max_len = 7" if mysql else "SET application_name = '7'"
        self.ask = (
            "SELECT @@group_concat_max_len"
            if mysql
            else "SELECT CASE current_setting('application_name') WHEN '7' THEN 7 ELSE 0 END"
        )
        self.mine = "SELECT CONNECTION_ID()" if mysql else "SELECT pg_backend_pid()"
        self.raw = (
            "@@group_concat_max_len" if mysql else "(CASE current_setting('application_name') WHEN '7' THEN 7 END)"
        )

    def change(self) -> None:
        tell(self.set)

    def is_there(self) -> bool:
        return bool(value(self.ask) == 7)


@pytest.fixture
def setting(family: str) -> Setting:
    return Setting(family)


@pytest.fixture
async def rows(shop: Any, setting: Setting) -> Any:
    """Three rows, each with the setting as the database sees it when it is read."""
    from django.db.models.expressions import RawSQL

    await shop.create(shop.models.Row)
    await shop.models.Row.objects.abulk_create([shop.models.Row(number=n) for n in range(3)])
    return shop.models.Row.objects.annotate(seen=RawSQL(setting.raw, [])).values_list("seen", flat=True)


# All of a scope is on the connection that carries the change


async def _iterator(rows: Any) -> list[Any]:
    return await run_django(lambda: list(rows.iterator(chunk_size=1)))


async def _iterator_in_a_thread(rows: Any) -> list[Any]:
    return await sync_to_async(lambda: list(rows.iterator(chunk_size=1)))()


async def _aiterator(rows: Any) -> list[Any]:
    return [seen async for seen in rows.aiterator(chunk_size=1)]


async def _async_for(rows: Any) -> list[Any]:
    return [seen async for seen in rows]


async def _two_streams_at_once(rows: Any) -> list[Any]:
    found = []
    async for seen in rows.aiterator(chunk_size=1):
        found += [seen, *[inner async for inner in rows.aiterator(chunk_size=1)]]
    return found


async def _thread(rows: Any) -> list[Any]:
    return await sync_to_async(list)(rows)


async def _block(rows: Any) -> list[Any]:
    async with atomic():
        return await _aiterator(rows)


READERS = [_iterator, _iterator_in_a_thread, _aiterator, _async_for, _two_streams_at_once, _thread, _block]


async def _by_the_orm(setting: Setting) -> None:
    await run_django(setting.change)


async def _by_a_thread(setting: Setting) -> None:
    await sync_to_async(setting.change)()


async def _in_a_block(setting: Setting) -> None:
    async with atomic():
        await run_django(setting.change)


async def _by_the_blocks_session(setting: Setting) -> None:
    async with atomic() as db:
        await db.execute(text(setting.set))


async def _by_the_blocks_driver(setting: Setting) -> None:
    async with atomic() as db:
        raw = (await (await db.connection()).get_raw_connection()).driver_connection
        async with raw.cursor() as cursor:
            await cursor.execute(setting.set)


WRITERS = [_by_the_orm, _by_a_thread, _in_a_block, _by_the_blocks_session, _by_the_blocks_driver]


@SERVERS
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("change", WRITERS)
async def test_whatever_reads_in_the_scope_sees_it(change: Any, read: Any, rows: Any, setting: Setting) -> None:
    async with scope():
        await change(setting)
        assert set(await read(rows)) == {7}
        assert await run_django(setting.is_there)
    async with scope():
        assert not await run_django(setting.is_there)


@SERVERS
async def test_a_session_and_the_verbs_of_the_database_see_it(rows: Any, setting: Setting, shop: Any) -> None:
    ask = text(setting.ask)
    async with scope():
        await run_django(setting.change)
        async with session() as db:
            assert await db.scalar(ask) == 7
        assert await database().fetch_val(ask) == 7
        assert [row async for row in database().stream(ask, into=int)] == [7]
        async with atomic() as db:
            assert await db.scalar(ask) == 7
        assert shop.checked_out() == 1
    assert await database().fetch_val(ask) != 7


@SERVERS
async def test_a_session_on_it_has_a_transaction_of_its_own(rows: Any, setting: Setting, shop: Any) -> None:
    insert = text("INSERT INTO shelf_row (number, text) VALUES (50, 'x')")
    async with scope():
        await run_django(setting.change)
        async with session() as db:
            await db.execute(insert)
            await db.rollback()
        async with session() as db:
            await db.execute(insert)
            await db.commit()
            await shop.models.Row.objects.acreate(number=51)
            await db.rollback()
        await database().execute(insert)
        found = shop.models.Row.objects.filter(number__gte=50).order_by("pk")
        assert [row.number async for row in found] == [50, 51, 50]


@SERVERS
async def test_a_write_of_the_orm_amid_its_transaction_is_refused(rows: Any, setting: Setting, shop: Any) -> None:
    manager = shop.models.Row.objects
    async with scope():
        await run_django(setting.change)
        async with session() as db:
            await db.execute(text("UPDATE shelf_row SET text = 'x'"))
            assert await manager.acount() == 3
            with pytest.raises(transaction.TransactionManagementError, match="commit it or end it first"):
                await manager.acreate(number=51)
            with pytest.raises(transaction.TransactionManagementError, match="commit it or end it first"):
                async with atomic():
                    pass
            await db.rollback()
            await manager.acreate(number=52)
        assert await manager.filter(number=52, text="").aexists()


@SERVERS
async def test_no_second_connection_is_waited_for(shop: Any, rows: Any, setting: Setting) -> None:
    shop.configure(async_db={"pool_size": 3, "pool_timeout": 5})

    async def request() -> list[Any]:
        async with scope():
            await run_django(setting.change)
            async with session() as db:
                first = await db.scalar(text(setting.ask))
            return [first, *await _aiterator(rows), *await _iterator(rows)]

    found = await asyncio.gather(*(asyncio.create_task(request()) for _ in range(6)))
    assert found == [[7] * 7] * 6
    assert database().stats().counts.timeouts == 0


@SERVERS
async def test_a_child_task_is_told_and_does_not_go_on_without_it(rows: Any, setting: Setting) -> None:
    async def read() -> Any:
        async with session() as db:
            return await db.scalar(text(setting.ask))

    async with scope():
        await run_django(setting.change)
        for work in (rows.acount, read):
            with pytest.raises(ScopeOwnedByTask, match="default"):
                await asyncio.create_task(work())


# What counts as leaving something


@POSTGRESQL
async def test_a_setting_made_inside_a_function_stays_for_the_scope(shop: Any, setting: Setting) -> None:
    await run_django(
        tell,
        "CREATE FUNCTION become() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET application_name = '7'; END $$",
    )
    async with scope():
        await run_django(tell, "SELECT become()")
        assert await run_django(setting.is_there)
    async with scope():
        await run_django(tell, 'SELECT "public"."become"()')
        assert await run_django(setting.is_there)
    assert not await run_django(setting.is_there)


@pytest.mark.families("mariadb", "mysql")
async def test_a_variable_set_inside_a_stored_function_stays_for_the_scope(shop: Any) -> None:
    def define() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET @@SESSION.sql_mode = @@SESSION.sql_mode")
            cursor.execute(
                "CREATE FUNCTION become() RETURNS INT NOT DETERMINISTIC NO SQL BEGIN SET @me = 7; RETURN 1; END"
            )

    await run_django(define)
    async with scope():
        await run_django(tell, "SELECT become()")
        assert await run_django(value, "SELECT @me FROM (SELECT 1) AS one WHERE become()") == 7
        async with atomic():
            assert await run_django(value, "SELECT @me") == 7


@POSTGRESQL
@pytest.mark.parametrize(
    ("volatility", "connections"),
    [("IMMUTABLE", 1), ("STABLE", 1), ("VOLATILE", 2)],
    ids=["immutable", "stable", "volatile"],
)
async def test_the_server_is_asked_about_a_projects_function(shop: Any, volatility: str, connections: int) -> None:
    shop.configure(async_db={"pool_size": 2})
    await run_django(tell, f"CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql {volatility} AS 'SELECT 2 * n'")
    resets = database().stats().counts.reset
    async with scope():
        assert await run_django(value, "SELECT twice(4)") == 8
        kept = shop.checked_out() == 1
    assert kept == (volatility == "VOLATILE")
    assert database().stats().counts.reset - resets == connections - 1


LEAVE_NOTHING = [
    "SELECT to_tsvector('english', 'x') @@ plainto_tsquery('x')",
    "SELECT websearch_to_tsquery('x')",
    "SELECT ts_rank(to_tsvector('a'), to_tsquery('a'))",
    "SELECT setweight(to_tsvector('a'), 'A')",
    "INSERT INTO upserted (id, n) VALUES (1, 1) ON CONFLICT(id) DO UPDATE SET n = EXCLUDED.n",
    "INSERT INTO upserted (id, n) VALUES (1, 1) ON CONFLICT (id) DO NOTHING",
    "SELECT nextval('s')",
    "SELECT setval('s', 5)",
    "SELECT jsonb_set('{}', '{a}', '1')",
    "SELECT set_config('app.tenant', 'x', true)",
    "SELECT set_config('app.tenant', current_setting('app.other', true), TRUE)",
    "WITH t (a, b) AS (SELECT 1, 2) SELECT array_agg(a) FROM t",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY n) FROM upserted",
    "SELECT numrange(1, 2), daterange(now()::date, NULL), txid_current(), clock_timestamp()",
    "SELECT pg_notify('news', 'x')",
    "NOTIFY news",
]


@POSTGRESQL
async def test_what_leaves_nothing_costs_neither_reset_nor_login(shop: Any, project: Any) -> None:
    from django.conf import settings

    project(INSTALLED_APPS=[*settings.INSTALLED_APPS, "django.contrib.postgres"])
    shop.configure(async_db={"pool_size": 1})
    await run_django(tell, "CREATE TABLE upserted (id int primary key, n int)")
    await run_django(tell, "CREATE SEQUENCE s")
    before = database().stats().counts
    for statement in LEAVE_NOTHING:
        async with scope():
            await run_django(tell, statement)
            assert shop.checked_out() == 0, statement
        await database().execute(text(statement.replace(":", r"\:")))
    after = database().stats().counts
    assert (after.connects, after.reset) == (before.connects, before.reset)


@POSTGRESQL
async def test_with_djangos_own_receiver_a_changed_session_is_reset_and_not_closed(shop: Any, setting: Setting) -> None:
    from django.contrib.postgres.signals import register_type_handlers
    from django.db.backends.signals import connection_created

    connection_created.connect(register_type_handlers)
    try:
        shop.configure(async_db={"pool_size": 1})
        async with scope():
            await run_django(setting.change)
        async with scope():
            assert not await run_django(setting.is_there)
        assert database().stats().counts.connects == 1
    finally:
        connection_created.disconnect(register_type_handlers)


@POSTGRESQL
async def test_what_a_receiver_has_set_the_next_user_finds(shop: Any, setting: Setting) -> None:
    from django.db.backends.signals import connection_created

    def name_it(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET application_name = '7'")

    connection_created.connect(name_it)
    try:
        shop.configure(async_db={"pool_size": 1})
        for _ in range(3):
            async with scope():
                assert await run_django(setting.is_there)
                await run_django(tell, "SET application_name = 'other'")
    finally:
        connection_created.disconnect(name_it)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT set_config('a', 'b', false)",
        "SELECT set_config(%s, %s, %s)",
        "SELECT set_config('a', 'true', 'true')",
        "SELECT set_config('a', 'b', true), set_config('c', 'd', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT GET_LOCK('a', 1)",
        "SELECT @a := 1",
        "CREATE TEMPORARY TABLE t (a int)",
        "SELECT 1 INTO TEMP t",
        "DO $$ BEGIN SET x = 1; END $$",
        "CALL p()",
        "SELECT 1; SET x = 1",
        "PREPARE p AS SELECT 1",
        "LISTEN news",
        "SELECT load_extension('x')",
        "CREATE TABLE x AS SELECT set_tenant(6)",
        "ALTER TABLE x ADD COLUMN y int DEFAULT set_tenant(6)",
    ],
)
def test_what_leaves_something_is_told_from_its_words(statement: str) -> None:
    assert residue(statement).left
    assert leaves_something(statement)


def test_what_leaves_nothing_is_told_without_a_server() -> None:
    for harmless in (
        "SELECT setweight(to_tsvector('a'), 'A')",
        "INSERT INTO t (id, n) VALUES (1, 1) ON CONFLICT(id) DO UPDATE SET n = EXCLUDED.n",
        "SELECT nextval('s')",
        "SELECT jsonb_set('{}', '{a}', '1')",
    ):
        assert not leaves_something(harmless), harmless
    assert leaves_something("SELECT of_the_project(1)")


@pytest.mark.parametrize(
    ("statement", "called"),
    [
        ("SELECT now(), set_tenant(5) AS ok", "set_tenant"),
        ("SELECT count(*), f(col) AS x FROM t", "f"),
        ("SELECT * FROM f(1), g(2) AS y", "g"),
        ('SELECT "set tenant"(5)', "of_an_odd_name"),
        ("SELECT match(5)", "match"),
        ("SELECT app$count(5)", "app$count"),
        ("SELECT other.abs(5)", ".abs"),
    ],
)
def test_each_function_that_is_called_is_seen(statement: str, called: str) -> None:
    assert called in residue(statement).calls


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("SET LOCAL time_zone = '+09:00'", "mysql"),
        ("SELECT 1 # it's\n, GET_LOCK('a', 1)", "mysql"),
        ("SELECT 5--get_lock('a', 1)", "mysql"),
        ("""SELECT "a\\"", GET_LOCK("lk", 1), "b c" """, "mysql"),
        ("SELECT $$O'Brien$$, set_config('app.t', 'c', false)", "postgresql"),
        ("SELECT 1 /* a /* b */ it's */, set_config('app.t', 'c', false)", "postgresql"),
        ('SELECT U&"set\\005fconfig"(1)', "postgresql"),
    ],
    ids=["local", "hash", "dashes", "escaped quote", "dollars", "nested comment", "escaped name"],
)
def test_what_a_family_reads_otherwise_counts_as_leaving_something_there(statement: str, where: str) -> None:
    found = residue(statement)
    assert found.left or where in found.left_on


@POSTGRESQL
async def test_a_projects_function_with_the_name_of_the_servers_is_asked_about(shop: Any) -> None:
    await run_django(tell, "CREATE TABLE noted (n int)")
    await run_django(
        tell,
        "CREATE FUNCTION total(n int) RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO noted VALUES (n); SET application_name = '7'; RETURN n; END $$",
    )
    await run_django(tell, "CREATE FUNCTION log(a text, b text) RETURNS text LANGUAGE sql AS 'SELECT a'")
    from sqlalchemy import func, select

    async with session() as db:
        assert await db.scalar(select(func.total(1))) == 1
        await db.rollback()
    assert await database().fetch_val(text("SELECT count(*) FROM noted")) == 0
    async with scope():
        await run_django(tell, "SELECT log('a', 'b')")
        assert shop.checked_out() == 1


# A connection that is lost


async def _kill(server: Any, setting: Setting) -> None:
    victim = await run_django(value, setting.mine)
    end = f"KILL {victim}" if "CONNECTION_ID" in setting.mine else f"SELECT pg_terminate_backend({victim})"
    await asyncio.to_thread(server.execute, end)


@SERVERS
async def test_a_lost_connection_with_a_changed_session_is_not_replaced(
    shop: Any, rows: Any, setting: Setting, server: Any, eventually: Any
) -> None:
    ask = text(setting.ask)

    async def by_session() -> Any:
        async with session() as db:
            return await db.scalar(ask)

    async def by_block() -> Any:
        async with atomic() as db:
            return await db.scalar(ask)

    doors: list[Callable[[], Awaitable[Any]]] = [
        rows.acount,
        lambda: run_django(setting.is_there),
        sync_to_async(setting.is_there),
        lambda: _aiterator(rows),
        by_session,
        by_block,
        lambda: database().fetch_val(ask),
    ]
    async with scope():
        await run_django(setting.change)
        await _kill(server, setting)
        with pytest.raises(Exception, match=r".") as caught:
            await _until_it_fails(rows)
        assert not isinstance(caught.value, SessionLost)
        for door in doors:
            with pytest.raises(SessionLost, match=r"'default'.*SET.*connection\.close"):
                await door()
        with pytest.raises(ScopeOwnedByTask):
            await asyncio.create_task(rows.acount())
        await run_django(connection.close)
        assert not await run_django(setting.is_there)
    assert await rows.acount() == 3


async def _until_it_fails(rows: Any) -> None:
    async with asyncio.timeout(10):
        while True:
            await rows.acount()


@SERVERS
@pytest.mark.parametrize("release", [close_old_connections, lambda: connection.close()], ids=["old", "close"])  # noqa: PLW0108
async def test_a_thread_goes_on_after_it_has_let_go(release: Any, rows: Any, setting: Setting, server: Any) -> None:
    async with scope():
        await run_django(setting.change)
        await _kill(server, setting)
        with pytest.raises(Exception, match=r"."):
            await _until_it_fails(rows)
        await sync_to_async(release)()
        assert not await sync_to_async(setting.is_there)()


@SERVERS
async def test_closing_the_connection_lets_go_of_a_changed_session_early(shop: Any, setting: Setting) -> None:
    async with scope():
        await run_django(setting.change)
        assert shop.checked_out() == 1
        connection.close()
        assert shop.checked_out() == 0
        assert not await run_django(setting.is_there)


@SERVERS
async def test_a_kill_amid_a_block_is_told_after_it_too(rows: Any, setting: Setting, server: Any) -> None:
    async with scope():
        await run_django(setting.change)
        with pytest.raises(Exception, match=r"."):
            async with atomic():
                await _kill(server, setting)
                await _until_it_fails(rows)
        with pytest.raises(SessionLost):
            await rows.acount()


# Streaming bodies


def _site(project: Any, view: Callable[..., Any]) -> None:
    site(project=project, middleware=[SCOPED], view=view)


@SERVERS
async def test_an_async_body_sees_what_its_view_has_set(rows: Any, setting: Setting, project: Any, shop: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"+" if await run_django(setting.is_there) else b"-"
        async for seen in rows.aiterator(chunk_size=1):
            yield str(seen).encode()
        async with session() as db:
            yield str(await db.scalar(text(setting.ask))).encode()

    async def view(request: Any) -> StreamingHttpResponse:
        await run_django(setting.change)
        return StreamingHttpResponse(body())

    _site(project, view)
    assert await get("/view") == (200, b"+7777")
    assert shop.checked_out() == 0


@SERVERS
async def test_an_async_body_keeps_what_it_has_set_itself(setting: Setting, project: Any, shop: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        await run_django(setting.change)
        for _ in range(3):
            yield b"+" if await run_django(setting.is_there) else b"-"
        connection.close()
        yield str(shop.checked_out()).encode()

    async def view(request: Any) -> StreamingHttpResponse:
        return StreamingHttpResponse(body())

    _site(project, view)
    assert await get("/view") == (200, b"+++0")


@SERVERS
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
@pytest.mark.parametrize("async_view", [True, False], ids=["async", "sync"])
async def test_a_sync_body_sees_what_its_view_has_set(
    async_view: bool, rows: Any, setting: Setting, project: Any, shop: Any
) -> None:
    def body() -> Iterator[bytes]:
        yield b"+" if setting.is_there() else b"-"
        yield from (str(seen).encode() for seen in rows.iterator(chunk_size=1))
        yield b"+" if setting.is_there() else b"-"

    def sync_one(request: Any) -> StreamingHttpResponse:
        setting.change()
        return StreamingHttpResponse(body())

    async def async_one(request: Any) -> StreamingHttpResponse:
        await run_django(setting.change)
        return StreamingHttpResponse(body())

    _site(project, async_one if async_view else sync_one)
    assert await get("/view") == (200, b"+777+")
    assert shop.checked_out() == 0
    assert not await run_django(setting.is_there)


@SERVERS
async def test_a_body_beneath_a_sync_middleware_sees_it(rows: Any, setting: Setting, project: Any, shop: Any) -> None:
    from tests.bridge.site import PREFIX, around

    around["sync"] = lambda get_response, request: get_response(request)

    async def body() -> AsyncIterator[bytes]:
        async for seen in rows.aiterator(chunk_size=1):
            yield str(seen).encode()

    async def view(request: Any) -> StreamingHttpResponse:
        await run_django(setting.change)
        return StreamingHttpResponse(body())

    for middleware in ([SCOPED, f"{PREFIX}SyncOnly"], [f"{PREFIX}SyncOnly", SCOPED]):
        site(project=project, middleware=middleware, view=view)
        assert await get("/view") == (200, b"777"), middleware
        assert shop.checked_out() == 0


@SERVERS
async def test_a_body_that_is_never_read_keeps_nothing(
    setting: Setting, project: Any, shop: Any, eventually: Any
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"never"

    async def view(request: Any) -> StreamingHttpResponse:
        await run_django(setting.change)
        return StreamingHttpResponse(body())

    from django_bridge.middleware import ScopeMiddleware

    response = await ScopeMiddleware(view)(None)  # type: ignore[arg-type]  # nobody looks at the request
    assert shop.checked_out() == 1
    response.close()
    await eventually(lambda: shop.checked_out() == 0)


@SERVERS
async def test_the_next_request_does_not_meet_it(rows: Any, setting: Setting, project: Any, shop: Any) -> None:
    shop.configure(async_db={"pool_size": 1})

    async def view(request: Any) -> HttpResponse:
        before = await run_django(setting.is_there)
        await run_django(setting.change)
        return HttpResponse(str(before))

    _site(project, view)
    assert [await get("/view") for _ in range(3)] == [(200, b"False")] * 3


# A child task beside a plain read (kind 11)


async def test_a_child_task_reads_while_its_parent_reads(shop: Any, rows: Any) -> None:
    count = shop.models.Row.objects.acount
    async with scope():
        for _ in range(5):
            child = asyncio.create_task(count())
            assert await count() == 3
            assert await child == 3


async def test_a_child_task_is_refused_where_its_parent_is_in_a_transaction(shop: Any, rows: Any) -> None:
    async with scope(), atomic():
        with pytest.raises(ScopeOwnedByTask):
            await asyncio.create_task(rows.acount())


@POSTGRESQL
async def test_a_transaction_begun_by_hand_is_one_amid_a_read_too(shop: Any, rows: Any) -> None:
    async with scope():
        await run_django(tell, "BEGIN")
        child = asyncio.create_task(rows.acount())
        await rows.acount()
        with pytest.raises(ScopeOwnedByTask):
            await child
        await run_django(tell, "ROLLBACK")


# A task that nobody can wake any more


@SERVERS
@pytest.mark.filterwarnings("ignore:unclosed <Checkout", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("in_a_block", [False, True], ids=["scope", "block"])
async def test_what_a_collected_task_held_goes_back_on_its_loop(
    in_a_block: bool, shop: Any, setting: Setting, eventually: Any
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending"
    given_back: list[int] = []
    waiting = asyncio.Event()

    async def waits() -> None:
        async with scope() as place:
            await run_django(setting.change)
            give_back = place.seats["default"].give_back
            place.seats["default"].give_back = lambda: (given_back.append(threading.get_ident()), give_back())
            if in_a_block:
                async with atomic():
                    waiting.set()
                    await loop.create_future()
            waiting.set()
            await loop.create_future()

    task = asyncio.create_task(waits())
    await waiting.wait()
    assert shop.checked_out() == 1
    del task
    await asyncio.to_thread(gc.collect)
    await eventually(lambda: shop.checked_out() == 0)
    assert set(given_back) == {threading.get_ident()}
    assert not await run_django(setting.is_there)


# What a hostile user found in the cures themselves


@SERVERS
async def test_two_sessions_at_once_share_no_transaction_unknowingly(rows: Any, setting: Setting, shop: Any) -> None:
    insert = text("INSERT INTO shelf_row (number, text) VALUES (50, 'x')")
    async with scope():
        await run_django(setting.change)
        async with session() as db:
            await db.execute(insert)
            with pytest.raises(TransactionMisuse, match="another session"):
                await database().fetch_val(text(setting.ask))
            with pytest.raises(TransactionMisuse, match="another session"):
                async with session() as other:
                    await other.scalar(text(setting.ask))
            await db.rollback()
        assert await shop.models.Row.objects.filter(number=50).acount() == 0


@SERVERS
async def test_an_isolation_level_in_a_changed_scope_is_refused_and_does_not_stick(setting: Setting, shop: Any) -> None:
    shop.configure(async_db={"pool_size": 1})
    async with scope():
        await run_django(setting.change)
        async with session() as db:
            with pytest.raises(TransactionMisuse, match="isolation"):
                await db.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    async with atomic() as db:
        assert await db.scalar(text("SELECT 1")) == 1


@SERVERS
async def test_a_stream_that_is_left_keeps_the_changed_session(rows: Any, setting: Setting) -> None:
    async def first() -> Any:
        async for seen in rows.aiterator(chunk_size=1):
            return seen
        return None

    async with scope():
        await run_django(setting.change)
        assert [await first(), await first()] == [7, 7]
        assert await run_django(setting.is_there)


@pytest.mark.families("mariadb", "mysql")
async def test_no_question_comes_between_a_statement_and_one_that_reads_what_it_left(rows: Any, shop: Any) -> None:
    await run_django(tell, "CREATE FUNCTION nf(n int) RETURNS int DETERMINISTIC NO SQL RETURN n")

    def work() -> Any:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE shelf_row SET text = 'changed'")
            cursor.execute("SELECT ROW_COUNT(), nf(1)")
            return cursor.fetchone()

    async with scope():
        assert await run_django(work) == (3, 1)


@POSTGRESQL
async def test_psycopgs_own_stream_is_in_the_transaction(rows: Any, shop: Any) -> None:
    def work() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            list(cursor.cursor.stream("INSERT INTO shelf_row (number, text) VALUES (60, 'x') RETURNING 1"))
            raise LookupError

    async with scope():
        with pytest.raises(LookupError):
            await run_django(work)
        assert await shop.models.Row.objects.filter(number=60).acount() == 0
