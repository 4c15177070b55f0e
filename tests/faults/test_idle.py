"""Acceptance 1, what the server says to an idle connection: its own goodbye (4031), half a packet, or nothing more."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from asyncdb import Database, DatabaseConfig
from asyncdb.pool import Pool
from asyncdb.session import SyncSession
from asyncdb.testing.hostile import HostileMySQLServer, Peer
from tests.polling import until

pytestmark = pytest.mark.faults


def says_4031_and_goodbye(peer: Peer) -> None:
    """As MySQL 8.0.24 and later do when ``wait_timeout`` is over."""
    peer.error(4031, "The client was disconnected by the server because of inactivity.", sequence=0)
    peer.socket.shutdown(socket.SHUT_RDWR)


def says_4031(peer: Peer) -> None:
    peer.error(4031, "The client was disconnected by the server because of inactivity.", sequence=0)


def half_a_packet(peer: Peer) -> None:
    peer.say_raw(b"\x20\x00\x00\x00\xff\xbf\x0f")


def half_a_packet_and_goodbye(peer: Peer) -> None:
    half_a_packet(peer)
    peer.socket.shutdown(socket.SHUT_RDWR)


def half_a_packet_and_a_reset(peer: Peer) -> None:
    half_a_packet(peer)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.shutdown(socket.SHUT_RD)  # its thread wakes up and closes it


FAULTS = pytest.mark.parametrize(
    "fault", [says_4031_and_goodbye, says_4031, half_a_packet, half_a_packet_and_goodbye, half_a_packet_and_a_reset]
)


@pytest.fixture
def server() -> Iterator[HostileMySQLServer]:
    with HostileMySQLServer() as started:
        yield started


async def _three_idle(server: HostileMySQLServer, fault: Callable[[Peer], None]) -> Database:
    """A pool of three idle connections, to each of which ``fault`` has happened."""
    database = Database(DatabaseConfig.from_url(server.url(), pool_size=3))
    async with database.session() as one, database.session() as two, database.session() as three:
        for db in (one, two, three):
            assert await db.scalar(text("SELECT 1")) == 1
    for peer in server.peers:
        fault(peer)
    return database


@FAULTS
@pytest.mark.parametrize("writes", [False, True])
async def test_what_the_server_said_meanwhile_costs_no_error_and_at_most_one_ping(
    server: HostileMySQLServer, fault: Callable[[Peer], None], *, writes: bool
) -> None:
    database = await _three_idle(server, fault)
    try:
        await asyncio.sleep(0.05)
        if writes:
            async with database.atomic() as db:
                await db.execute(text("INSERT INTO t VALUES (1)"))
        else:
            assert await database.fetch_val(text("SELECT 7")) == 7
        counts = database.stats().counts
        assert counts.pings <= 1
        assert counts.found_dead + counts.recycled >= 1
        until(lambda: len(server.peers) == 4)
    finally:
        await database.close()


@FAULTS
async def test_without_the_look_at_checkout_it_does(
    server: HostileMySQLServer, fault: Callable[[Peer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(Pool, "_replace_if_unfit", lambda *_: None)
    monkeypatch.setattr(SyncSession, "_did_nothing", lambda *_: False)  # it would begin again
    database = await _three_idle(server, fault)
    try:
        await asyncio.sleep(0.05)
        with pytest.raises(DBAPIError):
            await database.fetch_val(text("SELECT 7"))
    finally:
        await database.close()
