"""What a thread holds of the pool, and when it goes back; each thing beside what stock Django does in its place."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.transaction import TransactionManagementError
from django.test import TestCase, TransactionTestCase
from django.test.utils import CaptureQueriesContext

from asyncdb.drivers.physical import Liveness
from asyncdb.errors import ConfigurationError
from django_bridge import threads
from django_bridge.threads.wrappers import LeasedWrapper
from tests.asking import tell, value
from tests.polling import until

from .conftest import Another, Pooled, in_thread

SERVERS = pytest.mark.families("mariadb", "postgresql")
POSTGRESQL = pytest.mark.families("postgresql")
SQLITE = pytest.mark.families("sqlite")
MARIADB = pytest.mark.families("mariadb")


def own_number(pooled: Pooled) -> int:
    """The server's number of this thread's connection."""
    return int(value(pooled.ask("SELECT CONNECTION_ID()", "SELECT pg_backend_pid()", "SELECT 0")))


SETTING = {
    "mysql": ("SET SESSION group_concat_max_len = 7", "SELECT @@group_concat_max_len = 7"),
    "postgresql": ("SET application_name = 'seven'", "SELECT current_setting('application_name') = 'seven'"),
    "sqlite": ("PRAGMA cache_size = 7", "PRAGMA cache_size"),
}


def setting_is_there(pooled: Pooled) -> bool:
    found = value(SETTING[pooled.family][1])
    return bool(found == 7 if pooled.family == "sqlite" else found)


# -- the wrapper stays the project's ---------------------------------------------------------------------------------


def test_the_wrapper_is_the_projects_own_on_its_own_driver(pooled: Pooled) -> None:
    from django.db.utils import load_backend

    project_class = load_backend(connections["default"].settings_dict["ENGINE"]).DatabaseWrapper
    wrapper = connections["default"]
    assert isinstance(wrapper, project_class)
    assert wrapper.__class__ is project_class
    assert isinstance(wrapper, LeasedWrapper)
    with connection.cursor():
        assert type(vars(wrapper)["connection"]).__module__.partition(".")[0] in {"MySQLdb", "psycopg", "sqlite3"}


def test_nothing_changes_while_it_is_off(pooled: Pooled) -> None:
    pooled.stock()
    wrapper = connections["default"]
    assert not isinstance(wrapper, LeasedWrapper)
    assert value("SELECT 1") == 1
    assert threads.stats("default") is None


# -- what goes back --------------------------------------------------------------------------------------------------


def orm(models: Any) -> list[Any]:
    """What a project does; the results are compared with stock's."""
    rows = models.Row.objects
    rows.all().delete()
    made = rows.create(number=1, text="a")
    rows.bulk_create([models.Row(number=number) for number in range(2, 6)])
    made.text = "b"
    made.save()
    seen = [rows.count(), rows.get(number=1).text, list(rows.order_by("number").values_list("number", flat=True))]
    seen.append([row.number for row in rows.order_by("number").iterator(chunk_size=2)])
    seen.append(rows.filter(number__gt=3).update(text="c"))
    seen.append(rows.filter(text="c").exists())
    with contextlib.suppress(IntegrityError):
        models.Named.objects.create(name="same")
        models.Named.objects.create(name="same")
    seen.append(models.Named.objects.count())
    models.Named.objects.all().delete()
    label = models.Label.objects.create(name="x")
    shelf = models.Shelf.objects.create(name="y")
    shelf.labels.add(label)
    models.Item.objects.create(name="z", shelf=shelf)
    seen.extend([list(shelf.labels.values_list("name")), models.Item.objects.select_related("shelf").get().shelf.name])
    seen.append([item.name for item in models.Shelf.objects.prefetch_related("items").get(pk=shelf.pk).items.all()])
    for model in (models.Item, models.Shelf.labels.through, models.Shelf, models.Label):
        model.objects.all()._raw_delete("default")
    return seen


def test_the_orm_does_what_it_does_on_stock_with_the_same_statements(pooled: Pooled) -> None:
    def run() -> tuple[list[Any], list[str]]:
        with CaptureQueriesContext(connection) as captured:
            seen = orm(pooled.models)
        return seen, [query["sql"].split(" ")[0] for query in captured.captured_queries]

    own = run()
    assert pooled.out == 0
    pooled.stock()
    assert run() == own


