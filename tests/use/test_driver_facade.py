"""What projects use of the driver below Django's connection answers as the driver does, or refuses by its name."""

from __future__ import annotations

import contextlib
import datetime
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, OperationalError, connection, transaction
from sqlalchemy import text

from django_bridge import run_django, scope, session

MYSQL = pytest.mark.families("mariadb", "mysql")
POSTGRESQL = pytest.mark.families("postgresql")


def asked(sql: str, args: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchall() if cursor.description else cursor.rowcount


def said(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns, or the class and words of its error."""
    try:
        return function(*args)
    except Exception as error:
        return type(error).__name__, *error.args


def make_table() -> None:
    asked("CREATE TABLE kept (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(9) NOT NULL, n INT, UNIQUE (name))")
    asked("INSERT INTO kept VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)")


async def beside(shop: Any, function: Callable[[], Any], *, again: Callable[[], Any] | None = None) -> Any:
    """Runs ``function`` with mysqlclient, then on the pool, in a thread of it too, and compares; returns the answer."""
    stock = shop.in_plain_thread(function)
    for native in (run_django, lambda work: sync_to_async(work)()):
        if again is not None:
            shop.in_plain_thread(again)
        async with scope():
            assert await native(function) == stock
    return stock


def empty() -> None:
    asked("DELETE FROM kept WHERE id > 3")
    asked("ALTER TABLE kept AUTO_INCREMENT = 4")


# executemany


MANY = {
    "values": ("INSERT INTO kept (id, name) VALUES (%s, %s)", [(10, "x"), (11, "y")]),
    "duplicate": ("INSERT INTO kept (id, name) VALUES (%s, %s)", [(10, "x"), (1, "y"), (11, "z")]),
    "numbered": ("INSERT INTO kept (name) VALUES (%s)", [("x",), ("y",), ("z",)]),
    "named": ("insert into kept (name, n) value (%(name)s, %(n)s);", [{"name": "%s", "n": 1}, {"name": "'", "n": 2}]),
    "upsert": (
        "INSERT INTO kept (name, n) VALUES (%s, %s) ON DUPLICATE KEY UPDATE n = VALUES(n)",
        [("a", 5), ("x", 1), ("x", 2)],
    ),
    "replace": ("REPLACE INTO kept (id, name) VALUES (%s, %s)", [(1, "a"), (12, "y")]),
    "more than markers": ("INSERT INTO kept (name, n) VALUES (%s, 1)", [("x",), ("a",), ("y",)]),
    "percent": ("INSERT INTO kept (name, n) SELECT '100%%', %s", [(1,)]),
    "update": ("UPDATE kept SET n = %s WHERE id = %s", [(7, 1), (8, 2), (9, 99)]),
    "too few": ("INSERT INTO kept (id, name) VALUES (%s, %s)", [(10, "x"), (11,)]),
    "iterator": ("INSERT INTO kept (id, name) VALUES (%s, %s)", ((number, str(number)) for number in (20, 21))),
    "nothing": ("INSERT INTO kept (id, name) VALUES (%s, %s)", []),
}


@MYSQL
@pytest.mark.parametrize(("statement", "rows"), MANY.values(), ids=[name.replace(" ", "_") for name in MANY])
async def test_executemany_leaves_what_it_leaves_with_mysqlclient(shop: Any, statement: str, rows: Any) -> None:
    rows = list(rows)

    def work() -> Any:
        with connection.cursor() as cursor:
            answer = said(cursor.executemany, statement, iter(rows) if rows else rows)
            found = (cursor.rowcount, cursor.lastrowid) if not isinstance(answer, tuple) else None
        left = asked("SELECT id, name, n FROM kept ORDER BY id")
        return answer, found, left

    def begin() -> None:
        asked("DROP TABLE IF EXISTS kept")
        make_table()

    begin_in = shop.in_plain_thread
    begin_in(begin)
    stock = begin_in(work)
    begin_in(begin)
    async with scope():
        assert await run_django(work) == stock


@MYSQL
async def test_executemany_sends_as_many_statements_as_mysqlclient(shop: Any) -> None:
    shop.in_plain_thread(make_table)

    def work() -> tuple[int, int]:
        before = int(asked("SHOW SESSION STATUS LIKE 'Com_insert'")[0][1])
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO kept (name, n) VALUES (%s, %s)", [(f"é{n}", n) for n in range(9000)])
            rows = cursor.rowcount
        return rows, int(asked("SHOW SESSION STATUS LIKE 'Com_insert'")[0][1]) - before

    with_pool = shop.in_plain_thread
    rows, statements = with_pool(work)
    assert rows == 9000
    assert 1 < statements < 10
    with_pool(empty)
    async with scope():
        assert await run_django(in_one_transaction, work) == (rows, statements)


def in_one_transaction(work: Callable[[], Any]) -> Any:
    with transaction.atomic():  # so that both looks at the counter are at one connection's
        return work()


# Cursors


def cursor_classes() -> list[Any]:
    from MySQLdb import cursors

    class Loud(cursors.DictCursor):
        def fetchall(self) -> Any:
            return [{key.upper(): value for key, value in row.items()} for row in super().fetchall()]

    return [None, cursors.Cursor, cursors.DictCursor, cursors.SSCursor, cursors.SSDictCursor, Loud]


@MYSQL
@pytest.mark.parametrize("number", range(6), ids=["none", "Cursor", "DictCursor", "SSCursor", "SSDictCursor", "own"])
async def test_a_cursor_class_of_mysqlclients_is_honoured(shop: Any, number: int) -> None:
    shop.in_plain_thread(make_table)

    def work() -> Any:
        connection.ensure_connection()
        cls = cursor_classes()[number]
        found: list[Any] = []
        with contextlib.closing(connection.connection.cursor(cls)) as cursor:
            found += [cls is None or isinstance(cursor, cls) or cls.__name__ == "Cursor"]
            found += [
                said(cursor.fetchall),
                cursor.execute("SELECT k.*, k.id, 1 AS id FROM kept k WHERE id < %s", (4,)) is None,
            ]
            found += [
                list(cursor.fetchmany(2)),
                cursor.rownumber,
                cursor.fetchone(),
                cursor.fetchone(),
                list(cursor.fetchall()),
            ]
            found += [[(name, code, null) for name, code, *_, null in cursor.description], cursor.description_flags]
            found += [cursor.execute("INSERT INTO kept (name) VALUES ('x')"), cursor.lastrowid, cursor.fetchall()]
            cursor.executemany("INSERT INTO kept (name) VALUES (%s)", [("y",), ("z",)])
            found += [cursor.rowcount, said(cursor.execute, "SELECT nothing FROM kept")]
            found += [cursor.execute("SELECT CAST('11:12:13' AS TIME) t, NULL n, X'00ff' b"), list(cursor.fetchall())]
            found += [cursor.mogrify("SELECT %s, %s", ["it's", 1]), sum(1 for _ in cursor)]
        found.append(said(cursor.execute, "SELECT 1"))
        with connection.connection.cursor(cls) as cursor:  # left amid its rows
            cursor.execute("SELECT id FROM kept UNION SELECT id + 10 FROM kept")
            cursor.fetchone()
        found.append(asked("SELECT COUNT(*) FROM kept"))
        return found

    def in_transaction() -> Any:
        return in_one_transaction(work)

    await beside(shop, in_transaction, again=empty_and_numbered)


def empty_and_numbered() -> None:
    asked("DROP TABLE kept")
    make_table()


@MYSQL
async def test_a_stream_of_mysqlclients_that_is_left_open_ends_with_its_scope(shop: Any, eventually: Any) -> None:
    from MySQLdb.cursors import SSCursor

    shop.in_plain_thread(make_table)
    kept: list[Any] = []

    def leave() -> None:
        connection.ensure_connection()
        kept.append(connection.connection.cursor(SSCursor))
        kept[0].execute("SELECT id FROM kept")

    async with scope():
        await run_django(leave)
    async with scope():
        assert await run_django(asked, "SELECT COUNT(*) FROM kept") == ((3,),)
    kept.clear()
    gc.collect()
    await eventually(lambda: shop.checked_out() == 0)


@MYSQL
async def test_a_cursor_class_that_is_none_is_refused_by_name(shop: Any) -> None:
    from asyncmy.cursors import DictCursor

    def work() -> None:
        connection.ensure_connection()
        connection.connection.cursor(DictCursor)

    with pytest.raises(Exception, match=r"cursor\(asyncmy.cursors.DictCursor\) does not exist") as raised:
        await run_django(work)
    assert type(raised.value).__name__ == "NotSupportedError"


@MYSQL
async def test_scroll_goes_where_it_goes_with_mysqlclient(shop: Any) -> None:
    def work() -> Any:
        with connection.cursor() as cursor:
            early = said(cursor.scroll, 0)
            cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT 3")
            places = [early, cursor.rownumber, cursor.fetchall(), cursor.rownumber]
            for value, mode in ((-1, "relative"), (0, "absolute"), (3, "absolute"), (-1, "relative"), (0, "sideways")):
                places += [said(cursor.scroll, value, mode), cursor.fetchone(), cursor.rownumber]
            return places

    await beside(shop, work)


@MYSQL
async def test_what_a_procedure_says_is_read_as_with_mysqlclient(shop: Any) -> None:
    shop.in_plain_thread(
        asked, "CREATE PROCEDURE `p``x`(a INT, OUT b INT) BEGIN SELECT a; SELECT a, 2; SET b = a * 2; END"
    )

    def work() -> Any:
        with connection.cursor() as cursor:
            found: list[Any] = [cursor.callproc("p`x", (2, 0))]
            while True:
                found += [cursor.description and [column[0] for column in cursor.description], list(cursor.fetchall())]
                if not cursor.nextset():
                    break
            cursor.execute("SELECT @`_p``x_1`")
            return [*found, cursor.fetchone()]

    await beside(shop, work)


# The connection


METHODS: dict[str, tuple[Any, ...]] = {
    "affected_rows": (), "insert_id": (), "warning_count": (), "field_count": (), "info": (), "errno": (), "error": (),
    "show_warnings": (), "character_set_name": (), "get_server_info": (), "get_proto_info": (), "get_host_info": (),
    "escape_string": ("a'b\\",), "string_literal": (1,), "literal": (["it's", 1, b"\xff'", None, True],),
    "escape": ("it's",), "get_autocommit": (), "more_results": (), "next_result": (),
}  # fmt: skip


@MYSQL
async def test_the_connections_methods_answer_as_mysqlclients(shop: Any) -> None:
    shop.in_plain_thread(make_table)

    def work() -> Any:
        found: dict[str, Any] = {}
        for statement in (
            "INSERT INTO kept (name) VALUES ('x'), ('y')",
            "SELECT 1 FROM kept",
            "SELECT CAST('1x' AS SIGNED)",
        ):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(statement)
                for name, args in METHODS.items():
                    found[f"{name} after {statement}"] = said(getattr(connection.connection, name), *args)
                transaction.set_rollback(True)
        with transaction.atomic():
            asked("SELECT 1")
            for name in ("open", "encoding", "port", "host", "user", "messages"):
                found[name] = getattr(connection.connection, name)
            found["numbers"] = [
                connection.connection.escape(value, connection.connection.encoders) for value in (1, 1.5, True, None)
            ]
            found["select_db"] = connection.connection.select_db(connection.settings_dict["NAME"])
            found["stat"] = connection.connection.stat().split()[0]
        return found

    await beside(shop, work, again=empty_and_numbered)


@MYSQL
async def test_whatever_mysqlclients_connection_has_is_there_or_refuses_by_its_name(shop: Any) -> None:
    from MySQLdb.connections import Connection

    names = [name for name in dir(Connection) if not name.startswith("_")]

    def work() -> None:
        connection.ensure_connection()
        here = type(connection.connection)
        missing = [name for name in names if not hasattr(here, name)]
        assert missing == []
        for name in ("change_user", "shutdown", "set_character_set", "send_query", "fileno", "sqlstate"):
            with pytest.raises(Exception, match=rf"{name}\(\) does not exist on a connection of the pool") as raised:
                getattr(connection.connection, name)()
            assert type(raised.value).__name__ == "NotSupportedError"
        with pytest.raises(Exception, match="converter does not exist"):
            _ = connection.connection.converter

    assert len(names) > 40
    async with scope():
        await run_django(work)


@MYSQL
async def test_an_error_is_of_the_class_that_it_has_with_mysqlclient(shop: Any) -> None:
    import MySQLdb

    shop.in_plain_thread(make_table)
    statements = (
        "SELEC", "SELECT nothing FROM kept", "SELECT 1 FROM no_such", "INSERT INTO kept (id, name) VALUES (1, 'x')",
        "INSERT INTO kept (n) VALUES (1)", "INSERT INTO kept (name) VALUES (NULL)", "CREATE TABLE kept (id INT)",
        "INSERT INTO kept (name) VALUES (REPEAT('x', 10))", "INSERT INTO kept (name, n) VALUES ('x', 'word')",
        "INSERT INTO kept (name, n) VALUES ('x', 1e12)", "CREATE TABLE t (id INT) ENGINE=none",
        "CREATE TABLE t (`a ` INT)", "SELECT SUM(SUM(1))", "SELECT ST_X(1)",
    )  # fmt: skip

    def work() -> Any:
        found: list[Any] = []
        connection.ensure_connection()
        for statement in statements:
            for ask in (connection.cursor, connection.connection.cursor):
                with ask() as cursor, contextlib.suppress(Exception):
                    try:
                        cursor.execute(statement)
                    except Exception as error:
                        drivers = error.__cause__ if isinstance(error, DatabaseError) else error
                        known = [
                            name
                            for name in vars(MySQLdb)
                            if _is_error(name) and isinstance(drivers, getattr(MySQLdb, name))
                        ]
                        found.append((statement, type(error).__name__, known, error.args))
        return found

    assert len(await beside(shop, work)) == 2 * len(statements)


def _is_error(name: str) -> bool:
    return name.endswith("Error")


# Values


@MYSQL
async def test_a_time_that_is_no_time_of_day_is_what_it_is_with_mysqlclient(shop: Any) -> None:
    times = (
        "26:30:00.5",
        "838:59:59",
        "-01:30:00",
        "-00:30:00",
        "-838:59:59",
        "23:59:59.999999",
        "00:00:00",
        "24:00:00",
    )

    def work() -> Any:
        return [said(asked, f"SELECT CAST('{moment}' AS TIME(6)), 1") for moment in times] + [
            said(asked, "SELECT TIMEDIFF('2024-01-03 01:00:00', '2024-01-01 00:00:00')"), asked("SELECT 1")
        ]  # fmt: skip

    found = await beside(shop, work)
    assert found[0][0] == "ValueError"
    assert found[5] == ((datetime.time(23, 59, 59, 999999), 1),)


@MYSQL
async def test_a_column_of_an_unknown_type_is_bytes_through_each_door(shop: Any) -> None:
    from MySQLdb.cursors import DictCursor, SSCursor

    unknown = "STRING_TO_VECTOR('[1, -2.5]')" if shop.family == "mysql" else "POINT(1, -2.5)"  # MariaDB 10 has no other
    sql = f"SELECT 'é' AS a, {unknown} AS v, JSON_ARRAY('é') AS j"

    def work() -> Any:
        connection.ensure_connection()
        found = [asked(sql), asked(sql), asked(sql.replace(unknown, "NULL"))]
        for cls in (DictCursor, SSCursor):
            with connection.connection.cursor(cls) as cursor:
                cursor.execute(sql)
                found += [list(cursor.fetchall()), [column[:2] for column in cursor.description]]
        return found

    stock = await beside(shop, lambda: in_one_transaction(work))
    async with session() as db:
        for _ in range(2):
            assert tuple((await db.execute(text(sql))).one()) == stock[0][0]
        async for row in await db.stream(text(sql)):
            assert row.v == stock[0][0][1]


@MYSQL
@pytest.mark.verify("mysql")
@pytest.mark.parametrize(
    "size", [1 << 24, pytest.param(70 << 20, marks=pytest.mark.verify)], ids=["one_packet_more", "many_packets"]
)
async def test_a_statement_that_is_too_large_is_mysqlclients_error_and_costs_one_connection(
    shop: Any, size: int
) -> None:
    limit = int(shop.in_plain_thread(asked, "SELECT @@max_allowed_packet")[0][0])
    large = "x" * max(size, limit + 100)

    def work() -> Any:
        try:
            asked("SELECT LENGTH(%s)", [large])
        except Exception as error:
            return type(error)

    assert shop.in_plain_thread(work) is OperationalError
    async with scope():
        assert await run_django(work) is OperationalError
        assert await run_django(asked, "SELECT 1") == ((1,),)
    async with session() as db:
        with pytest.raises(Exception, match=r"max_allowed_packet|gone away|Lost connection") as raised:
            await db.execute(text("SELECT LENGTH(:x)"), {"x": large})
        assert type(raised.value).__name__ == "OperationalError"
        await db.rollback()
    async with session() as db:
        assert (await db.execute(text("SELECT 1"))).scalar_one() == 1


@MYSQL
async def test_a_cursor_of_mysqlclients_is_used_from_a_thread_while_threads_switch_at_each_step(shop: Any) -> None:
    from MySQLdb.cursors import DictCursor

    shop.in_plain_thread(make_table)

    def work() -> Any:
        assert threading.current_thread() is not threading.main_thread()
        with transaction.atomic():
            for _ in range(20):
                with connection.connection.cursor(DictCursor) as cursor:
                    cursor.execute("SELECT id FROM kept WHERE id = %s", [2])
                    assert cursor.fetchall() == ({"id": 2},)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        async with scope():
            await sync_to_async(work)()
    finally:
        sys.setswitchinterval(interval)


# PostgreSQL: what the server says


@POSTGRESQL
async def test_notices_and_notifications_are_heard_as_with_psycopg(shop: Any) -> None:
    def work() -> Any:
        heard: list[Any] = []
        with connection.cursor() as cursor:
            mine = connection.connection

            def hear(said: Any) -> None:
                heard.append(getattr(said, "payload", None) or said.message_primary)

            cursor.execute("LISTEN here")
            cursor.execute("NOTIFY here, 'kept'")
            heard += [note.payload for note in mine.notifies(timeout=5, stop_after=1)]
            heard += [note.payload for note in mine.notifies(timeout=0)]
            mine.add_notify_handler(hear)
            mine.add_notice_handler(hear)
            cursor.execute("NOTIFY here, 'handled'")
            cursor.execute("DO $$ BEGIN RAISE NOTICE 'said'; END $$")
            mine.remove_notice_handler(hear)
            mine.remove_notify_handler(hear)
            cursor.execute("DO $$ BEGIN RAISE NOTICE 'unheard'; END $$")
            cursor.execute("UNLISTEN here")
        return heard

    assert await beside(shop, work) == ["kept", "handled", "said"]


@POSTGRESQL
async def test_a_wait_for_notifications_that_ends_without_one_harms_no_transaction(shop: Any) -> None:
    def work() -> Any:
        with transaction.atomic():
            asked("CREATE TABLE waited (id INT)")
            assert list(connection.connection.notifies(timeout=0)) == []
            asked("INSERT INTO waited VALUES (1)")
        return asked("SELECT * FROM waited")

    async with scope():
        assert await run_django(work) == [(1,)]


@POSTGRESQL
async def test_handlers_end_with_the_scope_that_set_them(shop: Any) -> None:
    shop.configure(async_db={"pool_size": 1})
    heard: list[Any] = []
    left: list[Any] = []

    def set_them() -> int:
        mine = connection.connection or (connection.ensure_connection(), connection.connection)[1]
        mine.add_notice_handler(lambda said: heard.append(said.message_primary))
        mine.add_notify_handler(lambda said: heard.append(said.payload))
        asked("DO $$ BEGIN RAISE NOTICE 'first'; END $$")
        return int(asked("SELECT pg_backend_pid()")[0][0])

    def leave_an_iterator() -> None:
        asked("LISTEN here")
        asked("NOTIFY here, 'one'")
        asked("NOTIFY here, 'two'")
        left.append(connection.connection.notifies(timeout=5))
        next(left[0])

    def say() -> tuple[int, list[Any]]:
        asked("DO $$ BEGIN RAISE NOTICE 'second'; END $$")
        asked("LISTEN here")
        asked("NOTIFY here, 'three'")
        left.clear()
        gc.collect()
        asked("SELECT 1")
        found = [note.payload for note in connection.connection.notifies(timeout=5, stop_after=1)]
        return int(asked("SELECT pg_backend_pid()")[0][0]), found

    async with scope():
        backend = await run_django(set_them)
        await run_django(asked, "DO $$ BEGIN RAISE NOTICE 'again'; END $$")
    assert heard == ["first", "again"]
    async with scope():
        await run_django(leave_an_iterator)
    async with scope():
        assert await run_django(say) == (backend, ["three"])
    assert heard == ["first", "again"]
