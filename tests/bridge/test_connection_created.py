"""Each new physical connection is made known to Django, once, as Django's own would be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection as django_default
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.db.utils import ProgrammingError
from sqlalchemy import literal, make_url, select, text

from asyncdb import ConnectFailed
from django_bridge import database, hooks
from django_bridge.conf import wrapper_for
from tests.polling import until


@contextmanager
def receiver(function: Callable[..., Any]) -> Iterator[None]:
    connection_created.connect(function, weak=False)
    try:
        yield
    finally:
        connection_created.disconnect(function)


async def test_the_signal_comes_once_per_physical_connection(bridged: Any) -> None:
    bridged(async_db={"pool_size": 2})
    seen: list[Any] = []

    def note(sender: Any, connection: Any, **_: Any) -> None:
        seen.append((sender, connection))

    with receiver(note):
        db = database()
        both_busy = asyncio.Barrier(2)

        async def work() -> None:
            async with db.session() as session:
                await session.execute(select(literal(1)))
                await both_busy.wait()

        for _ in range(3):
            await asyncio.gather(work(), work())
    assert len(seen) == 2
    for sender, connection in seen:
        assert sender is type(wrapper_for("default"))
        assert isinstance(connection, sender)
        assert type(connection) is not sender
        assert connection.alias == "default"


async def test_a_receiver_runs_sql_as_under_django(bridged: Any) -> None:
    rows: list[Any] = []

    def ask(sender: Any, connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s + %s, '%%'", [1, 2])
            rows.append(cursor.fetchone())
            cursor.execute("SELECT 1 UNION SELECT 2 ORDER BY 1")
            rows.append([row[0] for row in cursor])

    with receiver(ask):
        assert await database().fetch_val(text("SELECT 7")) == 7
    assert rows == [(3, "%"), [1, 2]]


async def test_connections_is_this_connection_while_the_receivers_run_and_in_this_task_alone(bridged: Any) -> None:
    found: list[Any] = []

    def look(sender: Any, connection: Any, **_: Any) -> None:
        found.append(connections["default"] is connection)
        with connections["default"].cursor() as cursor:  # waits on the loop
            cursor.execute("SELECT 1")
        found.append(django_default.alias == "default" and connections["default"] is connection)

    mine = connections.all(initialized_only=True)
    with receiver(look):
        await database().fetch_val(text("SELECT 1"))
    assert found == [True, True]
    assert connections.all(initialized_only=True) == mine


async def test_a_receiver_that_fails_is_named(bridged: Any) -> None:
    def spoilt_receiver(**_: Any) -> None:
        raise LookupError("with a secret in it")

    with (
        receiver(spoilt_receiver),
        pytest.raises(ConnectFailed, match=r"'default'.*spoilt_receiver.*LookupError") as caught,
    ):
        await database().fetch_val(text("SELECT 1"))
    assert "secret" not in str(caught.value)
    assert await database().fetch_val(text("SELECT 1")) == 1
    assert database().stats().checked_out == 0


async def test_a_connection_whose_receiver_failed_is_closed_at_once(bridged: Any, family: str) -> None:
    kept: list[Any] = []

    def spoilt_receiver(connection: Any, **_: Any) -> None:
        kept.append(connection.seat.link.driver_connection)
        raise LookupError

    with receiver(spoilt_receiver), pytest.raises(ConnectFailed):
        await database().fetch_val(text("SELECT 1"))
    (driver,) = kept
    if family == "postgresql":
        assert driver.closed
    elif family == "sqlite":
        until(lambda: driver._connection is None)  # its thread closes it, and nobody has to wait for that
    else:
        assert not driver.connected


@pytest.mark.native_only("without the hooks it is refused: the next test")
async def test_an_async_receiver_is_awaited(bridged: Any) -> None:
    seen: list[Any] = []

    async def waits(connection: Any, **_: Any) -> None:
        await asyncio.sleep(0)
        seen.append(connection.alias)

    with receiver(waits):
        await database().fetch_val(text("SELECT 1"))
    assert seen == ["default"]


async def test_without_the_hooks_an_async_receiver_is_told_to_be_sync(bridged: Any) -> None:
    async def waits(**_: Any) -> None: ...

    hooks.uninstall()
    try:
        with receiver(waits), pytest.raises(ConnectFailed, match="make it a sync function"):
            await database().fetch_val(text("SELECT 1"))
    finally:
        hooks.install()


async def test_an_sql_error_in_a_receiver_is_djangos(bridged: Any) -> None:
    caught: list[type[BaseException]] = []

    def ask(connection: Any, **_: Any) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column FROM no_such_table")
        except Exception as err:
            caught.append(type(err))

    with receiver(ask):
        await database().fetch_val(text("SELECT 1"))
    assert issubclass(caught[0], ProgrammingError) or caught[0].__module__ == "django.db.utils"


async def test_a_receiver_may_use_transactions_as_under_django(bridged: Any) -> None:
    def write(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS visit (number INTEGER)")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO visit VALUES (%s)", [4])
        with contextlib.suppress(LookupError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO visit VALUES (%s)", [5])
            raise LookupError

    with receiver(write):
        assert await database().fetch_all(text("SELECT number FROM visit"), into=int) == [4]


async def test_a_receiver_that_leaves_a_transaction_open_is_refused(bridged: Any) -> None:
    def leaves(connection: Any, **_: Any) -> None:
        connection.set_autocommit(False)

    with receiver(leaves), pytest.raises(ConnectFailed, match="left a transaction open"):
        await database().fetch_val(text("SELECT 1"))
    assert database().stats().checked_out == 0


async def test_what_a_receiver_wrote_is_committed(bridged: Any) -> None:
    def write(connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS visit (number INTEGER)")
            cursor.execute("INSERT INTO visit VALUES (%s)", [4])

    with receiver(write):
        assert await database().fetch_val(text("SELECT number FROM visit")) == 4


async def test_djangos_own_session_state_is_there(bridged: Any, family: str) -> None:
    queries = {
        "mysql": ("SELECT CONCAT(@@sql_auto_is_null + 0, ' ', @@character_set_client)", "0 utf8mb4"),
        "postgresql": ("SELECT current_setting('TimeZone') || ' ' || current_setting('client_encoding')", "UTC UTF8"),
        "sqlite": ("SELECT * FROM pragma_foreign_keys", 1),
    }
    query, expected = queries["mysql" if family in {"mariadb", "mysql"} else family]
    assert await database().fetch_val(text(query)) == expected


@pytest.mark.families("sqlite")
async def test_sqlite_has_djangos_functions(bridged: Any) -> None:
    db = database()
    assert await db.fetch_val(text("SELECT django_datetime_trunc('year', '2026-05-06 07:08:09', NULL, NULL)")) == (
        "2026-01-01 00:00:00"
    )
    assert await db.fetch_val(text("SELECT 'Momo' REGEXP '^M'")) == 1
    assert await db.fetch_val(text("SELECT FLOOR(NULL)")) is None  # SQLAlchemy's own floor() fails here
    assert await db.fetch_val(text("SELECT FLOOR(-2.5)")) == -3.0


@pytest.mark.families("sqlite")
async def test_a_spatialite_that_is_missing_is_named(bridged: Any) -> None:
    bridged(ENGINE="tests.bridge.instrumented.spatialite")
    with pytest.raises(ConnectFailed, match=r"'default'.*get_new_connection.*names tried: /nonexistent/mod_spatialite"):
        await database().fetch_val(text("SELECT 1"))


@pytest.mark.families("sqlite")
async def test_a_receiver_reaches_sqlite3s_own_connection(bridged: Any) -> None:
    def add_function(connection: Any, **_: Any) -> None:
        connection.connection.create_function("twice", 1, lambda number: number * 2)
        assert connection.connection.execute("SELECT twice(2)").fetchall() == [(4,)]

    with receiver(add_function):
        assert await database().fetch_val(text("SELECT twice(21)")) == 42


@pytest.mark.families("postgresql")
async def test_contrib_postgres_registers_its_types(bridged: Any, server: Any, database_name: str) -> None:
    from django.contrib.postgres.signals import get_citext_oids, get_hstore_oids, register_type_handlers

    server.execute("CREATE EXTENSION IF NOT EXISTS hstore", database=database_name)
    get_hstore_oids.cache_clear()
    get_citext_oids.cache_clear()
    try:
        with receiver(register_type_handlers):
            found = await database().fetch_val(text("SELECT 'a=>1, b=>NULL'::hstore"))
    finally:
        get_hstore_oids.cache_clear()
        get_citext_oids.cache_clear()
    assert found == {"a": "1", "b": None}


@pytest.mark.families("postgresql")
async def test_contrib_postgres_does_without_its_extensions(bridged: Any) -> None:
    from django.contrib.postgres.signals import get_citext_oids, get_hstore_oids, register_type_handlers

    get_hstore_oids.cache_clear()
    get_citext_oids.cache_clear()
    try:
        with receiver(register_type_handlers):
            assert await database().fetch_val(text("SELECT 1")) == 1
    finally:
        get_hstore_oids.cache_clear()
        get_citext_oids.cache_clear()


@pytest.mark.families("postgresql")
async def test_assume_role_is_taken(bridged: Any, server: Any, server_url: str) -> None:
    server.execute("DROP ROLE IF EXISTS bridge_writer")
    server.execute(f'CREATE ROLE bridge_writer ROLE "{make_url(server_url).username}"')
    bridged(OPTIONS={"assume_role": "bridge_writer"})
    assert await database().fetch_val(text("SELECT current_user")) == "bridge_writer"


async def test_the_isolation_level_is_djangos(bridged: Any, family: str) -> None:
    if family == "sqlite":
        return
    level = "serializable" if family != "postgresql" else 4
    query = {
        "mariadb": "SELECT @@tx_isolation",
        "mysql": "SELECT @@transaction_isolation",
        "postgresql": "SELECT current_setting('transaction_isolation')",
    }[family]
    assert (await database().fetch_val(text(query))).lower().replace("-", " ") == "read committed"
    bridged(OPTIONS={"isolation_level": level})
    async with database().atomic() as db:
        assert (await db.fetch_val(text(query))).lower() == "serializable"


async def test_server_version_of_the_wrapper_is_known_in_a_receiver(bridged: Any) -> None:
    versions: list[Any] = []

    def ask(connection: Any, **_: Any) -> None:
        versions.append(connection.get_database_version())
        assert connection.features.supports_transactions is not None

    with receiver(ask):
        await database().fetch_val(text("SELECT 1"))
    assert versions[0] > (3,)
