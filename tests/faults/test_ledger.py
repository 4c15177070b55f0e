"""A ledger under storms of resets, with retries on: what was acknowledged is there, once; what is not known says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from asyncdb import CommitInDoubt, Database, DatabaseConfig
from asyncdb.testing import Proxy

from .conftest import whole

pytestmark = [pytest.mark.faults, pytest.mark.families("mariadb", "postgresql", "mysql")]
Proxied = tuple[DatabaseConfig, Proxy]
ENTRIES = 300


async def _write(entry: int, *, db: AsyncSession) -> None:
    await db.execute(text("INSERT INTO ledger VALUES (:entry)"), {"entry": entry})


async def _under_resets(database: Database, proxy: Proxy, write: Any) -> dict[int, str]:
    """Writes every entry once, while all connections are reset again and again; what its caller was told of each."""
    told: dict[int, str] = {}
    places = asyncio.Semaphore(20)

    async def one(entry: int) -> None:
        async with places:
            try:
                await write(entry)
                told[entry] = "done"
            except CommitInDoubt:
                told[entry] = "in doubt"
            except DBAPIError:
                told[entry] = "failed"

    async def storm() -> None:
        while True:
            await asyncio.sleep(0.15)
            await asyncio.to_thread(proxy.reset_connections)
            proxy.restore()

    storming = asyncio.create_task(storm())
    try:
        await asyncio.gather(*(one(entry) for entry in range(ENTRIES)))
    finally:
        storming.cancel()
        await asyncio.gather(storming, return_exceptions=True)
        proxy.restore()
    return told


@pytest.mark.config(pool_size=10)
async def test_no_entry_is_doubled_none_acknowledged_is_lost_and_what_is_not_known_says_so(proxied: Proxied) -> None:
    config, proxy = proxied
    async with whole(config, None) as database:
        await database.execute(text("CREATE TABLE ledger (entry integer)"))
        told = await _under_resets(database, proxy, lambda entry: database.retry(_write, entry))
        rows = await database.fetch_all(text("SELECT entry FROM ledger"))
        entries = [row.entry for row in rows]
        by_word = {word: {e for e, said in told.items() if said == word} for word in ("done", "in doubt", "failed")}
        assert len(told) == ENTRIES
        assert by_word["failed"] or by_word["in doubt"], "the storm had no teeth"
        assert len(entries) == len(set(entries)), "an entry was written twice"
        assert by_word["done"] <= set(entries), "an acknowledged entry is lost"
        assert not by_word["failed"] & set(entries), "an entry that is said to have failed is there"
        assert database.stats().counts.in_doubt == len(by_word["in doubt"])


@pytest.mark.config(pool_size=10)
@pytest.mark.timeout(300)  # each reset costs a login, and over TLS that takes its time
@pytest.mark.verify("postgresql")
async def test_who_tries_a_lost_commit_again_writes_twice(proxied: Proxied) -> None:
    """The control of the test above: what the rule forbids, in the same storm."""
    config, proxy = proxied

    async def hopeful(entry: int) -> None:
        for _ in range(20):
            try:
                await database.retry(_write, entry)
                break
            except OperationalError:
                continue

    async with whole(config, None) as database:
        await database.execute(text("CREATE TABLE ledger (entry integer)"))
        for _ in range(5):
            await _under_resets(database, proxy, hopeful)
        rows = await database.fetch_all(text("SELECT entry, COUNT(*) AS n FROM ledger GROUP BY entry"))
        assert any(row.n > 5 for row in rows), "nothing was written twice: the storm has no teeth"
