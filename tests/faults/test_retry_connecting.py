"""Connecting to a server that is away for a moment, or for longer."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import select

from asyncdb import ConnectFailed, Database, DatabaseConfig
from asyncdb.testing import Proxy

from .conftest import whole

pytestmark = [pytest.mark.faults, pytest.mark.families("mariadb", "postgresql", "mysql")]
Proxied = tuple[DatabaseConfig, Proxy]


def _back_at(database: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, attempt: int) -> list[int]:
    """The server is away until the given attempt to open a connection; counts the attempts."""
    from asyncdb.opening import Opening

    opening: Opening = database.engine.sync_engine.pool._opening  # type: ignore[attr-defined]
    opened, made = opening._open_connection, [0]

    def counted() -> Any:
        made[0] += 1
        if made[0] == attempt:
            proxy.restore()
        return opened()

    monkeypatch.setattr(opening, "_open_connection", counted)
    return made


async def test_a_server_that_is_back_in_a_moment_is_reached(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    config, proxy = proxied
    proxy.refuse()
    async with whole(config, None) as database:
        made = _back_at(database, proxy, monkeypatch, attempt=3)
        assert await database.fetch_val(select(1)) == 1
        assert made == [3]
        assert database.stats().counts.retried == 2


@pytest.mark.config(connect_attempts=1)
async def test_without_retries_it_is_not(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    config, proxy = proxied
    proxy.refuse()
    async with whole(config, None) as database:
        _back_at(database, proxy, monkeypatch, attempt=3)
        with pytest.raises(ConnectFailed):
            await database.fetch_val(select(1))


@pytest.mark.verify("postgresql")
@pytest.mark.config(pool_size=10)
async def test_an_outage_is_no_storm_of_logins(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    config, proxy = proxied
    proxy.refuse()
    async with whole(config, None) as database:
        made = _back_at(database, proxy, monkeypatch, attempt=0)
        outcomes = await asyncio.gather(*(database.fetch_val(select(1)) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(one, ConnectFailed) for one in outcomes)
        # Ten at once, who do not know yet; then one at a time, three times each, for all who wait meanwhile.
        assert made[0] <= 10 + 5 * 3, made
        proxy.restore()
        assert await asyncio.gather(*(database.fetch_val(select(1)) for _ in range(50))) == [1] * 50


@pytest.fixture
def away(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> Proxied:
    """The server is away, and each pause between two attempts is the longest that it may be."""
    proxied[1].refuse()
    monkeypatch.setattr("asyncdb.attempts.random.random", lambda: 1.0)
    return proxied


@pytest.mark.config(retry_wait=60, retry_wait_max=60)
async def test_when_the_one_who_tries_is_cancelled_another_tries(
    away: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, proxy = away
    async with whole(config, None) as database:
        made = _back_at(database, proxy, monkeypatch, attempt=0)
        first = asyncio.create_task(database.fetch_val(select(1)))
        opening = database.engine.sync_engine.pool._opening  # type: ignore[attr-defined]
        while opening._found_out is None:  # noqa: ASYNC110  (there is no event to wait for)
            await asyncio.sleep(0.01)
        second = asyncio.create_task(database.fetch_val(select(1)))
        await asyncio.sleep(0)
        proxy.restore()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second == 1
        assert made[0] == 2


@pytest.mark.config(connect_timeout=0.5, retry_wait=60, retry_wait_max=60)
async def test_all_attempts_and_those_who_wait_for_them_end_within_connect_timeout(away: Proxied) -> None:
    config, _ = away
    async with whole(config, None) as database:
        for _ in range(2):
            begun = time.monotonic()
            outcomes = await asyncio.gather(*(database.fetch_val(select(1)) for _ in range(20)), return_exceptions=True)
            assert time.monotonic() - begun < 1.5
            assert all(isinstance(one, ConnectFailed) for one in outcomes)
            assert all("Connect" in str(one) or "connection" in str(one) for one in outcomes), "the reason is not told"


async def test_a_wrong_password_is_not_tried_again(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    config, proxy = proxied
    wrong = DatabaseConfig.of(
        **{name: getattr(config, name) for name in config.model_fields_set} | {"password": "wrong"}
    )
    async with whole(wrong, None) as database:
        made = _back_at(database, proxy, monkeypatch, attempt=0)
        with pytest.raises(ConnectFailed):
            await database.fetch_val(select(1))
        assert made == [1]
