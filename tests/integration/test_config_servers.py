"""What a configuration says is what the servers see."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from asyncdb import ConfigurationError, ConnectFailed, Database, DatabaseConfig
from asyncdb.testing import DatabaseServer, MariaDBServer, MySQLServer, PostgreSQLServer, PrivateServer


@asynccontextmanager
async def _opened(config: DatabaseConfig, **options: Any) -> AsyncIterator[Database]:
    database = Database(config, **options)
    try:
        yield database
    finally:
        await database.close()


async def _on_each_connection(database: Database, sql: str, *, connections: int = 3) -> list[Any]:
    values = []
    async with asyncio_stack() as stack:
        for _ in range(connections):
            session = await stack.enter_async_context(database.session())
            values.append(await session.fetch_val(text(sql)))
    return values


def asyncio_stack() -> Any:
    from contextlib import AsyncExitStack

    return AsyncExitStack()


# Driver options


@pytest.mark.parametrize("name", ["no_such_option", "local_infile", "autocommit", "cursor_factory", "password"])
async def test_a_driver_option_that_cannot_be_honoured_is_refused_by_name(server_url: str, name: str) -> None:
    config = DatabaseConfig.from_url(server_url, alias="reports", driver_options={name: "x"})
    async with _opened(config) as database:
        with pytest.raises(ConfigurationError, match=rf"'reports'.*{name}"):
            await database.fetch_val(select(1))


@pytest.mark.families("mariadb", "mysql")
async def test_mysql_client_flags_keep_those_of_ours(server_url: str, server: DatabaseServer) -> None:
    """CLIENT_INTERACTIVE (1 << 10) takes another idle limit; FOUND_ROWS, on which SQLAlchemy counts, stays."""
    server.execute("SET GLOBAL interactive_timeout = 1234")
    try:
        async with _opened(DatabaseConfig.from_url(server_url, driver_options={"client_flag": 1 << 10})) as database:
            assert await database.fetch_val(text("SELECT @@wait_timeout")) == 1234
            await database.execute(text("CREATE TABLE t (id INT)"))
            await database.execute(text("INSERT INTO t VALUES (1)"))
            assert (await database.execute(text("UPDATE t SET id = 1"))).rowcount == 1
    finally:
        server.execute("SET GLOBAL interactive_timeout = DEFAULT")


@pytest.mark.families("mariadb", "mysql")
async def test_mysql_program_name_reaches_the_driver(server_url: str) -> None:
    config = DatabaseConfig.from_url(server_url, driver_options={"program_name": "atlas"})
    async with _opened(config) as database, database.session() as db:
        raw = await (await db.connection()).get_raw_connection()
        assert raw.driver_connection is not None
        assert raw.driver_connection._connect_attrs["program_name"] == "atlas"


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.parametrize("charset", ["latin1", "gbk", "sjis", "utf8mb3"])
async def test_mysql_refuses_every_charset_but_utf8mb4(server_url: str, charset: str) -> None:
    async with _opened(DatabaseConfig.from_url(server_url, driver_options={"charset": charset})) as database:
        with pytest.raises(ConfigurationError, match=charset):
            await database.fetch_val(select(1))


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.parametrize("charset", ["utf8mb4", "utf8"])
async def test_mysql_speaks_utf8mb4(server_url: str, charset: str) -> None:
    async with _opened(DatabaseConfig.from_url(server_url, driver_options={"charset": charset})) as database:
        assert await database.fetch_val(text("SELECT @@character_set_client")) == "utf8mb4"
        assert await database.fetch_val(select(text(":word")), {"word": "Ü 🦔"}) == "Ü 🦔"


@pytest.mark.families("postgresql")
async def test_postgresql_takes_the_keywords_of_libpq(server_url: str) -> None:
    options = {"application_name": "atlas", "prepare_threshold": None}
    async with _opened(DatabaseConfig.from_url(server_url, driver_options=options)) as database:
        assert await database.fetch_val(text("SHOW application_name")) == "atlas"
        async with database.session() as db:
            raw = await (await db.connection()).get_raw_connection()
            assert raw.driver_connection is not None
            assert raw.driver_connection.prepare_threshold is None


@pytest.mark.families("postgresql")
@pytest.mark.parametrize("name", ["host", "hostaddr", "user", "dbname", "sslmode", "sslrootcert", "connect_timeout"])
async def test_postgresql_refuses_a_keyword_that_has_an_option_of_its_own(server_url: str, name: str) -> None:
    async with _opened(DatabaseConfig.from_url(server_url, driver_options={name: "x"})) as database:
        with pytest.raises(ConfigurationError, match=name):
            await database.fetch_val(select(1))


@pytest.mark.families("sqlite")
async def test_sqlite_takes_its_driver_options(tmp_path: Path) -> None:
    path = tmp_path / "read.sqlite3"
    async with _opened(DatabaseConfig.from_url(f"sqlite:///{path}")) as database:
        await database.execute(text("CREATE TABLE t (id INTEGER)"))
    config = DatabaseConfig.of(family="sqlite", database=f"file:{path}?mode=ro", driver_options={"uri": True})
    async with _opened(config) as database:
        assert await database.fetch_val(text("SELECT count(*) FROM t")) == 0
        with pytest.raises(Exception, match="readonly"):
            await database.execute(text("INSERT INTO t VALUES (1)"))


# Session settings


@pytest.mark.families("mariadb", "postgresql", "sqlite", "mysql")
async def test_session_settings_hold_on_every_connection(server_url: str, family: str) -> None:
    settings: dict[str, Any]
    settings, sql, expected = {
        "postgresql": ({"statement_timeout": 12345, "timezone": "Asia/Tokyo"}, "SHOW timezone", "Asia/Tokyo"),
        "sqlite": ({"cache_size": -4321, "foreign_keys": True}, "PRAGMA cache_size", -4321),
    }.get(family, ({"sort_buffer_size": 65536, "sql_mode": "ANSI_QUOTES"}, "SELECT @@sql_mode", "ANSI_QUOTES"))
    async with _opened(DatabaseConfig.from_url(server_url, session_settings=settings)) as database:
        assert await _on_each_connection(database, sql) == [expected] * 3
        assert database.stats().counts.connects == 3
    async with _opened(DatabaseConfig.from_url(server_url)) as plain:
        assert await plain.fetch_val(text(sql)) != expected  # positive control


@pytest.mark.families("sqlite")
async def test_a_session_setting_of_text_with_a_quote_is_text(server_url: str) -> None:
    config = DatabaseConfig.from_url(server_url, session_settings={"journal_mode": "WAL", "temp_store": "MEMORY"})
    async with _opened(config) as database:
        assert await database.fetch_val(text("PRAGMA journal_mode")) == "wal"
        assert await database.fetch_val(text("PRAGMA temp_store")) == 2


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_a_wrong_session_setting_is_one_clear_error(server_url: str) -> None:
    config = DatabaseConfig.from_url(server_url, alias="reports", session_settings={"no_such_setting": 1})
    async with _opened(config) as database:
        with pytest.raises(ConnectFailed, match=r"'reports'.*no_such_setting"):
            await database.fetch_val(select(1))
        assert database.stats().checked_out == 0


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.parametrize("level", ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_the_isolation_level_holds_on_every_connection(server_url: str, family: str, level: str) -> None:
    sql = {"postgresql": "SHOW default_transaction_isolation", "mysql": "SELECT @@transaction_isolation"}.get(
        family, "SELECT @@tx_isolation"
    )
    async with _opened(DatabaseConfig.from_url(server_url, isolation_level=level)) as database:
        found = await _on_each_connection(database, sql)
        assert [value.replace("-", " ").upper() for value in found] == [level] * 3
        async with database.session() as db:
            assert await (await db.connection()).get_isolation_level() == level


@pytest.mark.families("mariadb", "postgresql", "sqlite", "mysql")
async def test_the_init_command_runs_first_on_mysql_and_last_elsewhere(server_url: str, family: str) -> None:
    settings, command, sql, expected = {
        "postgresql": ({"work_mem": "5MB"}, "SET work_mem = '7MB'", "SHOW work_mem", "7MB"),
        "sqlite": ({"cache_size": -10}, "PRAGMA cache_size = -20", "PRAGMA cache_size", -20),
    }.get(family, ({"lock_wait_timeout": 5}, "SET lock_wait_timeout = 7", "SELECT @@lock_wait_timeout", 5))
    config = DatabaseConfig.from_url(server_url, session_settings=settings, init_command=command)
    async with _opened(config) as database:
        assert await _on_each_connection(database, sql) == [expected] * 3


@pytest.mark.families("mariadb", "postgresql", "sqlite", "mysql")
async def test_a_failing_init_command_is_one_clear_error(server_url: str) -> None:
    async with _opened(DatabaseConfig.from_url(server_url, init_command="SELEKT 1")) as database:
        with pytest.raises(ConnectFailed, match=r"(?i)'default'.*syntax"):
            await database.fetch_val(select(1))
        assert (database.stats().checked_out, database.stats().counts.connect_errors) == (0, 1)


async def test_on_connect_sees_each_new_connection_with_its_settings(server_url: str, family: str) -> None:
    sql = {"postgresql": "SHOW work_mem", "sqlite": "PRAGMA cache_size"}.get(family, "SELECT @@lock_wait_timeout")
    settings: dict[str, Any]
    settings, expected = {
        "postgresql": ({"work_mem": "5MB"}, "5MB"),
        "sqlite": ({"cache_size": -10}, -10),
    }.get(family, ({"lock_wait_timeout": 5}, 5))
    seen: list[Any] = []

    def on_connect(connection: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(sql)
        seen.append(cursor.fetchone()[0])
        cursor.close()

    config = DatabaseConfig.from_url(server_url, session_settings=settings)
    async with _opened(config, on_connect=on_connect) as database:
        assert await _on_each_connection(database, "SELECT 1") == [1, 1, 1]
        await database.fetch_val(select(1))
    assert seen == [expected] * 3


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_the_source_is_asked_before_each_connection(server: DatabaseServer, server_url: str) -> None:
    right = DatabaseConfig.from_url(server_url)
    answers = [right, right.model_copy(update={"password": None}), right]
    async with _opened(right, source=lambda: answers.pop(0)) as database:
        assert await database.fetch_val(select(1)) == 1
        async with database.session() as one:
            assert await one.fetch_val(select(1)) == 1
            with pytest.raises(ConnectFailed):
                await database.fetch_val(select(1))
            assert await database.fetch_val(select(1)) == 1
    assert answers == []


# Where the server is


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_a_unix_socket_is_used(server: PrivateServer, database_name: str, family: str) -> None:
    config = DatabaseConfig.of(
        family=server.family,
        unix_socket=server.unix_socket,
        port=server.port if family == "postgresql" else None,
        user=server.user,
        password=server.password,
        database=database_name,
    )
    sql = "SELECT inet_client_addr() IS NULL" if family == "postgresql" else "SELECT 1"
    async with _opened(config) as database:
        assert await database.fetch_val(text(sql))
        if family in {"mariadb", "mysql"}:
            assert [c.host for c in server.connections() if c.database == database_name] == ["localhost"]


# TLS


@pytest.fixture(scope="module")
def tls_servers() -> Iterator[dict[str, PrivateServer]]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        started: dict[str, PrivateServer] = {}
        stack.callback(started.clear)

        class Lazily(dict[str, PrivateServer]):
            def __missing__(self, name: str) -> PrivateServer:
                kind: Any = {"mariadb": MariaDBServer, "mysql": MySQLServer, "postgresql": PostgreSQLServer}[
                    name.rstrip("2")
                ]
                server: PrivateServer = stack.enter_context(kind(tls=True))
                self[name] = server
                return server

        yield Lazily()


TLS_SQL = {
    "mariadb": "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'",
    "mysql": "SELECT variable_value FROM performance_schema.session_status WHERE variable_name = 'Ssl_cipher'",
    "postgresql": "SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
}


def _over_tls(server: PrivateServer, **options: Any) -> DatabaseConfig:
    return DatabaseConfig.from_url(server.url(server.default_database), **options)


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.parametrize("mode", ["required", "verify_ca", "verify_identity"])
async def test_tls_is_used_as_asked(tls_servers: Any, family: str, mode: str) -> None:
    server = tls_servers[family]
    authority = {} if mode == "required" else {"tls_ca": server.ca_file}
    async with _opened(_over_tls(server, tls=mode, **authority)) as database:
        assert await database.fetch_val(text(TLS_SQL[family]))


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_disabled_tls_is_not_used(tls_servers: Any, family: str) -> None:
    """The positive control of the test above."""
    async with _opened(_over_tls(tls_servers[family], tls="disabled")) as database:
        assert not await database.fetch_val(text(TLS_SQL[family]))


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.parametrize("mode", ["verify_ca", "verify_identity"])
async def test_another_authority_is_refused(tls_servers: Any, family: str, mode: str, tmp_path: Path) -> None:
    from asyncdb.testing.certificates import make_certificates

    server = tls_servers[family]
    stranger = make_certificates(tmp_path)
    async with _opened(_over_tls(server, tls=mode, tls_ca=str(stranger.ca))) as database:
        with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
            await database.fetch_val(select(1))
        assert database.stats().checked_out == 0


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.parametrize("mode", ["required", "verify_ca"])
async def test_a_server_without_tls_is_refused_and_sees_no_password(
    server: PrivateServer, family: str, mode: str, tls_servers: Any
) -> None:
    authority = {} if mode == "required" else {"tls_ca": tls_servers[family].ca_file}
    async with _opened(_over_tls(server, tls=mode, **authority)) as database:
        with pytest.raises(ConnectFailed, match=r"(?i)ssl|tls"):
            await database.fetch_val(select(1))


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_a_certificate_file_that_is_not_there_is_named(tls_servers: Any, family: str, tmp_path: Path) -> None:
    server = tls_servers[family]
    missing = str(tmp_path / "missing.pem")
    async with _opened(_over_tls(server, tls="verify_ca", tls_ca=missing)) as database:
        with pytest.raises((ConfigurationError, ConnectFailed), match=r"missing\.pem"):
            await database.fetch_val(select(1))


# Secrets


def _everything(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + "".join(repr(part) + str(part) for part in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.parametrize("wrong", ["password", "database", "port", "setting", "nothing"])
async def test_no_log_and_no_error_shows_the_password(
    server: DatabaseServer, database_name: str, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("asyncdb", "sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "asyncmy", "psycopg"):
        caplog.set_level(logging.DEBUG, logger=name)
    secret = "hunter2-s3cr3t" if wrong == "password" else server.password
    config = DatabaseConfig.of(
        family=server.family,
        host=server.host,
        port=1 if wrong == "port" else server.port,
        user=server.user,
        password=secret,
        database="no_such_database" if wrong == "database" else database_name,
        session_settings={"no_such_setting": 1} if wrong == "setting" else {},
        pool_recycle=0.001,
    )
    shown = ""
    async with _opened(config) as database:
        for _ in range(2):
            try:
                await database.fetch_val(select(1))
            except ConnectFailed as err:
                assert wrong != "nothing"
                shown += _everything(err)
            else:
                assert wrong == "nothing"
        shown += repr(database) + str(database) + repr(database.engine) + repr(database.engine.url)
        shown += repr(await database.health()) + repr(database.stats()) + repr(database.engine.sync_engine.pool)
    shown += caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert caplog.records
    assert secret not in shown


async def test_no_error_of_the_server_shows_a_parameter(books: Database, caplog: pytest.LogCaptureFixture) -> None:
    from sqlalchemy import insert
    from sqlalchemy.exc import IntegrityError

    from tests.tables import Book

    for name in ("asyncdb", "sqlalchemy.engine", "sqlalchemy.pool"):  # aiosqlite's own logger shows them at DEBUG
        caplog.set_level(logging.DEBUG, logger=name)
    with pytest.raises(IntegrityError) as caught:
        await books.execute(insert(Book).values(id=1, title="s3cr3t-title"))
    assert "s3cr3t-title" not in str(caught.value)
    assert "s3cr3t-title" not in caplog.text
