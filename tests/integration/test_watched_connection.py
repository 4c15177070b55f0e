"""psycopg's connection whose socket the loop watches all the time: nobody reads what another is to read."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select, text

from asyncdb.drivers.physical import physical

pytestmark = pytest.mark.families("postgresql")


async def _pid(db):
    return await db.fetch_val(text("SELECT pg_backend_pid()"))


async def _end(database, pid):
    await database.fetch_val(text("SELECT pg_terminate_backend(:pid)").bindparams(pid=pid))


@pytest.mark.config(pool_size=2)
async def test_a_connection_that_the_server_ends_while_it_is_idle_is_replaced(database, eventually):
    async with database.session() as one, database.session() as other:
        first, _ = await _pid(one), await _pid(other)
    # The last that came back goes out first: the one that is ended stays idle meanwhile.
    async with database.session() as db:
        assert await _pid(db) == first
        async with database.session() as killer:
            await killer.fetch_val(text("SELECT pg_terminate_backend(:pid)").bindparams(pid=first))
    async with asyncio.timeout(10):
        assert await _pid(database) != first


async def test_the_number_of_a_closed_socket_serves_the_next_connection(database):
    for _ in range(3):
        async with database.session() as victim, database.session() as killer:
            pid = await _pid(victim)
            waiting = asyncio.create_task(victim.fetch_val(text("SELECT pg_sleep(30)")))
            await killer.fetch_val(text("SELECT pg_sleep(0.05)"))
            await killer.fetch_val(text("SELECT pg_terminate_backend(:pid)").bindparams(pid=pid))
            with pytest.raises(Exception, match=r"terminat|closed"):
                await waiting
        async with asyncio.timeout(10), database.session() as one, database.session() as other:
            assert await one.fetch_val(select(1)) == await other.fetch_val(select(1)) == 1


async def test_a_cancelled_statement_stops_on_the_server(database, eventually):
    running = text(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(31)%' "
        "AND pid <> pg_backend_pid()"
    )
    waiting = asyncio.create_task(database.fetch_val(text("SELECT pg_sleep(31)")))

    async def is_running():
        return await database.fetch_val(running)

    await eventually(is_running)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    async def is_over():
        return not await database.fetch_val(running)

    await eventually(is_over)


async def test_a_reply_of_many_packets_arrives_whole(database):
    rows = await database.fetch_all(text("SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) AS t(i)"))
    assert (len(rows), rows[-1][0]) == (20_000, 20_000)


async def test_what_the_server_says_unasked_does_not_keep_the_loop_busy(database):
    async with database.session() as listener:
        await listener.execute(text("LISTEN news"))
        await listener.commit()
        link = (await (await listener.connection()).get_raw_connection()).dbapi_connection
        await database.fetch_val(text("SELECT pg_notify('news', 'read me')"))
        raw = link.driver_connection
        calls = 0
        readable = raw._readable

        def counted():
            nonlocal calls
            calls += 1
            readable()

        loop = asyncio.get_running_loop()
        if raw._watching is not None:
            loop.add_reader(raw._watched, counted)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert calls <= 2
        assert await listener.fetch_val(select(1)) == 1
        await listener.commit()
        await listener.execute(text("UNLISTEN news"))
        await listener.commit()


async def test_who_waits_on_a_connection_that_is_closed_is_told_at_once(database):
    with pytest.raises(Exception, match="closed"):
        async with database.session() as db:
            link = physical((await db.connection()).sync_connection.connection)
            waiting = asyncio.create_task(db.fetch_val(text("SELECT pg_sleep(3)")))
            await asyncio.sleep(0.2)
            link.terminate()
            async with asyncio.timeout(2):
                await waiting