def test_a_statement_gives_its_connection_back(pooled: Pooled) -> None:
    assert value("SELECT 1") == 1
    assert pooled.out == 0
    assert vars(connections["default"])["connection"] is None
    assert pooled.stats.counts.connects == 1
    assert value("SELECT 1") == 1
    assert pooled.stats.counts.connects == 1


def test_an_open_cursor_keeps_it_and_one_that_is_collected_gives_it_back(pooled: Pooled) -> None:
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    assert pooled.out == 1
    assert cursor.fetchone()[0] == 1
    del cursor
    assert pooled.out == 0


def test_a_cursor_that_another_thread_collects_is_closed_by_its_owner(pooled: Pooled, another: Another) -> None:
    pooled.models.Row.objects.bulk_create([pooled.models.Row(number=number) for number in range(10)])
    rows = [pooled.models.Row.objects.iterator(chunk_size=2)]
    next(rows[0])
    mine = pooled.out

    def collect() -> None:
        rows.clear()
        gc.collect()

    another(collect)
    assert pooled.out == mine
    assert value("SELECT 1") == 1
    assert pooled.out == 0


def test_iterator_keeps_its_connection_and_others_may_be_asked_between(pooled: Pooled) -> None:
    pooled.models.Row.objects.bulk_create([pooled.models.Row(number=number) for number in range(10)])
    rows = pooled.models.Row.objects
    numbers = (row.number for row in rows.order_by("number").iterator(chunk_size=3))
    seen = [(number, rows.filter(number=number).count()) for number in numbers]
    assert seen == [(number, 1) for number in range(10)]
    assert pooled.out == 0


def test_an_iterator_that_is_left_gives_its_connection_back(pooled: Pooled) -> None:
    pooled.models.Row.objects.bulk_create([pooled.models.Row(number=number) for number in range(10)])
    rows = pooled.models.Row.objects.iterator(chunk_size=2)
    next(rows)
    rows.close()
    assert pooled.out == 0


# -- transactions ----------------------------------------------------------------------------------------------------


def test_atomic_keeps_it_to_its_end_and_rolls_back_as_on_stock(pooled: Pooled) -> None:
    rows = pooled.models.Row.objects

    def run() -> int:
        rows.all().delete()
        with transaction.atomic():
            rows.create(number=1)
            with contextlib.suppress(ValueError), transaction.atomic():
                rows.create(number=2)
                raise ValueError
            with transaction.atomic():
                rows.create(number=3)
        with contextlib.suppress(ValueError), transaction.atomic():
            rows.create(number=4)
            raise ValueError
        return [row.number for row in rows.order_by("number")]

    with transaction.atomic():
        rows.create(number=0)
        assert pooled.out == 1
        first = own_number(pooled)
        assert own_number(pooled) == first
    assert pooled.out == 0
    own = run()
    assert own == [1, 3]
    assert pooled.out == 0
    pooled.stock()
    assert run() == own


def test_nothing_of_a_transaction_is_seen_before_its_end(pooled: Pooled, another: Another) -> None:
    rows = pooled.models.Row.objects
    with transaction.atomic():
        rows.create(number=1)
        assert another(rows.count) == 0
    assert another(rows.count) == 1


def test_on_commit_runs_after_the_commit_and_holds_no_connection(pooled: Pooled, another: Another) -> None:
    seen: list[Any] = []

    def hook() -> None:
        seen.append((pooled.out, another(pooled.models.Row.objects.count), pooled.models.Row.objects.count()))

    with transaction.atomic():
        pooled.models.Row.objects.create(number=1)
        transaction.on_commit(hook)
        assert seen == []
    assert seen == [(0, 1, 1)]
    transaction.on_commit(lambda: seen.append("now"))
    assert seen[1:] == ["now"]


def test_a_transaction_by_hand_keeps_it_until_autocommit_is_on_again(pooled: Pooled, another: Another) -> None:
    rows = pooled.models.Row.objects
    transaction.set_autocommit(False)
    rows.create(number=1)
    assert pooled.out == 1
    assert another(rows.count) == 0
    transaction.commit()
    rows.create(number=2)
    transaction.rollback()
    transaction.set_autocommit(True)
    assert pooled.out == 0
    assert another(rows.count) == 1


def test_a_transaction_that_sql_begins_keeps_it(pooled: Pooled, another: Another) -> None:
    rows = pooled.models.Row.objects
    tell(pooled.ask("START TRANSACTION", "BEGIN", "BEGIN"))
    rows.create(number=1)
    assert pooled.out == 1
    assert another(rows.count) == 0
    tell("COMMIT")
    assert another(rows.count) == 1
    assert pooled.out == 0


