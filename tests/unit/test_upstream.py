"""Canaries: the private names of others that asyncdb uses. Each fails by its name when that thing goes away."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

SQLALCHEMY = [
    "sqlalchemy.util.concurrency:await_",
    "sqlalchemy.util.concurrency:greenlet_spawn",
    "sqlalchemy.util.concurrency:in_greenlet",
    "sqlalchemy.util.queue:QueueCommon",
    "sqlalchemy.util.queue:Empty",
    "sqlalchemy.util.queue:Full",
    "sqlalchemy.pool.base:_ConnectionRecord",
    "sqlalchemy.pool.impl:QueuePool._do_get",
    "sqlalchemy.pool.impl:QueuePool._do_return_conn",
    "sqlalchemy.pool.impl:QueuePool._inc_overflow",
    "sqlalchemy.pool.impl:QueuePool._dec_overflow",
    "sqlalchemy.pool.impl:AsyncAdaptedQueuePool._queue_class",
    "sqlalchemy.pool.base:Pool._create_connection",
    "sqlalchemy.pool.base:Pool._close_connection",
    "sqlalchemy.engine.base:NestedTransaction._savepoint",
    "sqlalchemy.ext.asyncio.result:_ensure_sync_result",
    "sqlalchemy.sql.selectable:Select._order_by_clauses",
    "sqlalchemy.sql.selectable:Select._group_by_clauses",
    "sqlalchemy.sql.selectable:Select._having_criteria",
    "sqlalchemy.sql.selectable:Select._limit_clause",
    "sqlalchemy.sql.selectable:Select._offset_clause",
    "sqlalchemy.sql.selectable:Select._fetch_clause",
    "sqlalchemy.engine.default:DefaultDialect._type_memos",
    "sqlalchemy.orm.interfaces:StrategizedProperty.strategy_for",
    "sqlalchemy.orm.strategies:_LazyLoader._emit_lazyload",
    "sqlalchemy.sql.base:ColumnCollection._index",
    "sqlalchemy.sql.compiler:SQLCompiler.insert_prefetch",
    "sqlalchemy.sql.elements:ColumnElement._compiler_dispatch",
    "sqlalchemy.sql.sqltypes:ARRAY.Comparator._setup_getitem",
    "sqlalchemy.sql.type_api:TypeEngine.Comparator._adapt_expression",
    "sqlalchemy.sql.type_api:TypeEngine._type_affinity",
    "sqlalchemy.sql.compiler:SQLCompiler.visit_textclause",
    "sqlalchemy.sql.compiler:SQLCompiler.visit_textual_select",
    "sqlalchemy.sql.compiler:SQLCompiler.visit_custom_op_binary",
    "sqlalchemy.sql.compiler:SQLCompiler.visit_function",
    "sqlalchemy.sql.compiler:SQLCompiler.visit_column",
    "sqlalchemy.sql.compiler:SQLCompiler.get_statement_hint_text",
    "sqlalchemy.sql.compiler:SQLCompiler.for_update_clause",
    "sqlalchemy.sql.compiler:SQLCompiler.visit_insert",
    "sqlalchemy.sql.compiler:SQLCompiler.visit_update",
    "sqlalchemy.sql.compiler:SQLCompiler.visit_delete",
    "sqlalchemy.connectors.asyncio:AsyncAdapt_dbapi_connection._handle_exception",
    "sqlalchemy.connectors.asyncio:AsyncAdapt_dbapi_connection._execute_mutex",
    "sqlalchemy.connectors.asyncio:AsyncAdapt_dbapi_cursor._adapt_connection",
    "sqlalchemy.connectors.asyncio:AsyncAdapt_dbapi_cursor._aenter_cursor",
    "sqlalchemy.connectors.asyncio:AsyncAdapt_dbapi_cursor._async_soft_close",
    "sqlalchemy.connectors.asyncio:AsyncAdapt_dbapi_cursor._execute_async",
    "sqlalchemy.connectors.asyncio:AsyncAdapt_dbapi_cursor._executemany_async",
    "sqlalchemy.dialects.mysql.asyncmy:AsyncAdapt_asyncmy_connection",
    "sqlalchemy.dialects.mysql.asyncmy:AsyncAdapt_asyncmy_cursor",
    "sqlalchemy.dialects.mysql.asyncmy:AsyncAdapt_asyncmy_ss_cursor",
    "sqlalchemy.dialects.mysql.asyncmy:MySQLDialect_asyncmy._found_rows_client_flag",
    "sqlalchemy.dialects.postgresql.psycopg:AsyncAdapt_psycopg_connection",
    "sqlalchemy.dialects.postgresql.psycopg:AsyncAdapt_psycopg_cursor",
    "sqlalchemy.dialects.postgresql.psycopg:AsyncAdapt_psycopg_ss_cursor",
    "sqlalchemy.dialects.postgresql.psycopg:PGDialectAsync_psycopg._psycopg_adapters_map",
    "sqlalchemy.dialects.sqlite.aiosqlite:AsyncAdapt_aiosqlite_connection",
    "sqlalchemy.dialects.sqlite.aiosqlite:AsyncAdapt_aiosqlite_cursor",
    "sqlalchemy.dialects.sqlite.aiosqlite:AsyncAdapt_aiosqlite_ss_cursor",
    "sqlalchemy.dialects.sqlite.aiosqlite:SQLiteDialect_aiosqlite",
]
DRIVERS = [
    "asyncmy.connection:Connection.connect",
    "asyncmy.connection:MySQLResult.has_next",
    "asyncmy.cursors:Cursor._result",
    "asyncmy.connection:Connection.query",
    "asyncmy.connection:Connection.ping",
    "asyncmy.connection:Connection._execute_command",
    "asyncmy.connection:Connection._read_ok_packet",
    "asyncmy.connection:Connection.read_packet",
    "asyncmy.connection:Connection.select_db",
    "asyncmy.connection:Connection.escape",
    "asyncmy.connection:Connection.get_server_info",
    "psycopg:AsyncConnection.wait",
    "psycopg:AsyncConnection._exec_command",
    "psycopg.pq:TransactionStatus.IDLE",
    "psycopg.pq:TransactionStatus.INERROR",
    "psycopg.pq:ConnStatus.OK",
    "psycopg.pq:PGconn.cancel_conn",
    "psycopg.pq:PGcancelConn.reset",
    "psycopg.pq:PGconn.get_cancel",
    "psycopg.generators:cancel",
    "psycopg.waiting:wait_async",
    "psycopg.waiting:wait_conn_async",
    "psycopg:capabilities.has_cancel_safe",
    "aiosqlite:Connection.interrupt",
    "aiosqlite:Connection.in_transaction",
    "aiosqlite:Connection.execute_fetchall",
    "aiosqlite.core:_STOP_RUNNING_SENTINEL",
    "aiosqlite.core:_connection_worker_thread",
]


def _find(path: str) -> Any:
    from importlib import import_module

    module, _, names = path.partition(":")
    found = import_module(module)
    for name in names.split("."):
        assert hasattr(found, name), f"{path} is gone: read the new version, then change asyncdb"
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("path", SQLALCHEMY + DRIVERS)
def test_a_private_name_of_others_is_there(path: str) -> None:
    _find(path)


def test_psycopg_keeps_what_it_prepared_where_a_reset_empties_it() -> None:
    from psycopg._preparing import PrepareManager

    assert {"_names", "_counts", "_to_flush"} <= set(vars(PrepareManager()))


def test_the_canary_can_die() -> None:
    with pytest.raises(AssertionError, match=r"QueuePool\._do_nothing is gone"):
        _find("sqlalchemy.pool.impl:QueuePool._do_nothing")


def test_the_pools_methods_take_what_they_took() -> None:
    from sqlalchemy.pool.impl import AsyncAdaptedQueuePool, QueuePool

    assert list(inspect.signature(QueuePool._do_get).parameters) == ["self"]
    assert list(inspect.signature(QueuePool._do_return_conn).parameters) == ["self", "record"]
    assert {"pool_size", "max_overflow", "timeout", "use_lifo"} <= set(inspect.signature(QueuePool).parameters)
    assert issubclass(AsyncAdaptedQueuePool, QueuePool)


def test_a_connection_record_has_what_the_pool_reads() -> None:
    from sqlalchemy.pool.base import _ConnectionRecord

    annotations = {name for cls in _ConnectionRecord.__mro__ for name in getattr(cls, "__annotations__", {})}
    assert {"starttime", "dbapi_connection", "fresh"} <= annotations | set(dir(_ConnectionRecord))
    assert "_invalidate_time" in inspect.getsource(_ConnectionRecord.get_connection)


def test_sqlalchemys_compiler_calls_a_custom_compiles_by_its_dispatcher() -> None:
    from sqlalchemy.ext.compiler import compiles
    from sqlalchemy.sql.elements import ColumnElement

    class Custom(ColumnElement[int]):
        pass

    assert getattr(Custom(), "_compiler_dispatcher", None) is None

    @compiles(Custom)
    def _compile(element: Any, compiler: Any, **kw: Any) -> str:
        return "x"

    assert Custom()._compiler_dispatcher is not None


def test_columns_are_found_by_the_index_and_listed_by_another() -> None:
    from sqlalchemy import Column, Integer, MetaData, Table

    table = Table("t", MetaData(), Column("a", Integer))
    index: Any = table.columns._index
    index["other"] = index["a"]
    assert table.c["other"] is table.c.other is table.c.a
    assert table.columns.keys() == ["a"]
    assert list(table.columns) == [table.c.a]


def test_a_lazy_loader_asks_where_it_needs_sql_and_nowhere_else() -> None:
    from sqlalchemy.orm.strategies import _LazyLoader

    source = inspect.getsource(_LazyLoader._load_for_state)
    assert source.count("_emit_lazyload(") == 1
    parameters = list(inspect.signature(_LazyLoader._emit_lazyload).parameters)
    assert parameters[:4] == ["self", "session", "state", "primary_key_identity"]


def test_a_class_manager_loads_expired_attributes_by_what_stands_on_it() -> None:
    from sqlalchemy.orm.state import InstanceState

    source = inspect.getsource(InstanceState._load_expired)
    assert "self.manager.expired_attribute_loader(self, toload, passive)" in source


def test_a_compiler_asks_an_element_by_compiler_dispatch() -> None:
    from sqlalchemy import Integer, literal_column
    from sqlalchemy.sql.elements import ColumnElement

    class Wrapped(ColumnElement[int]):
        type = Integer()

        def _compiler_dispatch(self, visitor: Any, **kw: Any) -> str:
            return "wrapped"

    assert "wrapped" in str(literal_column("1", Integer()) + Wrapped())


def test_defaults_are_asked_in_the_order_of_insert_prefetch() -> None:
    from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert

    seen = []

    def ask(name: str) -> Any:
        def default(context: Any) -> int:
            seen.append((name, [column.key for column in context.compiled.insert_prefetch]))
            return 1

        return default

    table = Table("t", MetaData(), *(Column(name, Integer, default=ask(name)) for name in "abc"))
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(insert(table).values(b=2))
    engine.dispose()
    assert seen == [("a", ["a", "c"]), ("c", ["a", "c"])]


async def test_asyncmys_connection_has_what_we_read(request: pytest.FixtureRequest) -> None:
    from asyncmy.connection import Connection

    server = request.getfixturevalue("mariadb")
    raw = Connection(host=server.host, port=server.port, user=server.user, password=server.password, autocommit=True)
    await raw.connect()
    try:
        for name in ("_transport", "_proto", "_stream_broken", "_connected", "_loop", "server_status", "_result"):
            assert hasattr(raw, name), f"asyncmy's Connection.{name} is gone"
        assert raw._stream_broken is False or raw._stream_broken is None or not raw._stream_broken
        assert raw._connected
        await raw.query("SELECT 1", unbuffered=True)
        assert raw._result.unbuffered_active
        await raw._result._finish_unbuffered_query()
        assert not raw._result.unbuffered_active
        await raw.query("BEGIN")
        assert raw.server_status & 1
        await raw.query("COMMIT")
        assert not raw.server_status & 1
        assert raw._transport.get_extra_info("socket").fileno() > 0
        assert callable(raw._proto.wait_closed)
    finally:
        await raw.ensure_closed()


async def test_psycopgs_connection_has_what_we_read(request: pytest.FixtureRequest) -> None:
    import psycopg
    from psycopg.pq import ConnStatus, TransactionStatus

    server = request.getfixturevalue("postgresql")
    raw = await psycopg.AsyncConnection.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, dbname="postgres",
        autocommit=True,
    )  # fmt: skip
    try:
        assert raw.pgconn.status == ConnStatus.OK
        async with raw.lock:
            await raw.wait(raw._exec_command(b"BEGIN"))
        assert raw.pgconn.transaction_status == TransactionStatus.INTRANS
        await raw.execute("ROLLBACK")
        assert raw.pgconn.transaction_status == TransactionStatus.IDLE
        assert raw._closed is False
    finally:
        await raw.close()


async def test_aiosqlites_connection_has_what_we_read() -> None:
    import aiosqlite

    raw = aiosqlite.connect(":memory:")
    for name in ("_thread", "_tx", "_connector", "_connection", "_running"):
        assert hasattr(raw, name), f"aiosqlite's Connection.{name} is gone"
    await raw
    try:
        assert isinstance(raw._connection, sqlite3.Connection)
        assert raw._running
        assert raw._thread.is_alive()
    finally:
        await raw.close()
    assert not raw._running


# What asyncmy does wrong, and we cure: when one of these fails, the cure may go.


@pytest.fixture
async def as_asyncmy_is(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    from asyncmy.connection import Connection

    server = request.getfixturevalue("mariadb")
    raw = Connection(host=server.host, port=server.port, user=server.user, password=server.password, autocommit=True)
    await raw.connect()
    try:
        yield raw
    finally:
        await raw.ensure_closed()


def test_our_connection_overrides_what_asyncmy_has() -> None:
    from asyncdb.drivers.asyncmy_wire import Reply, SafeConnection

    asyncmys: Any = SafeConnection.__mro__[2]
    assert asyncmys.__module__ == "asyncmy.connection"
    for name in (
        "_get_server_information", "_request_authentication", "_process_auth", "_fill_buffer", "_read_query_result",
        "_execute_command", "query", "escape", "literal", "show_warnings", "close", "read_packet", "_create_ssl_ctx",
    ):  # fmt: skip
        assert callable(getattr(asyncmys, name)), f"asyncmy's Connection.{name} is gone"
    for name in (
        "_check_packet_is_eof",
        "_get_descriptions",
        "_read_load_local_packet",
        "read",
        "init_unbuffered_query",
    ):
        assert callable(getattr(Reply.__mro__[1], name)), f"asyncmy's MySQLResult.{name} is gone"


async def test_asyncmys_protocol_has_what_the_meter_stands_before(as_asyncmy_is: Any) -> None:
    from asyncdb.drivers.asyncmy_wire import _PASSED_ON

    protocol = as_asyncmy_is._proto
    assert {"buffer_updated", *_PASSED_ON} <= set(dir(protocol))
    assert {name for name in vars(asyncio.BufferedProtocol) if not name.startswith("_")} <= {
        "buffer_updated",
        *_PASSED_ON,
    }
    for name in ("buffer", "length", "pos", "exc", "transport"):
        assert hasattr(protocol, name), f"asyncmy's protocol.{name} is gone"


async def test_canary_asyncmy_still_negotiates_deprecate_eof(as_asyncmy_is: Any) -> None:
    assert as_asyncmy_is._deprecate_eof, "test_large_rows.py shows what is lost by it"


async def test_canary_asyncmy_still_forgets_the_status_behind_rows(as_asyncmy_is: Any) -> None:
    from asyncmy.connection import MySQLResult

    as_asyncmy_is._deprecate_eof = False
    assert MySQLResult(as_asyncmy_is).server_status == 0
    await as_asyncmy_is.query("SET autocommit = 0")
    assert as_asyncmy_is.server_status & 2, "asyncmy now believes a status of 0"


async def test_canary_asyncmy_still_quotes_bytes_for_backslashes(as_asyncmy_is: Any) -> None:
    await as_asyncmy_is.query("SET sql_mode = 'NO_BACKSLASH_ESCAPES'")
    assert as_asyncmy_is.literal(b"'") == r"_binary'\''"


async def test_canary_asyncmy_still_writes_whatever_an_object_says(as_asyncmy_is: Any) -> None:
    import datetime

    class Anything:
        def __str__(self) -> str:
            return "anything"

    assert as_asyncmy_is.literal(Anything()) == "'anything'"
    aware = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
    assert as_asyncmy_is.literal(aware) == "'2024-02-29 00:00:00'"
    assert as_asyncmy_is.literal(float("-inf")) == "-infe0"


async def test_canary_asyncmy_still_sends_several_statements_and_lone_surrogates(as_asyncmy_is: Any) -> None:
    await as_asyncmy_is.query("SELECT 1; SELECT 2")
    assert as_asyncmy_is._result.has_next
    await as_asyncmy_is.query("SELECT 1 -- \udc80")


async def test_canary_asyncmy_still_asks_for_warnings(as_asyncmy_is: Any) -> None:
    asked: list[Any] = []
    original = as_asyncmy_is.show_warnings

    async def show_warnings() -> Any:
        asked.append(True)
        return await original()

    as_asyncmy_is.show_warnings = show_warnings
    async with as_asyncmy_is.cursor() as cursor:
        await cursor.execute("SELECT CAST('12x' AS SIGNED)")
    assert asked


def test_canary_asyncmys_login_still_says_what_it_should_not() -> None:
    """It is shown by the controls in ``test_hostile_login.py``; here, that the code they are about is there."""
    from asyncmy import auth

    assert not hasattr(auth, "scramble_old_password"), "mysql_old_password works now, which is no better"
    assert "conn._server_public_key = pkt.get_all_data()" in inspect.getsource(auth.caching_sha2_password_auth)


BELIEVES_LENGTHS = """
from asyncmy.protocol import FieldDescriptorPacket

fixed = bytes([12, 45, 0, 0, 4, 0, 0, 253, 0, 0, 0, 0, 0])
# The name says that it has 20 bytes, of which 14 are in the packet: the rest is what lies behind it in memory.
packet = FieldDescriptorPacket(b"\\x03def\\x00\\x00\\x00\\x14x\\x00" + fixed, "latin1")
assert len(packet.name) == 20
"""


def test_canary_asyncmy_still_believes_the_lengths_in_a_columns_definition() -> None:
    """In a process of its own: it reads beyond its memory, and may be killed for that."""
    child = subprocess.run(
        [sys.executable, "-c", BELIEVES_LENGTHS], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode in {0, -signal.SIGSEGV}, child.stderr


def test_canary_sqlalchemy_still_looks_for_words_in_errors() -> None:
    from asyncmy.errors import IntegrityError
    from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy

    dialect: Any = MySQLDialect_asyncmy(dbapi=MySQLDialect_asyncmy.import_dbapi())  # type: ignore[no-untyped-call]
    assert dialect.is_disconnect(IntegrityError(1062, "Duplicate entry 'not connected' for key 'name'"), None, None)
