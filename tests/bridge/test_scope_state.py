"""What a scope must not pass on: streams, lost connections, what a statement leaves behind. Found in review."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, ProgrammingError, connection, transaction

from django_bridge import database, run_django, scope

from .content_types import count, create, run

pytestmark = pytest.mark.native_only("it looks at scopes and their pool")


async def test_a_stream_read_on_after_its_scope_is_never_cut_short_in_silence(migrated: Any) -> None:
    await run_django(lambda: [create(f"m{number}") for number in range(60)])
    got = []
    async with scope():
        rows = ContentType.objects.order_by("pk").aiterator(chunk_size=5)
        got.append(await anext(rows))
    try:
        got += [row async for row in rows]
    except Exception:
        return  # refused: nobody takes a part for the whole
    assert len(got) == await ContentType.objects.acount()


async def test_a_stream_left_open_at_the_scopes_end_takes_no_other_connection(migrated: Any) -> None:
    await run_django(lambda: [create(f"m{number}") for number in range(60)])
    async with scope():
        rows = ContentType.objects.order_by("pk").aiterator(chunk_size=5)
        await anext(rows)
    try:
        await anext(rows)
        for _ in range(10):
            await anext(rows)
    except (Exception, StopAsyncIteration):
        pass
    assert database().stats().checked_out == 0


@pytest.mark.families("postgresql")
async def test_a_cursor_with_hold_does_not_go_back_to_the_pool_with_its_connection(migrated: Any) -> None:
    await run_django(lambda: [create(f"m{number}") for number in range(60)])
    async with scope():
        rows = ContentType.objects.order_by("pk").aiterator(chunk_size=5)
        await anext(rows)
    assert await run_django(run, "SELECT count(*) FROM pg_cursors WHERE is_holdable") == [(0,)]


@pytest.mark.families("mariadb", "mysql")
async def test_set_transaction_does_not_fall_upon_the_next_user(migrated: Any) -> None:
    await run_django(run, "SET TRANSACTION READ ONLY")
    await run_django(create, "next")


@pytest.mark.families("postgresql")
async def test_a_setting_behind_a_semicolon_does_not_reach_the_next_user(migrated: Any) -> None:
    await run_django(run, "SELECT 1; SET search_path TO nowhere")
    assert await run_django(run, "SHOW search_path") != [("nowhere",)]


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.parametrize("sql", ["SET @x = 1", "INSERT INTO changes (a) VALUES (1)"])
async def test_a_statement_that_reads_nothing_left_is_not_refused_in_a_thread(sql: str, migrated: Any) -> None:
    await run_django(run, "CREATE TABLE changes (a int)")
    async with scope():
        await sync_to_async(run)(sql)


@pytest.mark.families("mariadb", "mysql")
async def test_callproc_works_in_a_thread(migrated: Any) -> None:
    await run_django(run, "CREATE PROCEDURE review_p(IN a INT, OUT b INT) SET b = a + 1")

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.callproc("review_p", [1, 0])

    async with scope():
        await sync_to_async(work)()


@pytest.mark.families("mariadb", "postgresql", "mysql")
@pytest.mark.parametrize("where", [run_django, None], ids=["loop", "thread"])
async def test_after_a_connection_was_lost_in_a_transaction_the_next_query_has_another(
    where: Any, migrated: Any, family: str
) -> None:
    ask, kill, alive = {
        "mariadb": (
            "SELECT CONNECTION_ID()",
            "KILL %d",
            "SELECT 1 FROM information_schema.processlist WHERE id = %d",
        ),
        "postgresql": (
            "SELECT pg_backend_pid()",
            "SELECT pg_terminate_backend(%d)",
            "SELECT 1 FROM pg_stat_activity WHERE pid = %d",
        ),
    }[family.replace("mysql", "mariadb")]

    def work() -> int:
        with pytest.raises(DatabaseError), transaction.atomic():
            create("lost")
            number = run(ask)[0][0]
            other = connection.copy()
            with other.cursor() as cursor:
                cursor.execute(kill % number)
                until = time.monotonic() + 5
                cursor.execute(alive % number)
                while cursor.fetchall():
                    assert time.monotonic() < until
                    cursor.execute(alive % number)
            other.close()
            count("lost")
        return count("lost")

    async with scope():
        assert await (where(work) if where else sync_to_async(work)()) == 0


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_a_transaction_after_a_closed_manual_one_rolls_back(migrated: Any) -> None:
    def work() -> int:
        connection.set_autocommit(False)
        connection.close()
        try:
            with transaction.atomic():
                create("kept")
                raise LookupError
        except LookupError:
            pass
        return count("kept")

    async with scope():
        assert await run_django(work) == 0


@pytest.mark.families("mariadb", "mysql")
async def test_a_text_that_cannot_be_encoded_does_not_cost_the_transaction(migrated: Any) -> None:
    def work() -> int:
        with transaction.atomic():
            with pytest.raises(ProgrammingError, match="surrogate"), transaction.atomic():
                create("\ud800")
            create("good")
        return count("good")

    assert await run_django(work) == 1


async def test_a_reply_that_comes_as_the_thread_looks_up_is_not_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import Future

    class Late(Future):  # type: ignore[type-arg]
        def result(self, timeout: float | None = None) -> Any:
            if not self.done():
                self.set_result("the reply")
                raise TimeoutError
            return super().result(timeout)

    from django_bridge import loops

    async def work() -> None: ...

    coroutine = work()
    monkeypatch.setattr(loops.asyncio, "run_coroutine_threadsafe", lambda *_: Late())
    assert loops.run_on(asyncio.get_running_loop(), coroutine) == "the reply"  # type: ignore[comparison-overlap]
    coroutine.close()