def test_closing_within_atomic_is_as_on_stock(pooled: Pooled) -> None:
    def run() -> list[str]:
        seen: list[str] = []
        try:
            with transaction.atomic():
                pooled.models.Row.objects.create(number=1)
                connection.close()
                try:
                    pooled.models.Row.objects.count()
                except Exception as err:
                    seen.append(type(err).__name__)
        except Exception as err:
            seen.append(type(err).__name__)
        return [*seen, str(pooled.models.Row.objects.count())]

    own = run()
    assert pooled.out == 0
    pooled.stock()
    assert own == run()


# -- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_of_the_server_gives_the_connection_back(pooled: Pooled) -> None:
    with pytest.raises(DatabaseError):
        tell("SELECT nonsense FROM nowhere")
    assert value("SELECT 1") == 1
    assert pooled.out == 0
    assert pooled.stats.counts.connects == 1


def test_what_interrupts_a_statement_closes_the_connection(pooled: Pooled) -> None:
    class Interrupt(BaseException):
        """A signal's, say."""

    with pytest.raises(Interrupt), connection.cursor() as cursor:

        def interrupted(*_: Any) -> None:
            raise Interrupt

        cursor.cursor = type("Driver", (), {"execute": interrupted, "close": cursor.cursor.close})()
        cursor.execute("SELECT 1")
    assert pooled.out == 0
    assert pooled.stats.idle == 0
    assert value("SELECT 1") == 1


@SERVERS
def test_a_connection_that_the_server_killed_costs_no_error(pooled: Pooled) -> None:
    value("SELECT 1")
    pooled.kill()
    assert value("SELECT 1") == 1
    assert pooled.stats.counts.found_dead == 1


@SERVERS
def test_one_that_is_killed_in_use_raises_as_on_stock_and_the_next_statement_is_served(pooled: Pooled) -> None:
    def run() -> str:
        with pytest.raises(DatabaseError) as raised, transaction.atomic():
            value("SELECT 1")
            pooled.kill()
            value("SELECT 1")
        close_old_connections()
        assert value("SELECT 1") == 1
        return raised.type.__name__

    own = run()
    assert pooled.out == 0
    pooled.stock()
    assert run() == own


@SERVERS
def test_a_ping_finds_what_the_socket_does_not_tell(pooled: Pooled) -> None:
    pooled.use(ping_after=0.0)
    value("SELECT 1")
    place = connections["default"]._lease.last
    place.facts.look = lambda: Liveness.WHOLE
    pooled.kill()
    assert value("SELECT 1") == 1
    assert (pooled.stats.counts.pings, pooled.stats.counts.found_dead) == (1, 1)


@SQLITE
def test_a_file_that_was_replaced_is_opened_anew(pooled: Pooled) -> None:
    name = Path(connections["default"].settings_dict["NAME"])
    tell("CREATE TABLE old (id integer)")
    name.rename(f"{name}.old")
    with pytest.raises(OperationalError):
        value("SELECT COUNT(*) FROM old")


# -- session state ---------------------------------------------------------------------------------------------------


def test_a_setting_stays_with_its_thread_and_nobody_else_meets_it(pooled: Pooled, another: Another) -> None:
    tell(SETTING[pooled.family][0])
    assert pooled.out == 1
    assert setting_is_there(pooled)
    assert not another(setting_is_there, pooled)
    assert setting_is_there(pooled)
    close_old_connections()
    assert pooled.out == 0
    assert [another(setting_is_there, pooled) for _ in range(3)] == [False] * 3
    assert not setting_is_there(pooled)


def test_a_temporary_table_stays_with_its_thread_and_nobody_else_meets_it(pooled: Pooled, another: Another) -> None:
    def is_there() -> bool:
        try:
            return value("SELECT COUNT(*) FROM mine") == 1
        except DatabaseError:
            return False

    tell("CREATE TEMPORARY TABLE mine (id integer)")
    tell("INSERT INTO mine VALUES (1)")
    assert is_there()
    assert not another(is_there)
    assert is_there()
    connection.close()
    assert pooled.out == 0
    assert not is_there()
    assert not another(is_there)


