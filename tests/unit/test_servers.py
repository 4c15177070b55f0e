"""The private servers start, obey, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import asyncmy
import psycopg
import pytest

from asyncdb.testing import (
    DatabaseServer,
    MariaDBServer,
    MySQLServer,
    PostgreSQLServer,
    PrivateServer,
    RunningMySQLServer,
    ServerFailed,
)
from tests.polling import until

KINDS: dict[str, type[PrivateServer]] = {
    "mariadb": MariaDBServer,
    "mysql": MySQLServer,
    "postgresql": PostgreSQLServer,
}

pytestmark = pytest.mark.families(*KINDS)


@pytest.fixture
def kind(family: str) -> type[PrivateServer]:
    return KINDS[family]


@pytest.fixture
def server(server: DatabaseServer) -> PrivateServer:
    """The run's own server, for tests that do no harm to others."""
    if not isinstance(server, PrivateServer):
        pytest.skip("TEST_MYSQL_URL: the server is not ours")
    return server


@pytest.fixture
def own_server(kind: type[PrivateServer]) -> Iterator[PrivateServer]:
    with kind() as server:
        yield server


async def connect(server: PrivateServer, *, socket: bool = False, **options: Any) -> Any:
    place: dict[str, Any]
    login: dict[str, Any]
    if isinstance(server, PostgreSQLServer):
        place = {"host": server.unix_socket if socket else server.host, "port": server.port}
        login = {"user": server.user, "password": server.password, "dbname": "postgres", "autocommit": True}
        return await psycopg.AsyncConnection.connect(**place | login | options)
    place = {"unix_socket": server.unix_socket} if socket else {"host": server.host, "port": server.port}
    login = {"user": server.user, "password": server.password}
    return await asyncmy.connect(**place | login | options)


async def ask(connection: Any, sql: str) -> Any:
    async with connection.cursor() as cursor:
        await cursor.execute(sql)
        return (await cursor.fetchone())[0]


async def close(connection: Any) -> None:
    await (connection.ensure_closed() if hasattr(connection, "ensure_closed") else connection.close())


def process_is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_clients_come_in_through_tcp_and_through_the_socket(server: PrivateServer) -> None:
    for socket in (False, True):
        connection = await connect(server, socket=socket)
        assert await ask(connection, "SELECT 41 + 1") == 42
        await close(connection)


async def test_a_wrong_password_is_refused(server: PrivateServer) -> None:
    for socket in (False, True):
        with pytest.raises((asyncmy.errors.OperationalError, psycopg.OperationalError)):
            await connect(server, socket=socket, password="wrong")


def test_execute_tells_null_from_its_name_and_returns_all_rows(server: PrivateServer) -> None:
    rows = server.execute("SELECT NULL, 'NULL', '', 'a\tb\nc'; SELECT 1 WHERE 1 = 2; SELECT 2; SELECT 3")
    assert rows == [(None, "NULL", "", "a\tb\nc"), ("2",), ("3",)]


def test_execute_raises_what_the_server_says(server: PrivateServer) -> None:
    with pytest.raises(ServerFailed, match="no_such_table"):
        server.execute("SELECT * FROM no_such_table", database=server.default_database)


def test_execute_gives_up_in_time(server: PrivateServer) -> None:
    sleep = "SELECT pg_sleep(30)" if server.family == "postgresql" else "SELECT SLEEP(30)"
    with pytest.raises(ServerFailed, match=r"no answer within 0\.2 s"):
        server.execute(sleep, timeout=0.2)


async def test_the_user_owns_a_created_database_until_it_is_dropped(server: PrivateServer) -> None:
    server.create_database("owned")
    options: dict[str, Any] = {"dbname" if server.family == "postgresql" else "db": "owned"}
    connection = await connect(server, **options)
    async with connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE book (id int)")
    assert server.execute("SELECT COUNT(*) FROM book", database="owned") == [("0",)]
    server.drop_database("owned")
    with pytest.raises(ServerFailed):
        server.execute("SELECT 1", database="owned")
    await close(connection)


