"""A program that forgets what holds a connection, while threads collect garbage: ``python -m tests.use.forgetting``.

It takes a database's URL and a loop's name, and says ``whole`` when every connection came back.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import literal, select, union_all

from asyncdb import Database, DatabaseConfig, Session

ROUNDS = 2
ROWS = union_all(*(select(literal(number).label("n")) for number in range(30)))


def _cycle(*things: Any) -> None:
    kept: list[Any] = list(things)
    kept.append(kept)


async def forgets_a_session(database: Database) -> None:
    db = Session(database.engine)
    await db.execute(select(1))
    _cycle(db)


async def forgets_a_session_in_a_transaction(database: Database) -> None:
    db = Session(database.engine)
    await db.begin()
    await db.execute(select(1).with_for_update())
    _cycle(db)


async def forgets_a_connection(database: Database) -> None:
    connection = await database.engine.connect()
    await connection.execute(select(1))
    _cycle(connection)


async def forgets_a_connection_of_the_driver(database: Database) -> None:
    connection = await database.engine.connect()
    raw = await connection.get_raw_connection()
    cursor = await connection.run_sync(lambda sync: sync.connection.cursor())
    _cycle(connection, raw, cursor)


async def forgets_a_stream(database: Database) -> None:
    rows = aiter(database.stream(ROWS, into=int, batch=2))
    await anext(rows)
    _cycle(rows)


async def forgets_the_stream_of_a_session(database: Database) -> None:
    db = Session(database.engine)
    rows = aiter(db.stream(ROWS, into=int, batch=2))
    await anext(rows)
    _cycle(db, rows)


async def forgets_a_result(database: Database) -> None:
    connection = await database.engine.connect()
    result = await connection.stream(ROWS, execution_options={"yield_per": 2})
    await result.fetchone()
    _cycle(connection, result)


async def forgets_a_task_in_a_block(database: Database) -> None:
    async def waits() -> None:
        async with database.session() as db:
            await db.execute(select(1))
            taken.set()
            await asyncio.get_running_loop().create_future()

    taken = asyncio.Event()
    task = asyncio.create_task(waits())
    await taken.wait()
    _cycle(task)


WAYS: list[Callable[[Database], Awaitable[None]]] = [
    forgets_a_session,
    forgets_a_session_in_a_transaction,
    forgets_a_connection,
    forgets_a_connection_of_the_driver,
    forgets_a_stream,
    forgets_the_stream_of_a_session,
    forgets_a_result,
    forgets_a_task_in_a_block,
]


async def main(url: str) -> None:
    # Without TLS a MySQL that has not seen the password yet is asked for its key.
    key = {"driver_options": {"get_server_public_key": True}} if url.startswith("mysql") else {}
    database = Database(DatabaseConfig.from_url(url, pool_size=len(WAYS), pool_timeout=20, **key))
    over = threading.Event()

    def collect() -> None:
        while not over.wait(0.002):
            gc.collect()

    threads = [threading.Thread(target=collect) for _ in range(2)]
    gc.freeze()  # what the imports have made is not looked through each time
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            for way in WAYS:
                await asyncio.create_task(way(database))  # type: ignore[arg-type]  # they are coroutines
                await database.fetch_val(select(1))
        async with asyncio.timeout(20):
            while database.stats().checked_out:  # noqa: ASYNC110  (nobody tells of it)
                await asyncio.sleep(0.01)
    finally:
        over.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await database.close()
    print("whole")


if __name__ == "__main__":
    gc.disable()  # only the threads collect
    warnings.simplefilter("ignore")  # each of what is forgotten is warned of
    sys.setswitchinterval(1e-4)
    if sys.argv[2] == "uvloop":
        import uvloop

        uvloop.run(main(sys.argv[1]))
    else:
        asyncio.run(main(sys.argv[1]))