@MARIADB
def test_what_the_last_statement_left_is_refused_where_another_thread_had_the_connection(
    pooled: Pooled, another: Another
) -> None:
    pooled.use(size=1)
    pooled.models.Row.objects.create(number=1)
    assert value("SELECT LAST_INSERT_ID()") == pooled.models.Row.objects.get().pk
    another(pooled.models.Row.objects.count)
    with pytest.raises(TransactionManagementError, match="went to another one"):
        value("SELECT LAST_INSERT_ID()")
    with transaction.atomic():
        made = pooled.models.Row.objects.create(number=2)
        assert value("SELECT LAST_INSERT_ID()") == made.pk


@MARIADB
def test_what_the_last_statement_left_is_refused_where_the_connection_was_replaced(pooled: Pooled) -> None:
    pooled.models.Row.objects.create(number=1)
    pooled.kill()
    with pytest.raises(TransactionManagementError, match="went to another one"):
        value("SELECT LAST_INSERT_ID()")
    pooled.kill()
    close_old_connections()
    assert value("SELECT LAST_INSERT_ID()") == 0, "a new request has left nothing yet"


def session(pooled: Pooled) -> dict[str, Any]:
    """Everything that the server says of this session, but for what every session has for itself."""
    own = {
        "gtid_seq_no", "identity", "last_insert_id", "pseudo_thread_id", "rand_seed1", "rand_seed2", "timestamp",
        "warning_count", "error_count", "in_transaction", "last_gtid",
    }  # fmt: skip
    asks = pooled.ask("SHOW SESSION VARIABLES", "SELECT name, setting FROM pg_settings", "SELECT 1, 2")
    with connection.cursor() as cursor:
        cursor.execute(asks)
        return {name: setting for name, setting in cursor.fetchall() if name not in own}


