"""A checkout without SQLAlchemy's fairy: the pool is as whole after it as after any other."""

from __future__ import annotations

import gc
import logging

import pytest
from sqlalchemy import event

from asyncdb.drivers.statements import Kind
from asyncdb.engine import pool_of
from asyncdb.greenlets import greenlet_spawn


async def test_a_checkout_comes_back_to_the_pool_and_goes_out_again(database):
    pool = pool_of(database.engine)
    first = await greenlet_spawn(pool.checkout)
    link = first.dbapi_connection
    assert (database.stats().checked_out, database.stats().idle) == (1, 0)
    first.close()
    assert (database.stats().checked_out, database.stats().idle) == (0, 1)
    second = await greenlet_spawn(pool.checkout)
    assert second.dbapi_connection is link
    second.close()


async def test_an_invalidated_checkout_frees_its_place(database):
    pool = pool_of(database.engine)
    first = await greenlet_spawn(pool.checkout)
    link = first.dbapi_connection
    first.invalidate()
    assert database.stats().checked_out == 0
    second = await greenlet_spawn(pool.checkout)
    assert second.dbapi_connection is not link
    second.close()


async def test_a_checkout_with_a_transaction_open_is_dropped(database, caplog):
    pool = pool_of(database.engine)

    def begin():
        taken = pool.checkout()
        taken.dbapi_connection.want_transaction()
        taken.dbapi_connection.before(Kind.WRITE)
        return taken

    taken = await greenlet_spawn(begin)
    link = taken.dbapi_connection
    with caplog.at_level(logging.WARNING, "asyncdb.pool"):
        taken.close()
    assert "with a transaction open" in caplog.text
    assert link.doom is not None
    assert database.stats().checked_out == 0


async def test_a_transaction_that_was_wanted_and_not_begun_is_forgotten(database):
    pool = pool_of(database.engine)
    taken = await greenlet_spawn(pool.checkout)
    link = taken.dbapi_connection
    link.want_transaction()
    taken.close()
    again = await greenlet_spawn(pool.checkout)
    assert again.dbapi_connection is link
    assert link.begun.value == "no"
    again.close()


async def test_a_checkout_that_is_forgotten_is_closed_and_frees_its_place(database, eventually, caplog):
    pool = pool_of(database.engine)
    taken = [await greenlet_spawn(pool.checkout)]
    link = taken[0].dbapi_connection
    with caplog.at_level(logging.WARNING, "asyncdb.pool"):
        with pytest.warns(ResourceWarning, match="unclosed <Checkout"):
            taken.clear()
        gc.collect()
        await eventually(lambda: database.stats().checked_out == 0)
    assert "forgotten" in caplog.text
    again = await greenlet_spawn(pool.checkout)
    assert again.dbapi_connection is not link
    again.close()


@pytest.mark.parametrize("name", ["checkout", "checkin", "reset"])
async def test_those_who_listen_to_the_pool_hear_of_every_checkout(database, name):
    pool = pool_of(database.engine)
    heard = []
    event.listen(pool, name, lambda *_: heard.append(name))

    def use():
        pool.checkout().close()

    await greenlet_spawn(use)
    assert heard == [name]