async def test_connections_are_those_of_clients_alone(server: PrivateServer) -> None:
    until(lambda: server.connections() == [], within=10)
    connection = await connect(server)
    mine = "SELECT pg_backend_pid()" if server.family == "postgresql" else "SELECT CONNECTION_ID()"
    number = await ask(connection, mine)
    (seen,) = server.connections()
    assert (seen.id, seen.user) == (number, server.user)
    assert seen.host.startswith("127.0.0.1:")
    assert seen.command in {"Sleep", "idle"}
    await close(connection)
    until(lambda: server.connections() == [], within=10)


async def test_kill_connections_ends_each_and_counts_them(own_server: PrivateServer) -> None:
    server = own_server
    connections = [await connect(server) for _ in range(3)]
    assert server.kill_connections() == 3
    assert server.connections() == []
    for connection in connections:
        with pytest.raises((asyncmy.errors.OperationalError, psycopg.OperationalError)):
            await ask(connection, "SELECT 1")
        await close(connection)
    assert server.kill_connections() == 0


@pytest.mark.parametrize("way", ["restart", "kill", "shutdown"])
def test_data_and_port_outlive(own_server: PrivateServer, way: str) -> None:
    server = own_server
    server.create_database("library")
    server.execute("CREATE TABLE book (id int); INSERT INTO book VALUES (7)", database="library")
    port, pid = server.port, server.pid
    getattr(server, way)()
    assert server.running is (way == "restart")
    server.start()
    assert (server.port, server.running) == (port, True)
    assert server.pid != pid
    assert server.execute("SELECT id FROM book", database="library") == [("7",)]


async def test_a_paused_server_lets_a_query_time_out_and_goes_on_later(own_server: PrivateServer) -> None:
    server = own_server
    connection = await connect(server)
    server.pause()
    try:
        with pytest.raises(ServerFailed, match="no answer within"):
            server.execute("SELECT 1", timeout=0.3)
        query = asyncio.create_task(ask(connection, "SELECT 5"))
        done, _ = await asyncio.wait([query], timeout=0.3)
        assert not done
    finally:
        server.resume()
    assert await asyncio.wait_for(query, 5) == 5
    await close(connection)


def test_stop_ends_the_process_and_removes_the_folder(kind: type[PrivateServer]) -> None:
    server = kind()
    server.start()
    pid, folder = server.pid, server.folder
    assert pid is not None
    assert folder.is_dir()
    server.stop()
    assert not process_is_there(pid)
    assert not folder.exists()
    assert not server.running
    server.stop()
    with pytest.raises(ServerFailed, match="not started"):
        server.execute("SELECT 1")


def test_stop_works_on_a_paused_and_on_a_killed_server(kind: type[PrivateServer]) -> None:
    for trouble in ("pause", "kill"):
        with kind() as server:
            folder = server.folder
            getattr(server, trouble)()
        assert not folder.exists()


@pytest.mark.verify("postgresql")
@pytest.mark.parametrize("end", ["exit", "kill"])
def test_nothing_is_left_when_the_test_process_ends(kind: type[PrivateServer], end: str) -> None:
    script = f"""
        import sys
        from asyncdb.testing import {kind.__name__}
        server = {kind.__name__}()
        server.start()
        print(server.pid, server.folder, flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        assert process_is_there(int(pid))
        if end == "kill":
            process.send_signal(signal.SIGKILL)
        else:
            assert process.stdin is not None
            process.stdin.close()
        process.wait(30)
        until(lambda: not process_is_there(int(pid)) and not Path(folder).exists(), within=10)


@pytest.mark.verify("postgresql")
def test_a_forked_child_does_not_stop_the_server(kind: type[PrivateServer]) -> None:
    code = f"""
        import os, sys
        from asyncdb.testing import {kind.__name__} as Server
        with Server() as server:
            child = os.fork()
            if not child:
                sys.exit(0)  # runs what atexit holds
            os.waitpid(child, 0)
            print(server.execute("SELECT 'alive'"))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == "[('alive',)]\n", done.stderr