@SERVERS
def test_a_connection_that_was_reset_is_as_a_new_one(pooled: Pooled) -> None:
    options = {
        "mysql": {
            "init_command": "SET SESSION max_sort_length = 99",
            "sql_mode": "ANSI",
            "charset": "utf8mb4",
            "isolation_level": "repeatable read",
        },
        "postgresql": {"options": "-c work_mem=123kB", "isolation_level": 3},
    }[pooled.family]
    pooled.use(size=1, OPTIONS=options)
    new = session(pooled)
    number = own_number(pooled)
    if pooled.family == "mysql":
        assert (new["max_sort_length"], "ANSI_QUOTES" in new["sql_mode"]) == ("99", True)
        tell("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        tell("SET SESSION sql_mode = '', max_sort_length = 77, autocommit = 0, time_zone = '+03:00', @a = 1")
        tell("SET NAMES latin1")
        tell("SELECT GET_LOCK('mine', 1)")
    else:
        tell("SET TIME ZONE 'Asia/Tokyo'")
        tell("SET work_mem = '999kB'")
        tell("SELECT pg_advisory_lock(7)")
    assert session(pooled) != new
    connection.close()
    assert session(pooled) == new
    assert own_number(pooled) == number
    assert pooled.stats.counts.reset == 1
    assert pooled.models.Row.objects.create(text="ä").text == "ä"


@POSTGRESQL
def test_time_zone_and_role_are_made_anew(pooled: Pooled) -> None:
    user = connections["default"].settings_dict["USER"]
    pooled.use(size=1, OPTIONS={"assume_role": user}, TIME_ZONE="Asia/Tokyo")
    number = own_number(pooled)
    tell("RESET ROLE")
    tell("SET TIME ZONE 'Asia/Seoul'")
    close_old_connections()
    assert value("SELECT current_setting('role') || current_setting('TimeZone')") == f"{user}Asia/Tokyo"
    assert own_number(pooled) == number


def test_what_is_set_on_the_drivers_object_goes_with_it(pooled: Pooled, another: Another) -> None:
    with connection.cursor():
        raw = connection.connection
        if pooled.family == "mysql":
            raw.encoders = {**raw.encoders, complex: lambda *_: "0"}
        elif pooled.family == "postgresql":
            raw.add_notice_handler(print)
        else:
            raw.row_factory = lambda *_: ("changed",)
        del raw
    assert pooled.out == 1, "who has asked for the driver's connection keeps it as on stock"
    close_old_connections()
    assert pooled.out == 0
    assert pooled.stats.idle == 0
    assert another(value, "SELECT 1") == 1


def test_a_raw_cursor_of_the_drivers_keeps_the_connection(pooled: Pooled, another: Another) -> None:
    connection.ensure_connection()
    raw = connection.connection.cursor()
    assert value("SELECT 1") == 1
    assert pooled.out == 1
    raw.execute("SELECT 2")
    assert raw.fetchone()[0] == 2
    raw.close()
    connection.close()
    assert pooled.out == 0


@POSTGRESQL
def test_a_projects_function_that_may_leave_something_is_told_from_one_that_does_not(pooled: Pooled) -> None:
    tell("CREATE FUNCTION harmless(n integer) RETURNS integer LANGUAGE sql STABLE AS 'SELECT n'")
    tell(
        "CREATE FUNCTION leaves() RETURNS text LANGUAGE sql VOLATILE "
        "AS $$SELECT set_config('application_name', 'left', false)$$"
    )
    close_old_connections()
    assert value("SELECT harmless(1) + length(upper('a'))") == 2
    assert pooled.out == 0
    value("SELECT leaves()")
    assert pooled.out == 1
    close_old_connections()
    assert value("SELECT current_setting('application_name')") != "left"


# -- the end of a request, of a thread -------------------------------------------------------------------------------


def test_by_request_a_connection_stays_until_the_request_ends(pooled: Pooled) -> None:
    pooled.use(thread_pool_release="request")
    assert value("SELECT 1") == 1
    assert pooled.out == 1
    assert value("SELECT 1") == 1
    close_old_connections()
    assert pooled.out == 0
    assert pooled.stats.idle == 1


def test_conn_max_age_and_health_checks_do_no_harm(pooled: Pooled) -> None:
    for age in (0, 60, None):
        pooled.use(CONN_MAX_AGE=age, CONN_HEALTH_CHECKS=True)
        for _ in range(3):
            close_old_connections()
            assert value("SELECT 1") == 1
            close_old_connections()
        assert pooled.stats.counts.connects == 1, age


def test_more_threads_than_connections_are_all_served(pooled: Pooled) -> None:
    pooled.use(size=2)
    pooled.models.Row.objects.create(number=0)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                with transaction.atomic():
                    row = pooled.models.Row.objects.select_for_update().get()
                    row.number += 1
                    row.save()
                assert pooled.models.Row.objects.count() == 1
        except BaseException as err:
            errors.append(err)
        finally:
            connections.close_all()

    if pooled.family == "sqlite":
        pooled.use(size=2, OPTIONS={"transaction_mode": "IMMEDIATE", "timeout": 30})
    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert errors == []
    assert pooled.models.Row.objects.get().number == 40
    assert pooled.stats.counts.connects <= 2
    assert pooled.stats.size == 2


def test_a_thread_that_dies_in_a_transaction_gives_its_place_back_and_nothing_is_committed(pooled: Pooled) -> None:
    pooled.use(size=1)

    def die() -> None:
        transaction.set_autocommit(False)
        pooled.models.Row.objects.create(number=1)

    in_thread(die)
    until(lambda: pooled.out == 0)
    until(lambda: pooled.models.Row.objects.count() == 0)
    pooled.models.Row.objects.create(number=2)


def test_threads_that_live_for_one_request_leave_no_connection_behind(pooled: Pooled) -> None:
    for _ in range(20):
        assert in_thread(value, "SELECT 1") == 1
    assert pooled.stats.counts.connects == 1
    assert (pooled.out, pooled.stats.idle) == (0, 1)


def test_a_thread_that_waits_too_long_gets_djangos_error_with_the_numbers(pooled: Pooled, another: Another) -> None:
    pooled.use(size=1, thread_pool_timeout=0.05)
    with transaction.atomic():
        value("SELECT 1")
        with pytest.raises(OperationalError, match="size 1, checked out 1, waiting 1"):
            another(value, "SELECT 1")
    assert another(value, "SELECT 1") == 1


def test_a_thread_that_would_wait_for_itself_is_told_at_once(pooled: Pooled) -> None:
    pooled.use(size=1)
    beside = connections["default"].copy()
    with transaction.atomic():
        value("SELECT 1")
        with pytest.raises(OperationalError, match="waits for a further one"):
            beside.cursor()
    with beside.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert pooled.out == 0


def test_a_connection_that_is_shared_with_threads_stays(pooled: Pooled, another: Another) -> None:
    wrapper = connections["default"]
    wrapper.inc_thread_sharing()
    try:
        assert value("SELECT 1") == 1
        assert pooled.out == 1

        def use() -> int:
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT 2")
                return int(cursor.fetchone()[0])

        assert another(use) == 2
        assert pooled.out == 1
    finally:
        wrapper.dec_thread_sharing()
    connection.close()
    assert pooled.out == 0


def test_a_wrapper_that_is_dropped_gives_its_place_back(pooled: Pooled) -> None:
    pooled.use(size=1)
    tell(SETTING[pooled.family][0])
    assert pooled.out == 1
    del connections["default"]
    gc.collect()
    assert pooled.out == 0
    assert value("SELECT 1") == 1


def test_the_event_loop_is_refused_as_on_stock(pooled: Pooled) -> None:
    import asyncio

    async def ask() -> None:
        connections["default"].cursor()

    async def connect() -> None:
        connections["default"].connect()

    for refused in (ask, connect):
        with pytest.raises(SynchronousOnlyOperation):
            asyncio.run(refused())


# -- what Django does for each connection ----------------------------------------------------------------------------


def test_connection_created_is_sent_as_by_the_projects_class_for_each_pair(pooled: Pooled, another: Another) -> None:
    pooled.use(size=1)
    told: list[Any] = []

    def receiver(sender: Any, connection: Any, **_: Any) -> None:
        told.append((sender, connection))
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    project_class = connections["default"].__class__
    connection_created.connect(receiver, sender=project_class)
    try:
        value("SELECT 1")
        value("SELECT 1")
        assert len(told) == 1
        assert pooled.out == 1  # nobody knows what a receiver has set, and for whom: until the request ends
        close_old_connections()
        another(value, "SELECT 1")
        another(value, "SELECT 1")
        assert [sender for sender, _ in told] == [project_class] * 2
        assert told[0][1] is not told[1][1]
        assert pooled.stats.counts.connects == 2
        another(close_old_connections)
    finally:
        connection_created.disconnect(receiver, sender=project_class)


def test_a_second_thread_is_told_what_the_first_one_asked_the_server(pooled: Pooled, another: Another) -> None:
    pooled.use(size=1)
    value("SELECT 1")

    def logged() -> list[str]:
        with CaptureQueriesContext(connection) as captured, transaction.atomic():
            pooled.models.Row.objects.count()
        return [query["sql"].partition(" ")[0] for query in captured.captured_queries]

    assert another(logged) == ["BEGIN", "SELECT", "COMMIT"]


def test_settings_that_change_are_followed(pooled: Pooled) -> None:
    value("SELECT 1")
    settings = connections["default"].settings_dict
    options = dict(settings["OPTIONS"])
    settings["OPTIONS"] = {**options, **({"timeout": 7} if pooled.family == "sqlite" else {"connect_timeout": 7})}
    assert value("SELECT 1") == 1
    assert (pooled.stats.counts.connects, pooled.stats.counts.recycled) == (2, 1)
    settings["OPTIONS"] = options


def test_a_copy_with_other_settings_has_a_connection_of_its_own(pooled: Pooled) -> None:
    beside = connections["default"].copy()
    beside.settings_dict["CONN_MAX_AGE"] = 99
    with beside.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert threads.stats("default") is None
    assert beside.connection is not None
    beside.close()


@SERVERS
def test_a_database_can_be_created_and_dropped_beside_idle_connections(pooled: Pooled) -> None:
    value("SELECT 1")
    assert pooled.stats.idle == 1
    with connections["default"]._nodb_cursor() as cursor:
        assert pooled.stats.idle == 0
        cursor.execute("SELECT 1")


@SQLITE
def test_sqlite_in_memory_stays_off_the_pool(pooled: Pooled) -> None:
    pooled.use(NAME=":memory:")
    tell("CREATE TABLE here (id integer)")
    close_old_connections()
    assert value("SELECT COUNT(*) FROM here") == 0
    assert threads.stats("default") is None
    BaseDatabaseWrapper.close(connections["default"])  # which SQLite's own does not do to a database in memory


# -- refusals --------------------------------------------------------------------------------------------------------


@POSTGRESQL
def test_djangos_own_pool_beside_this_one_is_refused_by_name(pooled: Pooled) -> None:
    pooled.use(OPTIONS={"pool": True})
    with pytest.raises(ConfigurationError, match=r"two pools.*OPTIONS\['pool'\].*'thread_pool'"):
        connection.cursor()


def test_gevent_is_refused_by_name(pooled: Pooled, monkeypatch: pytest.MonkeyPatch) -> None:
    gevent = type(sys)("gevent.monkey")
    gevent.is_module_patched = lambda _: True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gevent.monkey", gevent)
    with pytest.raises(ConfigurationError, match="gevent has patched this process"):
        connection.cursor()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("thread_pool", "yes"),
        ("thread_pool_size", 0),
        ("thread_pool_timeout", -1),
        ("thread_pool_release", "never"),
    ],
)
def test_a_wrong_setting_is_named(pooled: Pooled, name: str, wrong: Any) -> None:
    pooled.use(**{name: wrong})
    with pytest.raises(ConfigurationError, match=rf"ASYNC_DB\['default'\]\['{name}'\] must be"):
        connection.cursor()


