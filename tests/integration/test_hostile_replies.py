"""A server whose replies are wrong, endless, or ask for files: an error, no more of it, the next answer right."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncmy
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from asyncdb import ConnectFailed, Database, DatabaseConfig
from asyncdb.drivers.asyncmy_wire import Reply, SafeConnection
from asyncdb.drivers.mysql_errors import ends_connection
from asyncdb.testing import DatabaseServer, HostileMySQLServer, Peer, Proxy
from tests.tables import Book, create_tables

pytestmark = pytest.mark.faults
MiB = 1 << 20
BREAK = "SELECT 'break'"
Eventually = Callable[..., Awaitable[None]]


@asynccontextmanager
async def opened(server: HostileMySQLServer, **options: Any) -> AsyncIterator[Database]:
    database = Database(DatabaseConfig.from_url(server.url(), **{"connect_timeout": 5.0, "pool_size": 2, **options}))
    try:
        assert await database.fetch_val(text("SELECT 1")) == 1
        yield database
        for token in range(100, 106):
            assert await database.fetch_val(text(f"SELECT {token}")) == token, "an answer to another question"
        assert database.stats().checked_out == 0
    finally:
        await database.close()


def once(say: Callable[[Peer], object]) -> Callable[[Peer, str], object]:
    """A script that answers ``BREAK`` by ``say`` and everything else politely."""
    return lambda peer, sql: say(peer) if sql == BREAK else False


def a_packet_out_of_order(peer: Peer) -> None:
    peer.say(b"\x01", sequence=7)


def text_that_is_no_utf8(peer: Peer) -> None:
    peer.rows(["x"], [[b"\xff\xfe"]])


def a_name_that_is_no_utf8(peer: Peer) -> None:
    peer.say(b"\x01")
    peer.say(b"\x03def\x00\x00\x00\x02\xff\xfe\x00\x0c" + struct.pack("<HIBHB", 45, 1024, 253, 0, 0) + b"\x00\x00")
    peer.end()
    peer.end()


def a_row_cut_short(peer: Peer) -> None:
    peer.columns(["x"])
    peer.say(b"\x05ab")
    peer.end()


def a_row_that_lies_about_its_length(peer: Peer) -> None:
    peer.columns(["x"])
    peer.say(b"\xfe" + (2**63 - 1).to_bytes(8, "little") + b"ab")
    peer.end()


def a_row_of_negative_length(peer: Peer) -> None:
    peer.columns(["x"])
    peer.say(b"\xfe" + (2**64 - 5).to_bytes(8, "little") + b"ab")
    peer.end()


def a_column_that_lies_about_its_length(peer: Peer) -> None:
    peer.say(b"\x01")
    peer.say(b"\x03def\x00\x00\x00\xfe" + (1 << 40).to_bytes(8, "little") + b"x" * 30)
    peer.end()


def a_column_cut_short(peer: Peer) -> None:
    peer.say(b"\x01")
    peer.say(b"\x03def\x00\x00\x00\xfa")
    peer.end()


def more_columns_than_there_are(peer: Peer) -> None:
    peer.say(b"\x04")
    peer.end()
    peer.end()


def no_end_of_the_columns(peer: Peer) -> None:
    peer.say(b"\x01")
    peer.say(b"\x03def\x00\x00\x00\x01x\x00\x0c" + struct.pack("<HIBHB", 45, 1024, 253, 0, 0) + b"\x00\x00")
    peer.say(b"\x01a")
    peer.end()


def an_empty_packet(peer: Peer) -> None:
    peer.say(b"")


def half_a_packet_and_goodbye(peer: Peer) -> None:
    peer.say_raw(b"\x20\x00\x00\x01abc")
    peer.socket.close()


def an_error_of_no_known_number(peer: Peer) -> None:
    peer.error(7, "what?")


def an_error_cut_short(peer: Peer) -> None:
    peer.say(b"\xff")


WRONG = [
    a_packet_out_of_order, text_that_is_no_utf8, a_name_that_is_no_utf8, a_row_cut_short,
    a_row_that_lies_about_its_length, a_row_of_negative_length, a_column_that_lies_about_its_length,
    a_column_cut_short, more_columns_than_there_are, no_end_of_the_columns, an_empty_packet, half_a_packet_and_goodbye,
    an_error_of_no_known_number, an_error_cut_short,
]  # fmt: skip


@pytest.mark.parametrize("say", WRONG, ids=lambda f: f.__name__)
@pytest.mark.parametrize("door", ["fetch", "stream", "raw"])
async def test_a_reply_that_cannot_be_read_ends_its_connection(say: Callable[[Peer], object], door: str) -> None:
    with HostileMySQLServer(once(say)) as server:
        async with opened(server, connect_timeout=2.0, read_timeout=2.0) as database:
            with pytest.raises(Exception) as caught:
                await {"fetch": _fetch, "stream": _stream, "raw": _raw}[door](database)
            assert not isinstance(caught.value, AssertionError) or "Protocol error" in str(caught.value)
            assert await database.fetch_val(text("SELECT 2")) == 2
            assert BREAK not in server.peers[-1].statements
        assert [peer.statements.count(BREAK) for peer in server.peers if BREAK in peer.statements] == [1]


async def _fetch(database: Database) -> None:
    await database.fetch_val(text(BREAK))


async def _stream(database: Database) -> None:
    async for _ in database.stream(text(BREAK)):
        pass


async def _raw(database: Database) -> None:
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql(BREAK)


@pytest.mark.parametrize("say", [a_packet_out_of_order, text_that_is_no_utf8], ids=lambda f: f.__name__)
async def test_the_driver_and_sqlalchemy_would_go_on_with_such_a_connection(say: Callable[[Peer], object]) -> None:
    """The control: asyncmy keeps it open, and SQLAlchemy sees no disconnect."""
    with HostileMySQLServer(once(say)) as server:
        raw = await asyncmy.connect(host=server.host, port=server.port, user=server.user, password=server.password)
        with pytest.raises((asyncmy.errors.InternalError, UnicodeDecodeError)) as caught:
            await raw.query(BREAK)
        assert raw.connected
        assert not raw._stream_broken
        dialect: Any = MySQLDialect_asyncmy(dbapi=MySQLDialect_asyncmy.import_dbapi())  # type: ignore[no-untyped-call]
        if isinstance(caught.value, asyncmy.errors.Error):
            assert not dialect.is_disconnect(caught.value, None, None)
        assert ends_connection(caught.value)
        raw.close()


def twice(peer: Peer) -> None:
    peer.rows(["x"], [["break"]])
    peer.sequence = 1
    peer.rows(["x"], [["stray"]])


async def test_an_answer_too_many_is_never_the_answer_to_the_next_question() -> None:
    with HostileMySQLServer(once(twice)) as server:
        async with opened(server, pool_size=1) as database:
            with contextlib.suppress(OperationalError):  # its COMMIT, which is not sent
                await database.fetch_val(text(BREAK))
            assert await database.fetch_val(text("SELECT 2")) == 2
        assert len(server.peers) == 2


@pytest.mark.parametrize("cure", [True, False])
async def test_a_stray_answer_within_a_session_is_an_error_and_never_an_answer(
    cure: bool, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    with HostileMySQLServer(once(twice)) as server:
        database = Database(DatabaseConfig.from_url(server.url(), pool_size=1))
        try:
            async with database.session() as db:
                assert await db.fetch_val(text(BREAK)) == "break"
                raw: Any = (await (await db.connection()).get_raw_connection()).driver_connection
                await eventually(lambda: raw._proto.length - raw._proto.pos > 20)
                if cure:
                    with pytest.raises(OperationalError, match="spoke unasked; the statement was not sent"):
                        await db.fetch_val(text("SELECT 2"))
                else:
                    monkeypatch.setattr(SafeConnection, "spoke_unasked", property(lambda _: False))
                    assert await db.fetch_val(text("SELECT 2")) == "stray"
            assert "SELECT 2" not in server.statements or not cure
        finally:
            await database.close()


# Files


@pytest.mark.parametrize("path", [b"/etc/passwd", b"/proc/self/environ", b""])
async def test_a_server_that_asks_for_a_file_gets_none(path: bytes) -> None:
    heard: list[bytes] = []

    def ask(peer: Peer) -> None:
        peer.say(b"\xfb" + path)
        heard.append(peer.hear())

    with HostileMySQLServer(once(ask)) as server:
        async with opened(server) as database:
            with pytest.raises(OperationalError, match=r"asks for a file .*refused") as caught:
                await database.fetch_val(text(BREAK))
            assert caught.value.connection_invalidated
        assert heard == []
        assert b"root:" not in server.received


async def test_asyncmys_own_refusal_is_no_error_of_the_db_api() -> None:
    """The control."""
    with HostileMySQLServer(once(lambda peer: peer.say(b"\xfb/etc/passwd"))) as server:
        raw = await asyncmy.connect(host=server.host, port=server.port, user=server.user, password=server.password)
        with pytest.raises(RuntimeError, match="LOAD_LOCAL"):
            await raw.query(BREAK)
        raw.close()


@pytest.mark.families("mariadb", "mysql")
async def test_load_data_local_is_an_error_of_the_db_api(database: Database, server: DatabaseServer) -> None:
    await database.execute(text("CREATE TABLE t (line TEXT)"))
    with pytest.raises(DBAPIError):
        await database.execute(text("LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t"))
    assert await database.fetch_val(text("SELECT count(*) FROM t")) == 0


# Warnings


def warns(peer: Peer, sql: str) -> object:
    if sql.startswith("INSERT"):
        return peer.ok(warnings=3)
    return peer.rows(["x"], [["break"]], warnings=3) if sql == BREAK else False


async def test_nobody_is_asked_for_warnings() -> None:
    with HostileMySQLServer(warns) as server:
        async with opened(server) as database:
            assert await database.fetch_val(text(BREAK)) == "break"
            assert [row[0] async for row in database.stream(text(BREAK))] == ["break"]
            await database.execute(insert(Book.__table__).values(id=1, title="t"))
            await database.execute(insert(Book.__table__), [{"id": 1, "title": "t"}, {"id": 2, "title": "u"}])
        assert [sql for sql in server.statements if "WARNINGS" in sql.upper()] == []
        raw = await asyncmy.connect(host=server.host, port=server.port, user=server.user, password=server.password)
        async with raw.cursor() as cursor:
            await cursor.execute(BREAK)
        raw.close()
        assert "SHOW WARNINGS" in server.statements, "the control: asyncmy asks"


@pytest.mark.families("mariadb", "mysql")
async def test_a_statement_that_warns_costs_one_round_trip(proxied_books: tuple[Database, Proxy]) -> None:
    database, proxy = proxied_books
    await create_tables(database.engine)
    proxy.reset()
    assert await database.fetch_val(select(text("CAST('12x' AS SIGNED)"))) == 12
    trips = proxy.round_trips
    proxy.reset()
    assert await database.fetch_val(select(text("CAST('12' AS SIGNED)"))) == 12
    assert trips == proxy.round_trips


# Several statements


@pytest.mark.families("mariadb", "mysql")
async def test_a_second_statement_is_an_error_and_does_not_run(server_url: str) -> None:
    config = DatabaseConfig.from_url(server_url, init_command="SET @a = 1; SET @b = 2")
    database = Database(config)
    try:
        await database.execute(text("CREATE TABLE t (id INT)"))
        with pytest.raises(ProgrammingError):
            await database.execute(text("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)"))
        assert await database.fetch_val(text("SELECT count(*) FROM t")) == 0
        assert await database.fetch_val(text("SELECT @a + @b")) == 3, "an init_command may be several"
    finally:
        await database.close()


# Memory


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def endless_rows(peer: Peer) -> None:
    peer.columns(["x"])
    row = b"\xfd" + (64 * 1024).to_bytes(3, "little") + b"x" * 64 * 1024
    for _ in range(10_000):
        peer.say(row)


def an_endless_row(peer: Peer) -> None:
    peer.columns(["x"])
    for number in count(peer.sequence):
        peer.say_raw(b"\xff\xff\xff" + bytes([number & 0xFF]) + b"\xfe" * 0xFFFFFF)


def endless_columns(peer: Peer) -> None:
    peer.say(b"\xfe" + (1 << 30).to_bytes(8, "little"))
    column = b"\x03def\x00\x00\x00\x01x\x00\x0c" + struct.pack("<HIBHB", 45, 1024, 253, 0, 0) + b"\x00\x00"
    for _ in range(1 << 24):
        peer.say(column)


def endless_results(peer: Peer) -> None:
    for _ in range(1 << 24):
        peer.ok(status=2 | 8)  # more results follow


@pytest.mark.parametrize("say", [endless_rows, an_endless_row, endless_columns], ids=lambda f: f.__name__)
@pytest.mark.parametrize("door", ["fetch", "stream", "raw"])
async def test_an_endless_reply_is_cut_off(say: Callable[[Peer], object], door: str) -> None:
    if (say, door) == (endless_rows, "stream"):
        pytest.skip("rows that are read one after another may go on for ever")
    with HostileMySQLServer(once(say)) as server:
        async with opened(server, max_reply_bytes=4 * MiB) as database:
            before = _peak_mib()
            with pytest.raises(Exception, match=r"max_reply_bytes|Lost connection|no reply"):
                await {"fetch": _fetch, "stream": _stream, "raw": _raw}[door](database)
            assert _peak_mib() - before < 200


async def test_a_reply_of_endless_results_is_cut_off() -> None:
    with HostileMySQLServer(once(endless_results)) as server:
        async with opened(server, max_reply_bytes=MiB, read_timeout=10.0) as database:
            with pytest.raises(Exception, match=r"max_reply_bytes|Lost connection|does not return rows"):
                await _fetch(database)


async def test_an_endless_greeting_is_cut_off() -> None:
    def flood(peer: Peer) -> None:
        for number in count(peer.sequence):
            peer.say_raw(b"\xff\xff\xff" + bytes([number & 0xFF]) + b"\x01" * 0xFFFFFF)

    with HostileMySQLServer(login=flood) as server:
        database = Database(DatabaseConfig.from_url(server.url()))
        try:
            before = _peak_mib()
            with pytest.raises(ConnectFailed, match=r"max_reply_bytes|Lost connection"):
                await database.fetch_val(text("SELECT 1"))
            assert _peak_mib() - before < 100
        finally:
            await database.close()


async def test_who_floods_an_idle_connection_is_cut_off(eventually: Eventually) -> None:
    def flood(peer: Peer) -> None:
        peer.rows(["x"], [["break"]])
        for _ in range(1000):
            peer.say_raw(b"\0" * MiB)

    with HostileMySQLServer(once(flood)) as server:
        async with opened(server) as database:
            before = _peak_mib()
            with contextlib.suppress(OperationalError):  # its COMMIT, which is not sent
                await database.fetch_val(text(BREAK))
            [culprit] = [peer for peer in server.peers if BREAK in peer.statements]
            await eventually(lambda: culprit.socket.fileno() == -1)
            assert _peak_mib() - before < 100


async def test_without_the_cure_a_flood_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: 64 MiB arrive whole."""
    from asyncdb.drivers.asyncmy_wire import Meter

    def flood(peer: Peer) -> None:
        peer.columns(["x"])
        for _ in range(64):
            peer.say(b"\xfd" + MiB.to_bytes(3, "little") + b"x" * MiB)
        peer.end()

    monkeypatch.setattr(Meter, "_look_closer", lambda *_: None)
    with HostileMySQLServer(once(flood)) as server:
        async with opened(server, max_reply_bytes=MiB) as database:
            assert len(await database.fetch_all(text(BREAK))) == 64


