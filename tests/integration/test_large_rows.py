"""Values of 16 MiB, where MySQL's packets end and asyncmy 0.2.18 takes a row for the end of the rows."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from asyncdb import Database, DatabaseConfig
from asyncdb.drivers import mysql
from asyncdb.drivers.asyncmy_login import GuardedLogin
from asyncdb.drivers.asyncmy_wire import Reply, SafeConnection
from asyncdb.testing import MariaDBServer

MiB = 1 << 20
SIZES = [16 * MiB - 1, 16 * MiB, 16 * MiB + 1]
pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture(scope="module")
def roomy(request: pytest.FixtureRequest) -> Iterator[MariaDBServer]:
    """A MariaDB that takes packets of 64 MiB."""
    request.getfixturevalue("mariadb")
    with MariaDBServer(options={"max_allowed_packet": "64M"}) as server:
        server.create_database("large")
        server.execute("CREATE TABLE large.t (id INT PRIMARY KEY, a LONGBLOB, b LONGBLOB, c LONGBLOB)")
        yield server


@asynccontextmanager
async def opened(server: MariaDBServer, **options: Any) -> AsyncIterator[Database]:
    database = Database(DatabaseConfig.from_url(server.url("large"), **options))
    try:
        yield database
        assert database.stats().checked_out == 0
    finally:
        await database.close()


def three(size: int, position: int) -> str:
    columns = ["'a'", "'b'", "'c'"]
    columns[position] = f"REPEAT('x', {size})"
    return f"SELECT {', '.join(columns)} UNION ALL SELECT 'next', 'row', 'too' UNION ALL SELECT 'and', 'one', 'more'"


def digest(row: Any) -> list[tuple[int, str]]:
    return [(len(value), hashlib.sha256(value).hexdigest()) for value in row]


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("size", SIZES)
async def test_a_value_of_16_mib_and_the_rows_after_it_arrive(roomy: MariaDBServer, size: int, position: int) -> None:
    async with opened(roomy) as database:
        rows = await database.fetch_all(text(three(size, position)))
        assert [len(value) for value in rows[0]] == [size if place == position else 1 for place in range(3)]
        assert rows[0][position] == "x" * size
        assert [tuple(row) for row in rows[1:]] == [("next", "row", "too"), ("and", "one", "more")]
        assert await database.fetch_val(text("SELECT 'whole'")) == "whole"


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("size", SIZES)
async def test_bytes_of_16_mib_come_back_as_they_were_sent(roomy: MariaDBServer, size: int, position: int) -> None:
    columns = [b"a", b"b", b"c"]
    columns[position] = random.Random(size).randbytes(size)
    async with opened(roomy) as database:
        await database.execute(text("REPLACE INTO t VALUES (1, :a, :b, :c)"), dict(zip("abc", columns, strict=True)))
        [row] = await database.fetch_all(text("SELECT a, b, c FROM t"))
        assert digest(row) == digest(columns)


async def test_a_stream_brings_them_too(roomy: MariaDBServer) -> None:
    async with opened(roomy) as database:
        sizes = [[len(value) for value in row] async for row in database.stream(text(three(16 * MiB, 0)), batch=1)]
        assert sizes == [[16 * MiB, 1, 1], [4, 3, 3], [3, 3, 4]]


@pytest.mark.parametrize("size", SIZES)
async def test_without_the_cure_they_vanish(roomy: MariaDBServer, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: asyncmy as it is loses the row and all that follow, and says nothing."""
    asyncmys: Any = GuardedLogin.__mro__[1]
    monkeypatch.setattr(GuardedLogin, "_get_server_information", asyncmys._get_server_information)
    monkeypatch.setattr(Reply, "_check_packet_is_eof", Reply.__mro__[1]._check_packet_is_eof)  # type: ignore[attr-defined]
    lost = await _rows_of(roomy, three(size, 0))
    assert lost == (3 if size < 16 * MiB else 0)
    assert await _rows_of(roomy, three(size, 2)) == 3  # only in the first column a value looks like the end
    monkeypatch.undo()
    assert await _rows_of(roomy, three(size, 0)) == 3


async def _rows_of(server: MariaDBServer, sql: str) -> int:
    raw = SafeConnection(
        host=server.host, port=server.port, user=server.user, password=server.password, autocommit=None
    )
    await raw.connect()
    try:
        await raw.query(sql)
        return len(raw._result.rows)
    finally:
        raw.close()


async def test_a_reply_over_max_reply_bytes_ends_the_connection_by_name(roomy: MariaDBServer) -> None:
    async with opened(roomy, max_reply_bytes=8 * MiB) as database:
        assert len(await database.fetch_val(text(f"SELECT REPEAT('x', {7 * MiB})"))) == 7 * MiB
        with pytest.raises(Exception, match="max_reply_bytes") as caught:
            await database.fetch_val(text(f"SELECT REPEAT('x', {9 * MiB})"))
        assert caught.value.connection_invalidated  # type: ignore[attr-defined]
        many = text(f"SELECT REPEAT('y', {MiB}) FROM seq_1_to_20")
        with pytest.raises(Exception, match="max_reply_bytes"):
            await database.fetch_all(many)
        assert sum([len(row[0]) async for row in database.stream(many, batch=1)]) == 20 * MiB
        assert await database.fetch_val(text("SELECT 'whole'")) == "whole"


@pytest.mark.parametrize("cure", [True, False])
async def test_a_stream_whose_reader_is_slow_waits_on_the_server(
    roomy: MariaDBServer, cure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncmy would take all of it into memory meanwhile, and max_reply_bytes would end it."""
    if not cure:
        monkeypatch.setattr(mysql.Connection, "let_stream_wait", lambda _: None)
    sizes = []

    async def read(database: Database) -> None:
        async with database.stream(text(f"SELECT REPEAT('y', {MiB}) FROM seq_1_to_40"), batch=1) as rows:
            async for row in rows:
                if len(sizes) < 2:
                    assert await database.fetch_val(text("SELECT SLEEP(0.5)")) == 0  # on another connection
                sizes.append(len(row[0]))

    async with opened(roomy, max_reply_bytes=4 * MiB) as database:
        if cure:
            await read(database)
            assert sizes == [MiB] * 40
        else:
            with pytest.raises(OperationalError, match="max_reply_bytes"):
                await read(database)


async def test_the_binary_protocol_is_not_used(roomy: MariaDBServer) -> None:
    async with opened(roomy) as database, database.session() as db:
        raw: Any = (await (await db.connection()).get_raw_connection()).driver_connection
        assert isinstance(raw, SafeConnection)
        assert raw._stmt_cache_size == 0