# -- tests, fork -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TestCase, TransactionTestCase])
def test_djangos_test_cases_run_as_on_stock(pooled: Pooled, kind: Any) -> None:
    rows = pooled.models.Row.objects
    seen: list[Any] = []

    class Case(kind):  # type: ignore[misc]
        def test_one(self) -> None:
            rows.create(number=1)
            with self.assertNumQueries(1):
                seen.append(rows.count())
            with contextlib.suppress(ValueError), transaction.atomic():
                rows.create(number=2)
                raise ValueError
            seen.append(rows.count())

        test_two = test_one

        def _fixture_teardown(self) -> None:
            if kind is TransactionTestCase:
                rows.all().delete()  # flush asks for the tables of every application
            else:
                super()._fixture_teardown()

    import unittest

    def run() -> list[Any]:
        seen.clear()
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
        assert result.errors == result.failures == []
        assert result.testsRun == 2
        assert rows.count() == 0
        return list(seen)

    own = run()
    assert pooled.out == 0
    pooled.stock()
    assert run() == own == [1, 1, 1, 1]


def test_a_child_process_closes_nothing_of_its_parents(pooled: Pooled) -> None:
    mine = own_number(pooled)
    read, write = os.pipe()
    with transaction.atomic():  # one connection is in use as the process forks, and one is idle
        held = own_number(pooled)
        in_thread(lambda: (value("SELECT 1"), connections.close_all()))
        idle = pooled.stats.idle
        pid = os.fork()
        if pid == 0:
            _child(write, pooled)
        os.close(write)
        with os.fdopen(read) as answers:
            answer = answers.read()
        assert os.waitpid(pid, 0)[1] == 0, answer
        assert own_number(pooled) == held
    assert idle == 1
    assert answer.startswith("0 0 "), answer
    assert pooled.stats.idle == 2
    if pooled.server is not None:
        theirs = int(answer.split()[2])
        assert theirs not in {mine, held}
    for _ in range(2):
        assert value("SELECT 1") == 1
    assert pooled.stats.counts.found_dead == 0


