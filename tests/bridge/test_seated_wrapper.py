"""Django's wrapper on a seat answers what Django's own tests ask of Django's wrapper."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_bridge import run_django, scope

pytestmark = pytest.mark.native_only("it looks at a wrapper on a seat")


@pytest.fixture
async def visits(bridged: Any, django_db_blocker: Any) -> AsyncIterator[None]:
    """A database of the family with the table ``visit``, whose number is the key."""
    with django_db_blocker.unblock():
        await run_django(_execute, "CREATE TABLE visit (number INTEGER PRIMARY KEY)")
        yield


def _execute(statement: str, *args: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, *args)
        return list(cursor.fetchall()) if cursor.description else []


def _add_twice() -> None:
    with transaction.atomic():
        _execute("INSERT INTO visit VALUES (1)")
        try:
            _execute("INSERT INTO visit VALUES (1)")
        except IntegrityError:
            connection.needs_rollback = False  # as code does that catches it below atomic()


@pytest.mark.families("postgresql")
async def test_a_commit_after_a_caught_error_rolls_back_as_djangos_does(visits: None, caplog: Any) -> None:
    await run_django(_add_twice)

    assert await run_django(_execute, "SELECT COUNT(*) FROM visit") == [(0,)]
    assert "rolls it back" in caplog.text


@pytest.mark.families("mariadb", "mysql")
async def test_values_are_escaped_as_mysqlclient_does(visits: None) -> None:
    def escaped() -> list[Any]:
        with connection.schema_editor() as editor:
            return [editor.quote_value(value) for value in ("it's", b"it's", 42, 1.754, False)]

    assert await run_django(escaped) == [r"'it\'s'", rb"'it\'s'", "42", "1.754e0", b"0"]


@pytest.mark.families("mariadb", "sqlite", "mysql")
async def test_bytes_are_bound(visits: None) -> None:
    def bound() -> Any:
        return connection.Database.Binary(b"\x00'\xff")

    assert bytes(await run_django(bound)) == b"\x00'\xff"


async def test_whoever_closed_the_connection_hears_of_the_next_one(visits: None) -> None:
    seen: list[Any] = []

    def note(connection: Any, **_: Any) -> None:
        seen.append(connection.connection)

    def close() -> bool:
        _execute("SELECT 1")
        usable = connection.is_usable()
        connection.close()
        connection_created.connect(note)
        try:
            _execute("SELECT 1")
            _execute("SELECT 1")
        finally:
            connection_created.disconnect(note)
        assert seen[-1] is connection.connection
        return usable and connection.is_usable()

    assert await run_django(close)
    assert 1 <= len(seen) <= 2


async def test_an_unhealthy_connection_is_replaced_when_django_looks(visits: None, monkeypatch: Any) -> None:
    def looked() -> tuple[Any, Any]:
        _execute("SELECT 1")
        before = connection.seat.link
        connection.health_checks_enabled = True
        connection.close_if_unusable_or_obsolete()
        assert connection.seat.link is before
        with monkeypatch.context() as patched:
            patched.setattr(connection, "is_usable", lambda: False)
            _execute("SELECT 1")
        return before, connection.seat.link

    before, after = await run_django(looked)
    assert before is not after


async def test_ensure_connection_that_was_taken_before_somebody_replaced_it_is_djangos(
    visits: None, monkeypatch: Any
) -> None:
    def work() -> int:
        wrapper = connections["default"]
        wrapper.close()
        before = wrapper.ensure_connection
        asked: list[str] = []

        def replacement(*_: Any) -> None:
            asked.append("asked")
            before()

        monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", replacement)
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
        return len(asked)

    async with scope():
        assert await run_django(work) > 0


async def test_what_stands_for_ensure_connection_is_asked_on_a_seat_too(visits: None, monkeypatch: Any) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError("not in this test")

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
    with pytest.raises(RuntimeError, match="not in this test"):
        await run_django(_execute, "SELECT 1")


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_a_thread_that_closes_what_it_was_handed_closes_it_for_both(visits: None) -> None:
    def lent() -> Any:
        _execute("SELECT 1")
        handed = connections["default"]
        handed.inc_thread_sharing()

        def serve() -> None:
            connections["default"] = handed
            connections.close_all()

        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()
        return handed.connection

    async with scope():
        assert await run_django(lent) is None
        assert await run_django(_execute, "SELECT 1") == [(1,)]


async def test_a_thread_uses_the_very_connection_of_a_database_in_memory(project: Any, django_db_blocker: Any) -> None:
    engine = "django.db.backends.sqlite3"
    project(DATABASES={"default": {"ENGINE": engine, "NAME": "file:lent?mode=memory&cache=shared"}})

    def lent() -> list[Any]:
        found: list[Any] = []
        _execute("CREATE TABLE visit (number INTEGER)")
        handed = connections["default"]
        handed.inc_thread_sharing()

        def serve() -> None:
            connections["default"] = handed
            found.extend(_execute("INSERT INTO visit VALUES (1) RETURNING number"))

        with handed.cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            thread = threading.Thread(target=serve)
            thread.start()
            thread.join()
            cursor.execute("ROLLBACK")
        return found

    with django_db_blocker.unblock():
        async with scope():
            assert await run_django(lent) == [(1,)]
