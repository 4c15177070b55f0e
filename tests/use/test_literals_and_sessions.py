"""A literal, and a session, is what it is with Django's own driver: on each server, and on each connection."""

from __future__ import annotations

import contextlib
import datetime
import enum
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import ProgrammingError, connection, transaction
from django.utils.safestring import mark_safe
from sqlalchemy import LargeBinary, bindparam, insert, literal, select, text
from sqlalchemy import column as column_
from sqlalchemy import table as table_

from asyncdb import ConfigurationError
from asyncdb.drivers.mysql_literals import UnsendableParameter
from django_bridge import run_django, scope, session

MYSQL = pytest.mark.families("mariadb", "mysql")
NASTY = "'\"\\\0\n\r\x1a%s%\x08\t;-- é😀"
OF_ONE_CONNECTION = frozenset({"pseudo_thread_id", "timestamp", "rand_seed1", "rand_seed2", "statement_id"})
"""What names one connection or one moment, and nothing that was set."""
PRAGMAS = (
    "foreign_keys busy_timeout journal_mode synchronous recursive_triggers case_sensitive_like temp_store cache_size "
    "read_uncommitted locking_mode defer_foreign_keys ignore_check_constraints encoding legacy_alter_table"
).split()


def asked(sql: str, args: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchall() if cursor.description else cursor.rowcount


def said(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns, or the class and number of its error."""
    try:
        return function(*args)
    except Exception as error:
        return type(error).__name__, error.args[0] if error.args and isinstance(error.args[0], int) else None


# Sessions


def settings_of_session() -> dict[str, Any]:
    if connection.vendor == "sqlite":
        return {name: asked(f"PRAGMA {name}") for name in PRAGMAS}
    if connection.vendor == "postgresql":
        with transaction.atomic():  # where psycopg says the isolation level, which we keep as the session's default
            found = dict(asked("SELECT name, setting FROM pg_settings"))
        del found["default_transaction_isolation"]
        return found
    return {name: value for name, value in asked("SHOW SESSION VARIABLES") if name not in OF_ONE_CONNECTION}


def leave_something() -> None:
    """Has the connection reset before it is used again."""
    statement = {"mysql": "SET @left = 1", "postgresql": "SET lock_timeout = 77"}.get(connection.vendor)
    asked(statement or "PRAGMA cache_size = 77")


OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "utf8mb3": {"charset": "utf8mb3"},
    "collation": {"collation": "utf8mb4_unicode_ci"},
    "both": {"charset": "utf8", "collation": "utf8mb3_bin"},
    "serializable": {"isolation_level": "serializable"},
    "the_servers_level": {"isolation_level": None},
    "init_command": {"init_command": "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci"},
    "init_commands": {"init_command": "SET sql_mode = 'ANSI'; SET time_zone = '+01:00', autocommit = 0"},
    "sql_mode": {"sql_mode": "NO_BACKSLASH_ESCAPES,ANSI_QUOTES", "init_command": "SET sql_mode = 'ANSI'"},
}


async def same_everywhere(shop: Any) -> None:
    stock = shop.in_plain_thread(settings_of_session)
    assert len(stock) > 10
    async with scope():
        fresh = await run_django(settings_of_session)
        backend = await run_django(lambda: asked(_IDENTITY[connection.vendor]))
        await run_django(leave_something)
    async with scope():
        reset = await run_django(settings_of_session)
        if shop.on_server:
            assert await run_django(lambda: asked(_IDENTITY[connection.vendor])) == backend, "it is another connection"
    assert _difference(stock, fresh) == {}, "stock and fresh"
    assert _difference(stock, reset) == {}, "stock and reset"


_IDENTITY = {"mysql": "SELECT CONNECTION_ID()", "postgresql": "SELECT pg_backend_pid()", "sqlite": "SELECT 1"}


def _difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {name: (one.get(name), other.get(name)) for name in {*one, *other} if one.get(name) != other.get(name)}


@MYSQL
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
async def test_a_session_of_mysql_is_the_same_stock_fresh_and_reset(shop: Any, options: dict[str, Any]) -> None:
    shop.configure(OPTIONS=options, async_db={"pool_size": 1})
    await same_everywhere(shop)


@pytest.mark.families("postgresql")
@pytest.mark.parametrize(
    "options",
    [{}, {"isolation_level": 4}, {"options": "-c statement_timeout=54321", "client_encoding": "UTF8"}],
    ids=["nothing", "serializable", "options"],
)
async def test_a_session_of_postgresql_is_the_same_stock_fresh_and_reset(shop: Any, options: dict[str, Any]) -> None:
    shop.configure(OPTIONS=options, async_db={"pool_size": 1})
    await same_everywhere(shop)


@pytest.mark.families("sqlite")
@pytest.mark.parametrize(
    "options", [{}, {"timeout": 7, "init_command": "PRAGMA synchronous = 1"}], ids=["nothing", "init"]
)
async def test_a_session_of_sqlite_is_the_same_stock_fresh_and_reset(shop: Any, options: dict[str, Any]) -> None:
    shop.configure(OPTIONS=options, async_db={"pool_size": 1})
    await same_everywhere(shop)


@MYSQL
async def test_a_character_set_in_which_a_quote_may_hide_is_refused_also_where_it_would_be_replaced(shop: Any) -> None:
    shop.configure(OPTIONS={"init_command": "SET NAMES gbk"})
    with pytest.raises(ConfigurationError, match="gbk"):
        await run_django(asked, "SELECT 1")


# Literals


class Word(str):
    __slots__ = ()


class Number(int):
    pass


class Letters(str, enum.Enum):  # noqa: UP042  (StrEnum says its value)
    A = "a"


class Digits(enum.IntEnum):
    ONE = 1


VALUES: dict[str, Any] = {
    "none": None, "true": True, "int": -(1 << 63), "float": 0.1 + 0.2, "large float": 1e22, "decimal": Decimal("1E-7"),
    "str": "1", "nasty": NASTY, "empty": "", "safe": mark_safe("<b>'"), "word": Word("it's"), "number": Number(7),
    "letters": Letters.A, "digits": Digits.ONE, "bytes": b"1", "text in bytes": NASTY.encode(), "json": b'{"a": [1]}',
    "datetime": datetime.datetime(2024, 2, 29, 1, 2, 3, 4), "second": datetime.datetime(1, 1, 1),  # noqa: DTZ001
    "date": datetime.date(2024, 2, 29), "time": datetime.time(1, 2, 3), "fraction": datetime.time(1, 2, 3, 40),
    "timedelta": datetime.timedelta(days=1, hours=2, microseconds=5), "negative": -datetime.timedelta(hours=2),
    "uuid": uuid.UUID(int=5), "set": {"b"}, "dict": {"a": 1}, "list of one": ["x'"],
}  # fmt: skip
QUESTIONS = (
    "SELECT %s", "SELECT %s + 0", "SELECT CHARSET(%s)", "SELECT COLLATION(%s)", "SELECT COERCIBILITY(%s)",
    "SELECT HEX(%s)", "SELECT UPPER(%s)", "SELECT CONCAT(%s, 'é')", "SELECT CAST(%s AS SIGNED)",
    "SELECT _binary %s", "SELECT JSON_VALID(%s)", "SELECT id FROM asked WHERE id = %s", "SELECT id FROM asked LIMIT %s",
    "SELECT id FROM asked WHERE name = %s", "SELECT id FROM asked WHERE name LIKE %s", "SELECT 1 IN (1, %s)",
)  # fmt: skip


def make_table() -> None:
    asked("CREATE TABLE asked (id INT PRIMARY KEY, name VARCHAR(40), j JSON, b LONGBLOB)")
    asked("INSERT INTO asked (id, name) VALUES (1, 'Momo'), (49, 'wrong'), (12597, 'wrong')")


def all_answers() -> dict[str, Any]:
    return {f"{name}: {sql}": said(asked, sql, [value]) for name, value in VALUES.items() for sql in QUESTIONS}


@MYSQL
@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT"], ids=["escapes", "none"])
async def test_every_literal_gives_mysqlclients_answer(shop: Any, mode: str) -> None:
    shop.configure(OPTIONS={"sql_mode": mode} if mode else {})
    shop.in_plain_thread(make_table)
    stock = shop.in_plain_thread(all_answers)
    assert len({str(answer) for answer in stock.values()}) > 50, "the questions tell nothing apart"
    async with scope():
        assert _difference(stock, await run_django(all_answers)) == {}


def writes() -> Any:
    """What statements with bytes change, and what is there afterwards."""
    changed = [
        said(asked, sql, [value])
        for sql, value in (
            ("UPDATE asked SET name = 'found' WHERE id = %s", b"1"),
            ("UPDATE asked SET j = %s WHERE id = 1", b'{"a": 1}'),
            ("UPDATE asked SET b = %s WHERE id = 1", bytes(range(256))),
            ("UPDATE asked SET b = _binary %s WHERE id = 49", bytes(range(256))),
            ("UPDATE asked SET name = %s WHERE id = 1", b"\xff"),
            ("DELETE FROM asked WHERE id = %s", b"15"),
            ("DELETE FROM asked WHERE id = %s", b"12597"),
        )
    ]
    return changed, asked("SELECT id, name, j, b FROM asked ORDER BY id")


@MYSQL
async def test_bytes_write_what_they_write_with_mysqlclient(shop: Any) -> None:
    shop.in_plain_thread(make_table)
    stock = shop.in_plain_thread(writes)
    assert [row[0] for row in stock[1]] == [1, 49]
    shop.in_plain_thread(asked, "DROP TABLE asked")
    shop.in_plain_thread(make_table)
    async with scope():
        assert await run_django(writes) == stock


ASKED = table_("asked", column_("id"), column_("b", LargeBinary()), column_("j"))


@MYSQL
async def test_bytes_of_a_session_are_the_text_that_they_spell(shop: Any) -> None:
    shop.in_plain_thread(make_table)
    async with session() as db:
        found = await db.execute(text("SELECT id FROM asked WHERE id = :i"), {"i": b"1"})
        assert found.scalars().all() == [1]
        await db.execute(text("UPDATE asked SET j = :j WHERE id = 1"), {"j": b'{"a": 1}'})
        await db.execute(text("DELETE FROM asked WHERE id = :i"), {"i": b"49"})
        assert (await db.execute(text("SELECT UPPER(:a)"), {"a": b"a"})).scalar_one() == "A"
        assert (await db.execute(text("SELECT LENGTH(:a), :a"), {"a": b"\xff'\\"})).one() == (3, b"\xff'\\")
        await db.commit()
    assert shop.in_plain_thread(asked, "SELECT id, JSON_EXTRACT(j, '$.a') FROM asked WHERE id < 50") == ((1, "1"),)


@MYSQL
async def test_bytes_of_which_a_type_says_so_come_back_as_bytes(shop: Any) -> None:
    shop.in_plain_thread(make_table)
    every = bytes(range(256))
    async with session() as db:
        assert (await db.execute(select(literal(b"text")))).scalar_one() == b"text"
        asked_for = text("SELECT :v").bindparams(bindparam("v", type_=LargeBinary()))
        assert (await db.execute(asked_for, {"v": every})).scalar_one() == every
        await db.execute(insert(ASKED), [{"id": 2, "b": every}, {"id": 3, "b": b"text"}])
        kept = await db.execute(select(ASKED.c.b).where(ASKED.c.b.in_([every, b"text"])).order_by(ASKED.c.id))
        assert kept.scalars().all() == [every, b"text"]
        await db.rollback()


@MYSQL
@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        Decimal("Infinity"),
        datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        datetime.time(1, tzinfo=datetime.UTC),
        "\udc80",
    ],
    ids=["nan", "infinity", "aware", "aware_time", "surrogate"],
)
async def test_what_mysql_would_keep_as_something_else_is_refused_by_name(shop: Any, value: Any) -> None:
    async with scope():
        with pytest.raises(ProgrammingError) as raised:
            await run_django(asked, "SELECT %s", [value])
        assert isinstance(raised.value.__cause__, UnsendableParameter)
        assert "2024" not in str(raised.value)
        assert await run_django(asked, "SELECT 1") == ((1,),)


@MYSQL
async def test_a_buffer_is_what_it_holds(shop: Any) -> None:
    """Mysqlclient writes their ``repr()``, which nobody wants."""
    async with scope():
        for value in (bytearray(b"it's"), memoryview(b"it's")):
            assert await run_django(asked, "SELECT %s, LENGTH(_binary %s)", [value, value]) == (("it's", 4),)


# How strings are read


EVIL = "\\' OR 1=1 -- "


def quoted_in_each_way() -> Any:
    return asked("SELECT %s, %s", [EVIL, EVIL.encode()]), asked("SELECT COUNT(*) FROM asked WHERE name = %s", [EVIL])


@MYSQL
@pytest.mark.parametrize("before", ["", "NO_BACKSLASH_ESCAPES"], ids=["escapes", "none"])
async def test_a_routine_that_sets_sql_mode_lets_no_literal_end_early(shop: Any, before: str) -> None:
    shop.in_plain_thread(make_table)
    other = "" if before else "NO_BACKSLASH_ESCAPES"
    shop.in_plain_thread(asked, f"CREATE PROCEDURE sets() BEGIN SET SESSION sql_mode = '{other}'; END")
    shop.in_plain_thread(
        asked, f"CREATE FUNCTION says() RETURNS INT NO SQL BEGIN SET SESSION sql_mode = '{other}'; RETURN 1; END"
    )

    def work() -> None:
        asked(f"SET SESSION sql_mode = '{before}'")
        for statement in ("CALL sets()", "SELECT says()", f"SET SESSION sql_mode = '{before}'", "SELECT says()"):
            with contextlib.closing(connection.cursor()) as cursor:
                cursor.execute(statement)
            assert quoted_in_each_way() == (((EVIL, EVIL),), ((0,),)), statement
        with pytest.raises(Exception, match="no_such"):
            asked(f"SET SESSION sql_mode = '{other}', SESSION no_such = 1")
        assert quoted_in_each_way() == (((EVIL, EVIL),), ((0,),))

    async with scope():
        await run_django(work)
    async with session() as db:
        await db.execute(text(f"SET SESSION sql_mode = '{before}'"))
        for statement in ("CALL sets()", "SELECT says()"):
            await db.execute(text(statement))
            assert (await db.execute(text("SELECT :v, :b"), {"v": EVIL, "b": EVIL.encode()})).one() == (EVIL, EVIL)
        await db.commit()