def _child(write: int, pooled: Pooled) -> None:
    code = 1
    try:
        stats = pooled.stats
        before = f"{stats.checked_out} {stats.idle}"
        with pytest.raises(DatabaseError):
            value("SELECT 1")  # the transaction is the parent's
        found: list[int] = []
        thread = threading.Thread(target=lambda: (found.append(own_number(pooled)), connections.close_all()))
        thread.start()
        thread.join(20)
        gc.collect()
        threads.close_pools()
        os.write(write, f"{before} {found[0]}".encode())
        code = 0
    except BaseException:
        os.write(write, traceback.format_exc().encode())
    finally:
        os._exit(code)


# -- time ------------------------------------------------------------------------------------------------------------


def test_an_old_connection_is_replaced(pooled: Pooled) -> None:
    value("SELECT 1")
    place = connections["default"]._lease.last
    assert 0.9 * 1800 * 0.9 < place.facts.expires - time.monotonic() <= 1800
    place.facts.expires = 0.0
    value("SELECT 1")
    assert (pooled.stats.counts.connects, pooled.stats.counts.recycled) == (2, 1)


@SERVERS
def test_no_connection_gets_older_than_the_servers_own_idle_limit(pooled: Pooled) -> None:
    if pooled.family == "mysql":
        pooled.use(OPTIONS={"init_command": "SET SESSION wait_timeout = 100"})
    else:
        pooled.use(OPTIONS={"options": "-c idle_session_timeout=100s"})
    value("SELECT 1")
    assert connections["default"]._lease.last.facts.expires - time.monotonic() <= 90


# -- what a hostile look has found -----------------------------------------------------------------------------------