def test_a_server_that_does_not_start_says_why(kind: type[PrivateServer]) -> None:
    server = kind(options={"no_such_option_at_all": 1})
    with pytest.raises(ServerFailed, match=r"no.such.option.at.all"):
        server.start()
    assert not server.running
    assert "not started" in repr(server)


def test_a_missing_program_is_named_with_where_it_comes_from(
    kind: type[PrivateServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.delenv("MYSQLD", raising=False)
    remedy = {
        MariaDBServer: "apt-get install mariadb-server",
        MySQLServer: "name one by MYSQLD",
        PostgreSQLServer: "apt-get install postgresql",
    }[kind]
    with pytest.raises(ServerFailed, match=remedy):
        kind().start()


async def test_tls_is_offered_with_a_certificate_that_verifies(kind: type[PrivateServer]) -> None:
    import ssl

    with kind(tls=True) as server:
        if isinstance(server, PostgreSQLServer):
            connection = await connect(server, sslmode="verify-full", sslrootcert=server.ca_file)
            assert await ask(connection, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
        else:
            connection = await connect(server, ssl=ssl.create_default_context(cafile=server.ca_file))
            names = "performance_schema.session_status" if kind is MySQLServer else "information_schema.SESSION_STATUS"
            sql = f"SELECT VARIABLE_VALUE FROM {names} WHERE VARIABLE_NAME = 'Ssl_cipher'"
            assert await ask(connection, sql)
        await close(connection)


async def test_the_password_is_in_the_url_and_in_no_repr(server: PrivateServer) -> None:
    assert server.password in server.url()
    assert server.password not in repr(server)
    assert f":{server.port}/library" in server.url("library")
    assert ":1234/library" in server.url("library", port=1234)
    with pytest.raises(ServerFailed) as caught:
        server.execute("nonsense")
    assert server.password not in str(caught.value)


def test_wait_timeout_is_the_servers_idle_limit(own_mariadb: Callable[..., MariaDBServer]) -> None:
    server = own_mariadb(wait_timeout=2, options={"max-connections": 12})
    assert server.execute("SELECT @@global.wait_timeout, @@global.max_connections") == [("2", "12")]


@pytest.fixture
def administrator(mariadb: MariaDBServer) -> Iterator[str]:
    """The URL of the run's MariaDB for somebody who may make users."""
    mariadb.execute("CREATE USER boss@'%' IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO boss@'%' WITH GRANT OPTION")
    yield f"mysql://boss:secret@{mariadb.host}:{mariadb.port}"
    mariadb.execute("DROP USER boss@'%'")


@pytest.mark.parametrize("own_user", [True, False])
async def test_a_running_server_is_used_by_its_url(mariadb: MariaDBServer, administrator: str, own_user: bool) -> None:
    """It sees its user's connections alone; one that it has made for a block is gone afterwards."""
    server = RunningMySQLServer(administrator)
    with server if own_user else nullcontext():
        assert (server.user != "boss") is own_user
        beside = await connect(mariadb)
        server.create_database("given_by_url")
        try:
            connection = await asyncmy.connect(
                host=server.host, port=server.port, user=server.user, password=server.password, db="given_by_url"
            )
            assert [seen.database for seen in server.connections()] == ["given_by_url"]
            assert server.kill_connections(database="given_by_url") == 1
            await connection.ensure_closed()
        finally:
            server.drop_database("given_by_url")
            await close(beside)
        assert server.password not in repr(server)
    assert (server.user, server.password) == ("boss", "secret")
    assert mariadb.execute("SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'asyncdb\\_%'") == [("0",)]