async def test_without_the_cure_a_columns_length_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a name of 40 bytes in a packet that holds two of them is read beyond its end."""

    async def unchecked(self: Reply) -> None:
        """Leaves it to asyncmy."""

    def lie(peer: Peer) -> None:
        peer.say(b"\x01")
        peer.say(b"\x03def\x00\x00\x00\x28ab")
        peer.end()
        peer.end()

    monkeypatch.setattr(Reply, "_check_descriptions", unchecked)
    with HostileMySQLServer(once(lie)) as server:
        raw = SafeConnection(host=server.host, port=server.port, user=server.user, password=server.password)
        await raw.connect()
        try:
            await raw.query(BREAK)
            assert len(raw._result.description[0][0].encode("utf-8", "replace")) != 2
        except UnicodeDecodeError:
            pass  # the memory behind it was no text
        finally:
            raw.close()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_large_and_endless_replies_on_each_kind_of_loop_and_transport(loop: str, tls: bool, tmp_path: Path) -> None:
    def says(peer: Peer, sql: str) -> object:
        if sql == "SELECT 'large'":
            return peer.rows(["x", "y"], [["x" * 17 * MiB, "y"], ["a", "b"]])
        return endless_rows(peer) if sql == BREAK else False

    async def meet(server: HostileMySQLServer) -> None:
        verified = {"tls": "verify_identity", "tls_ca": server.ca_file} if tls else {}
        async with opened(server, max_reply_bytes=20 * MiB, **verified) as database:
            rows = await database.fetch_all(text("SELECT 'large'"))
            assert [len(value) for row in rows for value in row] == [17 * MiB, 1, 1, 1]
            with pytest.raises(OperationalError, match="max_reply_bytes"):
                await _fetch(database)

    with HostileMySQLServer(says, tls_folder=tmp_path if tls else None) as server:
        factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(meet(server))