def test_a_hook_that_fails_or_asks_does_not_spoil_the_next_connection(pooled: Pooled, another: Another) -> None:
    models = pooled.models
    seen: list[int] = []

    def fails() -> None:
        raise ZeroDivisionError

    pooled.use(size=2)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        models.Row.objects.create(number=1)
        transaction.on_commit(fails)
    close_old_connections()
    threads.close_pools()
    assert models.Row.objects.count() == 1

    def asks_anew() -> None:
        close_old_connections()
        threads.close_pools()  # so that the hook's own query opens a connection
        seen.append(models.Row.objects.count())

    with transaction.atomic():
        models.Row.objects.create(number=2)
        transaction.on_commit(asks_anew)
        transaction.on_commit(lambda: seen.append(models.Row.objects.count()))
    assert seen == [2, 2]
    models.Row.objects.all().delete()


@SERVERS
def test_what_a_receiver_has_set_for_one_thread_no_other_meets(pooled: Pooled, another: Another) -> None:
    pooled.use(size=1)
    whose = threading.local()
    ask = pooled.ask("SELECT @@group_concat_max_len", "SELECT current_setting('application_name')", "")

    def receiver(connection: Any, **_: Any) -> None:
        if (name := getattr(whose, "name", None)) is not None:
            with connection.cursor() as cursor:
                cursor.execute(
                    pooled.ask(f"SET SESSION group_concat_max_len = {name}", f"SET application_name = '{name}'", "")
                )

    def request(name: int | None) -> str:
        whose.name = name
        try:
            return str(value(ask))
        finally:
            close_old_connections()

    connection_created.connect(receiver)
    try:
        assert request(7001) == "7001"
        assert another(request, 7002) == "7002"
        assert request(7003) == "7003"
        assert another(request, None) not in {"7001", "7002", "7003"}
    finally:
        connection_created.disconnect(receiver)


@SERVERS
@pytest.mark.parametrize("begin", ["/* c */ BEGIN", "-- c\nBEGIN", "/* c */ START TRANSACTION"])
def test_a_transaction_begun_behind_a_comment_is_its_threads(pooled: Pooled, another: Another, begin: str) -> None:
    pooled.use(size=2)
    models = pooled.models
    tell(begin)
    tell(f"INSERT INTO {models.Named._meta.db_table} (name) VALUES ('open')")
    assert another(models.Named.objects.count) == 0
    tell("ROLLBACK")
    assert models.Named.objects.count() == 0
    assert pooled.out == 0


@MARIADB
def test_a_commit_that_chains_begins_the_next_transaction(pooled: Pooled, another: Another) -> None:
    pooled.use(size=2)
    models = pooled.models
    tell("BEGIN")
    tell("COMMIT AND CHAIN")
    tell(f"INSERT INTO {models.Named._meta.db_table} (name) VALUES ('open')")
    assert another(models.Named.objects.count) == 0
    tell("ROLLBACK")
    assert models.Named.objects.count() == 0


@MARIADB
@pytest.mark.parametrize("ask", ["SELECT LAST_INSERT_ID()", "SELECT @@identity", "SELECT @@last_insert_id"])
def test_anothers_last_id_is_refused_also_after_a_statement_that_makes_none(
    pooled: Pooled, another: Another, ask: str
) -> None:
    pooled.use(size=1)
    pooled.models.Row.objects.create(number=1)
    another(lambda: pooled.models.Row.objects.create(number=2))
    with pytest.raises(TransactionManagementError, match="earlier one left"), transaction.atomic():
        tell("SELECT 1")
        tell(ask)
    with transaction.atomic():
        made = pooled.models.Row.objects.create(number=3)
        assert value(ask) == made.pk
    pooled.models.Row.objects.all().delete()


@SQLITE
def test_what_the_drivers_cursor_does_by_itself_is_met_by_nobody(pooled: Pooled, another: Another) -> None:
    pooled.use(size=1)
    with connection.cursor() as cursor:
        cursor.executescript("PRAGMA foreign_keys = off; CREATE TEMP TABLE tt (id int)")
    assert pooled.out == 1
    close_old_connections()
    assert another(value, "PRAGMA foreign_keys") == 1
    assert another(value, "SELECT COUNT(*) FROM sqlite_temp_master") == 0


@POSTGRESQL
def test_a_setting_made_through_pg_settings_is_its_threads(pooled: Pooled, another: Another) -> None:
    pooled.use(size=1)
    tell("UPDATE pg_settings SET setting = '5000' WHERE name = 'statement_timeout'")
    assert pooled.out == 1
    close_old_connections()
    assert another(value, "SHOW statement_timeout") == "0"


@SQLITE
def test_an_exception_from_outside_costs_neither_the_lock_nor_a_place(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.threads.interrupted", str(tmp_path / "db.sqlite3")],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.strip() == "often the place is there", ran.stdout + ran.stderr[-3000:]
