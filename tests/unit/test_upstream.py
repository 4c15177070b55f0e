"""Canaries: the private names of others that asyncdb uses. Each fails by its name when that thing goes away."""

from __future__ import annotations

import inspect
import sqlite3
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
    "asyncmy.connection:Connection.escape",
    "asyncmy.connection:Connection.get_server_info",
    "psycopg:AsyncConnection.wait",
    "psycopg:AsyncConnection._exec_command",
    "psycopg.pq:TransactionStatus.IDLE",
    "psycopg.pq:TransactionStatus.INERROR",
    "psycopg.pq:ConnStatus.OK",
    "psycopg.pq:PGconn.cancel_conn",
    "psycopg.pq:PGconn.get_cancel",
    "psycopg.generators:cancel",
    "psycopg.waiting:wait_async",
    "psycopg.waiting:wait_conn_async",
    "psycopg:capabilities.has_cancel_safe",
    "aiosqlite:Connection.interrupt",
    "aiosqlite:Connection.in_transaction",
    "aiosqlite:Connection.execute_fetchall",
    "aiosqlite.core:_STOP_RUNNING_SENTINEL",
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
