"""Nothing outlives its owner: sessions after their block, streams left early, what was forgotten, what was set."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import literal, select, union_all

from asyncdb import Database, DatabaseConfig, Session
from asyncdb.errors import TransactionMisuse
from django_bridge import atomic, database, run_django, session
from tests.bridge.shared import Kind

ROWS = union_all(*(select(literal(number).label("n")) for number in range(40)))


@pytest.fixture
async def small(database_config: DatabaseConfig) -> AsyncIterator[Database]:
    """A database with a pool of two, which must be whole afterwards."""
    database = Database(database_config.model_copy(update={"pool_size": 2, "max_overflow": 0, "pool_timeout": 10.0}))
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The garbage collector does not run by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# -- a session after its block -----------------------------------------------------------------------------------------


async def _adds_and_flushes(db: Session) -> None:
    db.add(Kind(app_label="a", model="m"))
    await db.flush()


async def _streams(db: Session) -> None:
    async for _ in db.stream(select(1)):
        pass


async def _awaits(stream: Any) -> None:
    await stream


async def _begins(db: Session) -> None:
    async with db.begin():
        pass


async def _sets_a_savepoint(db: Session) -> None:
    async with db.begin_nested():
        pass


USES: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "execute": lambda db: db.execute(select(1)),
    "scalar": lambda db: db.scalar(select(1)),
    "scalars": lambda db: db.scalars(select(1)),
    "get": lambda db: db.get(Kind, 1),
    "fetch_all": lambda db: db.fetch_all(select(1), into=int),
    "fetch_val": lambda db: db.fetch_val(select(1)),
    "stream": _streams,
    "await stream": lambda db: _awaits(db.stream(select(1))),
    "stream_scalars": lambda db: db.stream_scalars(select(1)),
    "add and flush": _adds_and_flushes,
    "flush": lambda db: db.flush(),
    "refresh": lambda db: db.refresh(Kind(app_label="a", model="m")),
    "merge": lambda db: db.merge(Kind(id=1, app_label="a", model="m")),
    "run_sync": lambda db: db.run_sync(lambda sync: sync.execute(select(1))),
    "connection": lambda db: db.connection(),
    "begin": _begins,
    "begin_nested": _sets_a_savepoint,
    "commit": lambda db: db.commit(),
}


@pytest.mark.parametrize("use", USES)
async def test_a_session_used_after_its_block_says_so_and_what_to_do(small: Database, use: str) -> None:
    async with small.session() as db:
        await db.execute(select(1))
    with pytest.raises(TransactionMisuse, match="block of this session is over: open another one"):
        await USES[use](db)
    assert small.stats().checked_out == 0


@pytest.mark.parametrize("use", ["execute", "get", "stream", "add and flush", "run_sync", "connection", "begin_nested"])
async def test_the_session_of_an_atomic_block_is_over_with_it(small: Database, use: str) -> None:
    async with small.atomic() as db:
        await db.execute(select(1))
    with pytest.raises(TransactionMisuse, match=r"is over"):
        await USES[use](db)
    assert small.stats().checked_out == 0


@pytest.mark.parametrize("block", [session, atomic])
@pytest.mark.parametrize("use", ["execute", "get", "stream", "add and flush", "run_sync", "connection", "begin_nested"])
async def test_a_session_of_the_bridge_is_over_with_its_block(tx: Any, block: Any, use: str) -> None:
    async with block() as db:
        await db.execute(select(1))
    with pytest.raises(TransactionMisuse, match=r"is over"):
        await USES[use](db)


async def test_a_streaming_body_that_outlives_its_session_names_the_remedy(tx: Any) -> None:
    async def view() -> AsyncIterator[int]:
        async with session() as db:
            return aiter(db.stream(ROWS, into=int))

    body = await view()
    with pytest.raises(TransactionMisuse, match=r"database\(\)\.stream\(\) there, or open the session inside"):
        await anext(body)


async def test_a_stream_that_goes_on_after_its_block_is_an_error_and_no_end(small: Database) -> None:
    async with small.session() as db:
        rows = aiter(db.stream(ROWS, into=int, batch=2))
        await anext(rows)
    with pytest.raises(TransactionMisuse, match="is over"):
        async for _ in rows:
            pass
    assert small.stats().checked_out == 0


@pytest.mark.families("sqlite")
async def test_a_block_that_was_not_entered_says_how_it_is(small: Database, tx: Any) -> None:
    for block in (small.session(), small.atomic(), session(), atomic()):
        with pytest.raises(AttributeError, match="async with session"):
            block.execute  # noqa: B018
        assert not hasattr(block, "nothing_of_a_session")


# -- streams that are left early ---------------------------------------------------------------------------------------


async def _returns(small: Database) -> None:
    async for _ in small.stream(ROWS, into=int, batch=2):
        return


async def _breaks(small: Database) -> None:
    async for _ in small.stream(ROWS, into=int, batch=2):
        break


async def _raises(small: Database) -> None:
    rows = small.stream(ROWS, into=int, batch=2)
    async for _ in rows:
        raise ValueError  # whose traceback keeps ``rows``


async def _is_cancelled(small: Database) -> None:
    rows = small.stream(ROWS, into=int, batch=2)
    async for _ in rows:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)


async def _nests_generators(small: Database) -> None:
    async def outer() -> AsyncIterator[int]:
        async for row in small.stream(ROWS, into=int, batch=2):
            yield row

    async for _ in outer():
        return


kept: list[Any] = []


async def _keeps_it(small: Database) -> None:
    rows = aiter(small.stream(ROWS, into=int, batch=2))
    kept.append(rows)
    await anext(rows)


async def _makes_a_cycle(small: Database) -> None:
    cycle: list[Any] = [small.stream(ROWS, into=int, batch=2)]
    cycle.append(cycle)
    async for _ in cycle[0]:
        break


@pytest.mark.parametrize(
    "leaves", [_returns, _breaks, _raises, _is_cancelled, _nests_generators, _keeps_it, _makes_a_cycle]
)
async def test_a_stream_left_early_gives_its_connection_back_without_a_collection(
    small: Database, no_collector: None, leaves: Any, eventually: Any
) -> None:
    outcomes = [await asyncio.gather(asyncio.create_task(leaves(small)), return_exceptions=True) for _ in range(5)]
    await eventually(lambda: small.stats().checked_out == 0)
    assert await small.fetch_val(ROWS.limit(1)) == 0
    assert not any(isinstance(error, TransactionMisuse) for [error] in outcomes)
    if leaves is _keeps_it:
        with pytest.raises(TransactionMisuse, match="when the task that opened it ended"):
            await anext(kept[0])
        kept.clear()
    await eventually(lambda: len(asyncio.all_tasks()) == 1)


async def test_a_stream_left_early_gives_its_connection_back_while_its_task_goes_on(
    small: Database, no_collector: None, eventually: Any
) -> None:
    for _ in range(5):
        await _returns(small)
    await eventually(lambda: small.stats().checked_out == 0 and len(asyncio.all_tasks()) == 1)


@pytest.mark.parametrize("block", ["session", "atomic"])
async def test_a_stream_left_on_a_session_ends_before_what_comes_next(small: Database, block: str) -> None:
    async with getattr(small, block)() as db:
        for _ in range(3):
            async for _ in db.stream(ROWS, into=int, batch=2):
                break
            assert await db.fetch_val(select(7)) == 7
        async for _ in db.stream(ROWS, into=int, batch=2):
            break
    assert small.stats().checked_out == 0


async def test_a_stream_is_read_by_one_task_a_step(small: Database) -> None:
    async def body() -> AsyncIterator[int]:
        async for row in small.stream(ROWS, into=int, batch=2):
            yield row

    rows, read = body(), []
    while (row := await asyncio.wait_for(anext(rows, None), 5)) is not None:
        read.append(row)
    assert read == list(range(40))
    assert small.stats().checked_out == 0


# -- what the garbage collector finds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_was_forgotten_is_closed_on_its_loop_wherever_it_is_collected(server_url: str, loop: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.use.forgetting", server_url, loop],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "whole\n"), ran.stderr[-4000:]


# -- what is set on the driver's object --------------------------------------------------------------------------------


def _on_connection(name: str, *args: Any) -> Callable[[Any], None]:
    return lambda connection: getattr(connection, name)(*args)


def _attribute(name: str, value: Any) -> Callable[[Any], None]:
    return lambda connection: setattr(connection, name, value)


def _postgresql() -> dict[str, Callable[[Any], None]]:
    import psycopg
    from psycopg.rows import dict_row
    from psycopg.types.numeric import FloatLoader

    return {
        "row_factory": _attribute("row_factory", dict_row),
        "cursor_factory": _attribute("cursor_factory", psycopg.RawCursor),
        "prepare_threshold": _attribute("prepare_threshold", 0),
        "loader": lambda connection: connection.adapters.register_loader("int4", FloatLoader),
        "notice_handler": lambda connection: connection.add_notice_handler(print),
    }


SQLITE: dict[str, Callable[[Any], None]] = {
    "authorizer": _on_connection("set_authorizer", lambda *_: 1),
    "function": _on_connection("create_function", "upper", 1, lambda _: "another"),
    "collation": _on_connection("create_collation", "mine", lambda *_: 0),
    "trace": _on_connection("set_trace_callback", print),
}


@pytest.mark.families("postgresql")
@pytest.mark.parametrize("what", ["row_factory", "cursor_factory", "prepare_threshold", "loader", "notice_handler"])
@pytest.mark.parametrize("door", ["django", "session"])
async def test_what_is_set_on_psycopgs_connection_ends_with_its_user(tx: Any, what: str, door: str) -> None:
    tx(async_db={"pool_size": 1})
    before = await _seen()
    await _set(_postgresql()[what], door)
    assert await _seen() == before
    await database().close()


@pytest.mark.families("sqlite")
@pytest.mark.parametrize("what", SQLITE)
@pytest.mark.parametrize("door", ["django", "session"])
async def test_what_is_set_on_sqlites_connection_ends_with_its_user(tx: Any, what: str, door: str) -> None:
    tx(async_db={"pool_size": 1})
    before = await _seen()
    connects = database().stats().counts.connects
    await _set(SQLITE[what], door)
    assert await _seen() == before
    assert database().stats().counts.connects == connects + 1, "nothing of it can be taken back: it is closed"
    await database().close()


async def _set(change: Callable[[Any], None], door: str) -> None:
    def by_django() -> None:
        from django.db import connection

        connection.ensure_connection()
        change(connection.connection)

    if door == "django":
        await run_django(by_django)
        return
    async with session() as db:
        raw: Any = await (await db.connection()).get_raw_connection()
        driver = raw.dbapi_connection.raw  # not ``driver_connection``, which costs a reset whatever is done with it
        change(getattr(driver, "_conn", driver))


async def _seen() -> list[Any]:
    """What the next user of the pool's one connection finds."""

    def by_django() -> Any:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT 1, upper('a')")
            rows = cursor.fetchall()
        found = connection.connection
        names = ("row_factory", "prepare_threshold", "_notice_handlers")
        return [rows, *(repr(getattr(found, name, None)) for name in names)]

    async with session() as db:
        rows = (await db.execute(select(1))).all()
        raw: Any = await (await db.connection()).get_raw_connection()
        driver = raw.dbapi_connection.raw
        state = len(getattr(driver, "_notice_handlers", ())), repr(getattr(driver, "row_factory", None))
    return [await run_django(by_django), rows, state]


async def test_what_listeners_set_on_new_connections_is_everyones(small: Database) -> None:
    from sqlalchemy import event

    @event.listens_for(small.engine.sync_engine, "connect")
    def made(connection: Any, _: Any) -> None:
        driver = connection.driver_connection
        if hasattr(driver, "row_factory"):
            driver.row_factory = driver.row_factory if not hasattr(driver, "adapters") else _rows

    for _ in range(3):
        await small.fetch_val(select(1))
    assert small.stats().counts.connects == 1


def _rows(cursor: Any) -> Any:
    from psycopg.rows import tuple_row

    return tuple_row(cursor)
