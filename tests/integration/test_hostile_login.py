"""A server that wants the password, or no TLS: it gets neither."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncmy
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from sqlalchemy import text

from asyncdb import ConnectFailed, Database, DatabaseConfig
from asyncdb.drivers.asyncmy_login import GuardedLogin
from asyncdb.testing import HostileMySQLServer, Peer

pytestmark = pytest.mark.faults
TLS, PLUGIN_AUTH, MULTI_STATEMENTS, LOCAL_FILES = 1 << 11, 1 << 19, 1 << 16, 1 << 7
MODES = ["required", "verify_ca", "verify_identity"]
SALT = b"abcdefghijklmnopqrst"


@pytest.fixture(autouse=True)
def _nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedLogin, "takes_key_of_server", False)  # a run with TEST_MYSQL_URL trusts that server


@asynccontextmanager
async def opened(server: HostileMySQLServer, **options: Any) -> AsyncIterator[Database]:
    database = Database(DatabaseConfig.from_url(server.url(), **{"connect_timeout": 5.0, **options}))
    try:
        yield database
        assert database.stats().checked_out == 0
    finally:
        await database.close()


async def refused(server: HostileMySQLServer, match: str, **options: Any) -> None:
    async with opened(server, **options) as database:
        with pytest.raises(ConnectFailed, match=match) as caught:
            await database.fetch_val(text("SELECT 7"))
        assert server.password not in str(caught.value)
        assert server.password not in repr(caught.value.orig)


async def as_asyncmy_does(server: HostileMySQLServer, **arguments: Any) -> None:
    """The control: asyncmy without ours."""
    try:
        raw = await asyncmy.connect(
            host=server.host, port=server.port, user=server.user, password=server.password, **arguments
        )
    except Exception:
        return
    raw.close()


# The password


def asks_in_clear(peer: Peer) -> None:
    peer.ask_for("mysql_clear_password")
    peer.ok()


def asks_in_a_dialog(peer: Peer) -> None:
    peer.ask_for("dialog", b"\x05Password: ")
    peer.ok()


def asks_for_the_old_hash(peer: Peer) -> None:
    peer.ask_for("mysql_old_password", SALT[:8])
    peer.ok()


def asks_for_a_hash_of_no_name(peer: Peer) -> None:
    peer.say(b"\xfe")
    peer.hear()
    peer.ok()


CLEAR = [asks_in_clear, asks_in_a_dialog]


@pytest.mark.parametrize("login", CLEAR, ids=lambda f: f.__name__)
async def test_no_password_is_sent_in_clear(login: Any) -> None:
    with HostileMySQLServer(login=login) as server:
        await refused(server, r"password in clear .* no TLS: refused, nothing was sent; set tls=")
        assert server.password.encode() not in server.received
        await as_asyncmy_does(server)
        assert server.password.encode() in server.received


@pytest.mark.parametrize("login", [asks_for_the_old_hash, asks_for_a_hash_of_no_name], ids=lambda f: f.__name__)
async def test_the_hash_of_old_servers_is_refused(login: Any) -> None:
    with HostileMySQLServer(login=login) as server:
        await refused(server, r"mysql_old_password.*refused|cannot be understood")
        assert server.password.encode() not in server.received
        assert len(server.peers) == 1


@pytest.mark.parametrize("login", CLEAR, ids=lambda f: f.__name__)
async def test_a_password_in_clear_within_tls_is_what_such_plugins_are_for(login: Any, tmp_path: Path) -> None:
    with HostileMySQLServer(login=login, tls_folder=tmp_path) as server:
        async with opened(server, tls="verify_identity", tls_ca=server.ca_file) as database:
            assert await database.fetch_val(text("SELECT 7")) == 7
        [peer] = server.peers
        assert server.password.encode() in peer.received
        assert server.password.encode() not in peer.in_clear


class Thief:
    """Shows a key of its own, and reads what comes encrypted for it."""

    def __init__(self, plugin: str, *, by_heart: bool = False) -> None:
        self.plugin, self.by_heart = plugin, by_heart
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.found: list[bytes] = []

    def __call__(self, peer: Peer) -> None:
        if self.by_heart:
            peer.say(b"\x01\x03")
        else:
            if self.plugin == "caching_sha2_password":
                peer.say(b"\x01\x04")
                peer.hear()
            peer.say(b"\x01" + self.pem)
            sealed = peer.hear()
            sha1 = hashes.SHA1()  # MySQL's protocol
            try:
                masked = self.key.decrypt(sealed, padding.OAEP(padding.MGF1(sha1), sha1, None))
            except ValueError:
                peer.error(1045, "that is not for me")
                return
            self.found.append(bytes(byte ^ SALT[place % len(SALT)] for place, byte in enumerate(masked)).rstrip(b"\0"))
        peer.ok()


PLUGINS = ["caching_sha2_password", "sha256_password"]


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_no_password_is_encrypted_for_whoever_answers(plugin: str) -> None:
    thief = Thief(plugin)
    with HostileMySQLServer(login=thief, plugin=plugin) as server:
        await refused(server, rf"{plugin} without TLS gives the password to whoever answers.*server_public_key")
        assert thief.found == []
        await as_asyncmy_does(server)
        assert thief.found == [server.password.encode()]


async def test_it_is_refused_as_well_while_the_server_knows_it_by_heart() -> None:
    thief = Thief("caching_sha2_password", by_heart=True)
    with HostileMySQLServer(login=thief, plugin=thief.plugin) as server:
        await refused(server, r"caching_sha2_password without TLS")


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_a_server_that_is_trusted_may_show_its_key(plugin: str) -> None:
    thief = Thief(plugin)
    with HostileMySQLServer(login=thief, plugin=plugin) as server:
        async with opened(server, driver_options={"get_server_public_key": True}) as database:
            assert await database.fetch_val(text("SELECT 7")) == 7
        assert thief.found == [server.password.encode()]


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_a_key_that_is_configured_is_never_replaced_by_the_servers(plugin: str) -> None:
    thief, owner = Thief(plugin), Thief(plugin)
    with HostileMySQLServer(login=thief, plugin=plugin) as server:
        await refused(
            server, r"not for me|cannot be understood|Lost|login", driver_options={"server_public_key": owner.pem}
        )
        assert thief.found == []


async def test_a_login_of_which_nobody_says_that_it_succeeded_did_not() -> None:
    with HostileMySQLServer(login=lambda peer: peer.say(b"\x05what?")) as server:
        await refused(server, r"did not say whether the login succeeded")


@pytest.mark.parametrize("greeting", [b"", b"\x0a", b"\x0a5.5\0", b"\xff", b"\x0a" + bytes(40)], ids=repr)
async def test_a_greeting_that_is_none_is_a_clear_error(greeting: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def greet(self: HostileMySQLServer, peer: Peer) -> None:
        peer.say(greeting)
        peer.hear()

    monkeypatch.setattr(HostileMySQLServer, "_greet", greet)
    with HostileMySQLServer() as server:
        await refused(server, r"cannot connect to 'default'|no login")
        assert server.password.encode() not in server.received


# TLS


@contextmanager
def without_tls(**options: Any) -> Iterator[HostileMySQLServer]:
    with HostileMySQLServer(**options) as server:
        yield server


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_that_offers_no_tls_is_told_nothing(mode: str) -> None:
    """Also one whose offer somebody took out of the greeting on the way."""
    with without_tls() as server:
        await refused(server, r"TLS is wanted and the server offers none: nothing was sent", tls=mode)
        assert server.received == b""


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_that_goes_on_in_clear_text_learns_no_name(mode: str) -> None:
    with without_tls(also=TLS, login=lambda peer: [peer.ok(), peer.say_raw(b"\0" * 400)]) as server:
        await refused(server, r"(?i)ssl|tls", tls=mode)
        assert server.user.encode() not in server.peers[0].in_clear[:40]
        assert len(server.peers) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_tls_is_on_before_anything_is_said(mode: str, tmp_path: Path) -> None:
    with HostileMySQLServer(tls_folder=tmp_path) as server:
        async with opened(server, tls=mode, tls_ca=server.ca_file) as database:
            assert await database.fetch_val(text("SELECT 7")) == 7
        [peer] = server.peers
        assert server.user.encode() in peer.received
        assert len(peer.in_clear) == 4 + 32, "more than the request for TLS was said in clear"


@pytest.mark.parametrize("mode", ["verify_ca", "verify_identity"])
async def test_a_certificate_of_a_stranger_ends_the_login(mode: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with HostileMySQLServer(tls_folder=tmp_path) as server, HostileMySQLServer(tls_folder=tmp_path / "other") as other:
        await refused(server, r"(?i)certificate", tls=mode, tls_ca=other.ca_file)
        assert server.user.encode() not in server.received


async def test_another_host_of_the_same_authority_is_refused_by_verify_identity(tmp_path: Path) -> None:
    with HostileMySQLServer(tls_folder=tmp_path, host="127.0.0.2") as server:
        await refused(
            server,
            r"(?i)certificate.*127\.0\.0\.2|127\.0\.0\.2.*certificate",
            tls="verify_identity",
            tls_ca=server.ca_file,
        )
        async with opened(server, tls="verify_ca", tls_ca=server.ca_file) as database:
            assert await database.fetch_val(text("SELECT 7")) == 7


# What the login says that the client can do


@pytest.mark.parametrize("flags", [0, MULTI_STATEMENTS | LOCAL_FILES])
async def test_neither_several_statements_nor_local_files_are_offered(flags: int) -> None:
    with HostileMySQLServer() as server:
        async with opened(server, driver_options={"client_flag": flags}) as database:
            assert await database.fetch_val(text("SELECT 7")) == 7
        assert not server.peers[0].capabilities & (MULTI_STATEMENTS | LOCAL_FILES)
        await as_asyncmy_does(server)
        assert server.peers[1].capabilities & MULTI_STATEMENTS
