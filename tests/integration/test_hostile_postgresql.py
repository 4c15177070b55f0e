"""A server that speaks PostgreSQL's protocol and wants the password in clear, or no TLS: it gets neither."""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from asyncdb import ConnectFailed, Database, DatabaseConfig
from asyncdb.drivers import postgresql

pytestmark = pytest.mark.faults
ENCRYPTION_REQUESTS = {80877103, 80877104}  # SSLRequest, GSSENCRequest
CLEARTEXT = b"R" + struct.pack("!II", 8, 3)


class Hostile:
    """Says no to every encryption and asks for the password in clear."""

    def __init__(self) -> None:
        self.password = secrets.token_urlsafe(18)
        self.received = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(10)
            self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while said := client.recv(65536):
                self.received += said
                request = struct.unpack("!I", said[4:8])[0] if len(said) == 8 else 0
                client.sendall(b"N" if request in ENCRYPTION_REQUESTS else CLEARTEXT)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    try:
        yield server
    finally:
        server.close()


async def _tries(hostile: Hostile, match: str, **options: Any) -> None:
    config = DatabaseConfig.of(
        family="postgresql", host="127.0.0.1", port=hostile.port, user="asyncdb", password=hostile.password, **options
    )
    database = Database(config)
    try:
        with pytest.raises(ConnectFailed, match=match) as caught:
            await database.fetch_val(text("SELECT 1"))
        assert hostile.password not in str(caught.value)
    finally:
        await database.close()


@pytest.mark.skipif(psycopg.pq.version() < 160000, reason="this libpq knows no require_auth")
@pytest.mark.parametrize("tls", [None, "disabled"])
async def test_no_password_is_sent_in_clear(hostile: Hostile, tls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await _tries(hostile, r"auth", tls=tls)
    assert hostile.password.encode() not in hostile.received
    monkeypatch.setattr(postgresql, "_guards", lambda _: {})
    await _tries(hostile, r".", tls=tls, connect_timeout=2.0)
    assert hostile.password.encode() in hostile.received, "the control: libpq sends it"


@pytest.mark.parametrize("tls", ["required", "verify_ca", "verify_identity"])
async def test_a_server_without_tls_learns_no_name(hostile: Hostile, tls: Any, postgresql_ca: str) -> None:
    await _tries(hostile, r"(?i)ssl", tls=tls, **({} if tls == "required" else {"tls_ca": postgresql_ca}))
    assert b"asyncdb" not in hostile.received
    assert len(hostile.received) == 8, "more was said than the request for TLS"


@pytest.fixture
def postgresql_ca(tmp_path: Any) -> str:
    from asyncdb.testing.certificates import make_certificates

    return str(make_certificates(tmp_path).ca)


@pytest.mark.families("postgresql")  # a system's libpq, which may not know the keyword, is what others have
def test_what_the_project_says_of_it_is_honoured() -> None:
    config = DatabaseConfig.of(
        family="postgresql", host="db", driver_options={"require_auth": "password", "gssencmode": "prefer"}
    )
    arguments = postgresql.connect_arguments(config)
    assert arguments["require_auth"] == "password"
    assert arguments["gssencmode"] == "prefer"


@pytest.mark.parametrize("place", [{"unix_socket": "/run"}, {"host": "/run"}, {}])
def test_on_a_socket_of_this_machine_any_password_may_be_asked_for(place: Any) -> None:
    assert "require_auth" not in postgresql.connect_arguments(DatabaseConfig.of(family="postgresql", **place))
