"""Whatever a parameter holds, it comes back as it was or is refused by name, and is never SQL."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import LargeBinary, String, Table, bindparam, column, insert, select, table, text
from sqlalchemy import cast as cast_sql
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from asyncdb import ConfigurationError, Database, DatabaseConfig
from asyncdb.drivers.asyncmy_wire import SafeConnection
from asyncdb.drivers.mysql_literals import BinaryParameter, UnsendableParameter, literal
from asyncdb.testing import DatabaseServer, MariaDBServer

pytestmark = pytest.mark.faults
MYSQL = pytest.mark.families("mariadb", "mysql")
MODES = ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT", "TRADITIONAL"]
NASTY = [
    "'",
    "''",
    "\\",
    "\\'",
    "\\\\'",
    "' OR 1=1 -- ",
    "\\' OR 1=1 -- ",
    '" OR 1=1 -- ',
    "\0",
    "\x1a",
    "%s",
    "%",
    "a\0'b",
]
MIDNIGHT = datetime.datetime(1, 1, 1)  # noqa: DTZ001  (a TIME has no zone)
INVALID_STRING = 1300  # bytes that are no utf8mb4, compared with text
INJECTION = "SELECT count(*) FROM secrets WHERE name = :value"


@asynccontextmanager
async def opened(config: DatabaseConfig) -> AsyncIterator[Database]:
    database = Database(config)
    try:
        yield database
        assert database.stats().checked_out == 0
    finally:
        await database.close()


async def make_secrets(database: Database) -> None:
    await database.execute(
        text("CREATE TABLE secrets (name VARCHAR(50) CHARACTER SET utf8mb4, b LONGBLOB, t LONGTEXT)")
    )
    await database.execute(text("INSERT INTO secrets (name) VALUES ('one'), ('two'), ('three')"))


# Every value, in every mode


class Asked:
    """A database in one sql_mode, on a loop that lives as long as hypothesis asks."""

    def __init__(self, server: MariaDBServer, mode: str, name: str) -> None:
        self.runner = asyncio.Runner()
        self.database = self.runner.run(self._open(server.url(name), mode))

    async def _open(self, url: str, mode: str) -> Database:
        database = Database(DatabaseConfig.from_url(url, session_settings={"sql_mode": mode}, pool_size=1))
        await make_secrets(database)
        return database

    def __call__(self, value: Any) -> Any:
        """The value as the server gives it back: selected, inserted alone, and inserted among many."""
        return self.runner.run(self._ask(value))

    async def _ask(self, value: Any) -> Any:
        database = self.database
        where: Table = table("secrets", column("name"), column("b"), column("t"))  # type: ignore[assignment]
        kind = "b" if isinstance(value, bytes) else "t"
        asked = text("SELECT :value AS v")
        if kind == "b":  # without a type they would be text, as with mysqlclient
            asked = asked.bindparams(bindparam("value", type_=LargeBinary()))
        found = await database.fetch_val(asked, {"value": value})
        try:
            await database.execute(insert(where).values({kind: value}))
            await database.execute(insert(where), [{kind: value}, {kind: value}])
            kept = await database.fetch_all(select(where.c[kind]).where(where.c.name.is_(None)))
            assert [row[0] for row in kept] == [found] * 3
            try:
                assert await database.fetch_val(text(INJECTION), {"value": value}) == 0
            except OperationalError as err:
                if cast("Any", err.orig).args[0] != INVALID_STRING:
                    raise
            assert await database.fetch_val(text("SELECT count(*) FROM secrets")) == 6
        finally:
            await database.execute(text("DELETE FROM secrets WHERE name IS NULL"))
        return found

    @property
    def connects(self) -> int:
        async def count() -> int:
            return self.database.stats().counts.connects

        return self.runner.run(count())

    def close(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()


@pytest.fixture(scope="module", params=MODES, ids=lambda mode: mode or "no mode")
def asked(request: pytest.FixtureRequest, mariadb: MariaDBServer) -> Iterator[Asked]:
    name = f"parameters_{MODES.index(request.param)}"
    mariadb.create_database(name)
    asked = Asked(mariadb, request.param, name)
    yield asked
    asked.close()
    mariadb.drop_database(name)


EASY = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
harmful = st.lists(st.sampled_from(NASTY), max_size=6).map("".join)
encodable = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@EASY
@given(value=st.one_of(encodable, harmful))
@example(value="".join(NASTY))
def test_text_comes_back_as_it_was(asked: Asked, value: str) -> None:
    assert asked(value) == value


@EASY
@given(value=st.one_of(st.binary(max_size=60), harmful.map(str.encode)))
@example(value=bytes(range(256)))
@example(value=b"\xbf\x27 OR 1=1 -- ")
def test_bytes_come_back_as_they_were(asked: Asked, value: bytes) -> None:
    assert asked(value) == value


@EASY
@given(value=st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3), before=harmful)
def test_a_lone_surrogate_is_refused_without_a_word_of_it(asked: Asked, value: str, before: str) -> None:
    connects = asked.connects
    with pytest.raises(ProgrammingError, match="lone surrogate") as caught:
        asked(before + value)
    assert isinstance(caught.value.orig, UnsendableParameter)
    assert caught.value.orig.__context__ is None
    assert asked.connects == connects, "a connection was dropped that nothing was sent on"


numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20),
)


@settings(EASY, max_examples=40)
@given(value=numbers)
def test_numbers_come_back_as_they_were(asked: Asked, value: Any) -> None:
    async def ask() -> Any:
        return await asked.database.fetch_val(text("SELECT :value + 0"), {"value": value})

    assert decimal.Decimal(asked.runner.run(ask())) == value


@settings(EASY, max_examples=40)
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_comes_back_as_it_was(asked: Asked, value: float) -> None:
    async def ask() -> Any:
        return await asked.database.fetch_val(text("SELECT CAST(:value AS DOUBLE)"), {"value": value})

    assert float(asked.runner.run(ask())) == pytest.approx(value, rel=1e-15, abs=0)


@settings(EASY, max_examples=40)
@given(
    value=st.one_of(st.datetimes(), st.dates(), st.times(), st.timedeltas(*[datetime.timedelta(h) for h in (-34, 34)]))
)
def test_a_moment_comes_back_as_it_was(asked: Asked, value: Any) -> None:
    kind = {datetime.datetime: "DATETIME(6)", datetime.date: "DATE"}.get(type(value), "TIME(6)")

    async def ask() -> Any:
        return await asked.database.fetch_val(text(f"SELECT CAST(:value AS {kind})"), {"value": value})

    found = asked.runner.run(ask())
    assert ((MIDNIGHT + found).time() if type(value) is datetime.time else found) == value


@pytest.mark.parametrize("value", [*NASTY, "Ü🦔" + "".join(NASTY), b"\0'\\\xff", "\udc80", "a\ud800"], ids=ascii)
@pytest.mark.contract
async def test_a_nasty_value_is_the_same_or_an_error_on_every_family(database: Database, value: Any) -> None:
    statement = text("SELECT :value AS v")
    if isinstance(value, str):
        statement = select(cast_sql(bindparam("value"), String(100)).label("v"))
    try:
        found = await database.fetch_val(statement, {"value": value})
    except (DBAPIError, UnicodeEncodeError):
        assert "\0" in value or not value.isascii()
    else:
        assert found == value
    assert await database.fetch_val(select(1)) == 1


# What is refused


class Evil:
    """Its words end the literal they are put in."""

    def __str__(self) -> str:
        return "' OR 1=1 -- s3cr3t"


class EvilWord(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "' OR 1=1 -- "


class Colour(enum.Enum):
    RED = "' OR 1=1 -- "


AWARE = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)


@MYSQL
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (Evil(), r"type 'Evil'"),
        (Colour.RED, r"type 'Colour'"),
        ({"a": "s3cr3t"}, r"type 'dict'"),
        (object(), r"type 'object'"),
        (1j, r"type 'complex'"),
        (["fine", Evil()], r"type 'Evil'"),
        (AWARE, r"aware datetime.*replace\(tzinfo=None\)"),
        (AWARE.timetz(), r"aware time"),
        (float("nan"), r"nan"),
        (float("-inf"), r"inf"),
        (decimal.Decimal("NaN"), r"nan"),
        (decimal.Decimal("sNaN"), r"nan"),
        (decimal.Decimal("Infinity"), r"inf"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,  # the same in each worker
)
async def test_what_has_no_exact_literal_is_refused_by_its_type(database: Database, value: Any, complaint: str) -> None:
    await make_secrets(database)
    before = database.stats().counts.connects
    with pytest.raises(ProgrammingError, match=complaint) as caught:
        await database.fetch_val(text(INJECTION), {"value": value})
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(ProgrammingError, match=complaint):
        await database.execute(text("INSERT INTO secrets (name) VALUES (:v)"), [{"v": "fine"}, {"v": value}])
    assert await database.fetch_val(text("SELECT count(*) FROM secrets")) == 3
    assert database.stats().counts.connects == before, "the connection was whole and is kept"


@MYSQL
async def test_a_subclass_is_sent_as_what_it_is(database: Database) -> None:
    class Whole(enum.IntEnum):
        SEVEN = 7

    asked = {"word": EvilWord("it's"), "number": Whole.SEVEN, "many": bytearray(b"\0'"), "view": memoryview(b"\\'")}
    [row] = await database.fetch_all(text("SELECT :word, :number, :many, :view"), asked)
    assert tuple(row) == ("it's", 7, b"\0'", b"\\'")


# The character set is utf8mb4


@MYSQL
@pytest.mark.parametrize(
    "options",
    [
        {"init_command": "SET NAMES gbk"},
        {"session_settings": {"character_set_client": "big5"}},
        {"init_command": "SET character_set_client = sjis"},
    ],
    ids=str,
)
async def test_a_session_in_another_character_set_is_refused(server_url: str, options: Any) -> None:
    async with opened(DatabaseConfig.from_url(server_url, **options)) as database:
        with pytest.raises(ConfigurationError, match=r"(gbk|big5|sjis).*utf8mb4"):
            await database.fetch_val(select(1))


# What the server says of its session is believed at once


async def _raw(server: DatabaseServer, name: str, **arguments: Any) -> SafeConnection:
    raw = SafeConnection(
        host=server.host, port=server.port, user=server.user, password=server.password, database=name,
        autocommit=True, **arguments,
    )  # fmt: skip
    await raw.connect()
    return raw


@MYSQL
async def test_quoting_follows_the_sessions_mode_at_once(server: DatabaseServer, database_name: str) -> None:
    raw = await _raw(server, database_name)
    try:
        for mode in ("NO_BACKSLASH_ESCAPES", "", "NO_BACKSLASH_ESCAPES"):
            # With autocommit off every bit of the status may be 0, which asyncmy takes for no status at all.
            await raw.query(f"SET SESSION autocommit = 0, sql_mode = '{mode}'")
            for word in NASTY:
                await raw.query(f"SELECT {raw.literal(word)}")
                assert raw._result.rows == ((word,),)
    finally:
        raw.close()


@MYSQL
async def test_the_status_after_rows_is_known(server: DatabaseServer, database_name: str) -> None:
    raw = await _raw(server, database_name)
    try:
        await raw.query("CREATE TABLE t (id INT PRIMARY KEY) ENGINE=InnoDB")
        await raw.query("SET SESSION autocommit = 0")
        await raw.query("SELECT * FROM t")
        assert raw.server_status & 1, "MySQL has begun a transaction, and says so behind the rows"
        await raw.query("ROLLBACK")
        await raw.query("SELECT * FROM t", unbuffered=True)
        await raw._result._finish_unbuffered_query()
        assert raw.server_status & 1
    finally:
        raw.close()


# Controls: asyncmy as it is


@pytest.mark.families("mariadb")
@pytest.mark.parametrize("door", ["asyncmy", "ours"])
async def test_bytes_are_sql_to_asyncmy_without_backslash_escapes(
    server_url: str, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    asyncmys: Any = SafeConnection.__mro__[2]
    if door == "asyncmy":
        monkeypatch.setattr(SafeConnection, "literal", asyncmys.literal)
        monkeypatch.setattr(SafeConnection, "escape", asyncmys.escape)
    config = DatabaseConfig.from_url(server_url, session_settings={"sql_mode": "NO_BACKSLASH_ESCAPES"})
    async with opened(config) as database:
        await make_secrets(database)
        for evil in (b"' OR 1=1 -- ", Evil()):
            try:
                found = await database.fetch_val(text(INJECTION), {"value": evil})
            except ProgrammingError as err:
                found = "refused" if isinstance(err.orig, UnsendableParameter) else err
            assert found == (3 if door == "asyncmy" else "refused" if isinstance(evil, Evil) else 0)


def test_the_literals_of_what_cannot_be_written_otherwise() -> None:
    assert literal(True) == "1"
    assert literal(uuid.UUID(int=5)) == "'00000000-0000-0000-0000-000000000005'"
    assert literal(None) == "NULL"
    assert literal(b"") == "''"
    assert literal(b"'\\\0") == "'\\'\\\\\\0'"
    assert literal(b"'\\", plain=True) == "'''\\'"
    for no_text in (b"\xff'", bytearray(b"\xff'"), memoryview(b"\xff'")):
        assert literal(no_text, plain=True) == literal(no_text) == "_binary X'ff27'"
    assert literal(BinaryParameter(b"1")) == "_binary X'31'"
    assert literal("'\\", plain=True) == "'''\\'"
    assert literal("'\\") == "'\\'\\\\'"
    assert literal(-1.5) == "-1.5e0"
    assert literal(1e300) == "1e+300"
    assert literal(decimal.Decimal("1E+3")) == "1000"
    assert literal([1, "a"]) == "(1, 'a')"
    assert literal(datetime.timedelta(hours=-1, microseconds=1)) == "'-00:59:59.999999'"
