"""A server that speaks MySQL's protocol as a script says: truthfully, wrongly, or with bad intent."""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

from .certificates import make_certificates

Value = str | bytes | int | None

_TIMEOUT = 20.0
_FULL_PACKET = 0xFFFFFF
_TLS, _PLUGIN_AUTH, _DEPRECATE_EOF = 1 << 11, 1 << 19, 1 << 24
_CAPABILITIES = (
    0x1 | 0x2 | 0x4 | 0x8 | 0x80 | 0x200 | 0x2000 | 0x8000 | 0x10000 | 0x20000 | _PLUGIN_AUTH | 1 << 21 | _DEPRECATE_EOF
)
_IN_TRANSACTION, _AUTOCOMMIT = 0x0001, 0x0002
_VAR_STRING, _LONGLONG, _UTF8MB4 = 253, 8, 45
_QUIT, _QUERY = 0x01, 0x03
_VARIABLES: dict[str, Value] = {
    "wait_timeout": 28800,
    "tx_isolation": "REPEATABLE-READ",
    "transaction_isolation": "REPEATABLE-READ",
    "innodb_rollback_on_timeout": 0,
    "character_set_client": "utf8mb4",
    "sql_mode": "STRICT_TRANS_TABLES",
    "default_storage_engine": "InnoDB",
    "lower_case_table_names": 0,
}
_BOUNDARY = re.compile(r"\s*(BEGIN|START|COMMIT|ROLLBACK)\b(?!\s+TO\b)", re.IGNORECASE)
_VARIABLE = re.compile(r"@@(?:session\.|global\.)?(\w+)", re.IGNORECASE)
_SELECT = re.compile(r"\s*SELECT\s+(.*?)(?:\s+FROM\s.*)?;?\s*$", re.IGNORECASE | re.DOTALL)
_COMMA = re.compile(r",(?![^(]*\))")


class HungUp(Exception):
    """The client has closed its connection."""


class Peer:
    """One client, as the server sees it; its methods speak, and raise ``HungUp`` when nobody is there any more."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.socket = connection
        self.number = number
        """The how manieth client this is, from 1."""
        self.sequence = 0
        """The number of the next packet."""
        self.received = bytearray()
        """Every byte that the client has sent; what came in TLS, deciphered."""
        self.in_clear = bytearray()
        """Every byte that the client has sent outside of TLS."""
        self.statements: list[str] = []
        self.status = _AUTOCOMMIT
        """What is said of the session at the end of each reply: whether a transaction is open."""
        self.capabilities = 0
        """What the client says in its login that it can do."""

    @property
    def in_tls(self) -> bool:
        """Whether what is said now is said in TLS."""
        return isinstance(self.socket, ssl.SSLSocket)

    # -- packets -------------------------------------------------------------------------------------------------

    def hear(self) -> bytes:
        """Waits for the client's next packet and returns what is in it."""
        whole = b""
        while True:
            head = self._read(4)
            self.sequence = (head[3] + 1) & 0xFF
            size = int.from_bytes(head[:3], "little")
            whole += self._read(size)
            if size < _FULL_PACKET:
                return whole

    def say(self, payload: bytes, *, sequence: int | None = None) -> None:
        """Sends one packet, with the number that is its due or with another."""
        for start in range(0, len(payload) + 1, _FULL_PACKET):
            part = payload[start : start + _FULL_PACKET]
            number = self.sequence if sequence is None else sequence
            self.say_raw(len(part).to_bytes(3, "little") + bytes([number & 0xFF]) + part)
            self.sequence = (number + 1) & 0xFF
            if len(part) < _FULL_PACKET:
                return

    def say_raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        try:
            self.socket.sendall(data)
        except OSError as err:
            raise HungUp from err

    def _read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            try:
                part = self.socket.recv(size - len(parts))
            except OSError as err:
                raise HungUp from err
            if not part:
                raise HungUp
            self.received += part
            if not self.in_tls:
                self.in_clear += part
            parts += part
        return bytes(parts)

    # -- replies -------------------------------------------------------------------------------------------------

    def ok(self, *, status: int | None = None, warnings: int = 0, affected: int = 0) -> None:
        """Says that it is done."""
        status = self.status if status is None else status
        self.say(b"\x00" + _number(affected) + b"\x00" + struct.pack("<HH", status, warnings))

    def end(self, *, status: int | None = None, warnings: int = 0) -> None:
        """Says that the columns or the rows are at their end."""
        status = self.status if status is None else status
        if self.capabilities & _DEPRECATE_EOF:
            self.say(b"\xfe\x00\x00" + struct.pack("<HH", status, warnings))
        else:
            self.say(b"\xfe" + struct.pack("<HH", warnings, status))

    def error(self, code: int, message: str, *, state: str = "HY000", sequence: int | None = None) -> None:
        """Says what is wrong."""
        self.say(b"\xff" + struct.pack("<H", code) + f"#{state}{message}".encode(), sequence=sequence)

    def columns(self, names: Sequence[str], *, kinds: Sequence[int] = (), charset: int = _UTF8MB4) -> None:
        """Says how many columns there are, and what they are."""
        self.say(_number(len(names)))
        for name, kind in zip(names, kinds or [_VAR_STRING] * len(names), strict=True):
            strings = b"".join(_text(part) for part in ("def", "", "", "", name, ""))
            self.say(strings + b"\x0c" + struct.pack("<HIBHB", charset, 1024, kind, 0, 0) + b"\x00\x00")
        if not self.capabilities & _DEPRECATE_EOF:
            self.end()

    def rows(self, names: Sequence[str], rows: Iterable[Sequence[Value]], *, warnings: int = 0) -> None:
        """Says a whole result; a column of whole numbers is one on the other side too."""
        held = [list(row) for row in rows]
        whole = [bool(held) and all(isinstance(row[place], int) for row in held) for place in range(len(names))]
        self.columns(names, kinds=[_LONGLONG if number else _VAR_STRING for number in whole])
        for row in held:
            self.say(b"".join(_text(value) for value in row))
        self.end(warnings=warnings)

    def polite_answer(self, sql: str) -> None:
        """Answers as a server does: each item of a SELECT that is a variable, a number or a word with that, the
        others with NULL; everything else with OK.
        """
        if match := _SELECT.match(sql):
            asked = _COMMA.split(match.group(1))
            self.rows([item.strip() for item in asked], [[_value_of(item.strip()) for item in asked]])
        else:
            if match := _BOUNDARY.match(sql):
                self.status = _AUTOCOMMIT | (_IN_TRANSACTION if match.group(1).upper() in "BEGIN START" else 0)
            self.ok()

    # -- the login -----------------------------------------------------------------------------------------------

    def ask_for(self, plugin: str, data: bytes = b"") -> bytes:
        """Asks the client to log in by another plugin and returns what it says to that."""
        self.say(b"\xfe" + plugin.encode() + b"\x00" + data)
        return self.hear()


Login = Callable[[Peer], None]
Answer = Callable[[Peer, str], object]


def _let_in(peer: Peer) -> None:
    peer.ok()


class HostileMySQLServer:
    r"""Listens on ``host`` and does to each client what ``login`` and ``answer`` say; for tests of drivers and pools.

    ``login(peer)`` is called when the client has answered the greeting; by default everybody is let in.
    ``answer(peer, sql)`` is called for each statement; when it returns ``False``, as when there is none, the answer is
    a polite one. What it says that it can do is what a usual server can, less the bits of ``without``, with those of
    ``also`` (MySQL manual, "Capabilities Flags"). With ``tls_folder`` it offers TLS by a certificate made there.

    - **units**: no client is waited for longer than 20 seconds.

    Example::

        def asks_for_a_file(peer: Peer, sql: str) -> object:
            return peer.say(b"\xfb/etc/passwd") if sql == "SELECT 1" else False

        with HostileMySQLServer(asks_for_a_file) as server:
            config = DatabaseConfig.from_url(server.url())
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        login: Login = _let_in,
        plugin: str = "mysql_native_password",
        version: str = "8.4.0-hostile",
        without: int = 0,
        also: int = 0,
        tls_folder: Path | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self.user, self.password = "asyncdb", secrets.token_urlsafe(18)
        self.peers: list[Peer] = []
        """Every client there was."""
        self.failures: list[BaseException] = []
        """What the script itself did wrong."""
        self._answer, self._login = answer, login
        self._plugin, self._version = plugin, version
        self._capabilities = (_CAPABILITIES | (_TLS if tls_folder is not None else 0) | also) & ~without
        self._tls: ssl.SSLContext | None = None
        if tls_folder is not None:
            files = make_certificates(tls_folder)
            self.ca_file = str(files.ca)
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(files.certificate, files.key)
        self._listener = socket.create_server((self.host, 0), backlog=50)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._listen, name=f"hostile-{self.port}", daemon=True)]

    def __repr__(self) -> str:
        return f"<HostileMySQLServer {self.host}:{self.port}, {len(self.peers)} clients so far>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def url(self, database: str = "library") -> str:
        """Returns the URL to connect to it, with user and password."""
        return f"mysql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    @property
    def statements(self) -> list[str]:
        """Every statement of every client, the oldest client first."""
        return [statement for peer in list(self.peers) for statement in peer.statements]

    @property
    def received(self) -> bytes:
        """Every byte of every client; what came in TLS, deciphered."""
        return b"".join(bytes(peer.received) for peer in list(self.peers))

    def start(self) -> None:
        """Listens, on a thread of its own; each client has one too."""
        self._threads[0].start()

    def stop(self) -> None:
        """Hangs up on everybody and ends the threads.

        - **errors**: the first error that the script made; ``RuntimeError`` if a thread has not ended.
        """
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in list(self.peers):
            with contextlib.suppress(OSError):
                peer.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_TIMEOUT)
            if thread.is_alive():
                raise RuntimeError(f"{self!r}: the thread {thread.name} did not end within {_TIMEOUT:g} s")
        if self.failures:
            raise self.failures[0]

    # Below, everything runs on the server's own threads.

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(_TIMEOUT)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(connection, len(self.peers) + 1)
            self.peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), name=f"hostile-{self.port}-{peer.number}")
            self._threads.append(thread)
            thread.start()

    def _serve(self, peer: Peer) -> None:
        try:
            self._greet(peer)
            self._login(peer)
            while True:
                self._command(peer, peer.hear())
        except HungUp:
            pass
        except BaseException as err:
            self.failures.append(err)
        finally:
            peer.socket.close()

    def _greet(self, peer: Peer) -> None:
        low, high = self._capabilities & 0xFFFF, self._capabilities >> 16
        salt = b"abcdefghijklmnopqrst"
        peer.say(
            b"\x0a" + self._version.encode() + b"\x00" + struct.pack("<I", peer.number) + salt[:8] + b"\x00"
            + struct.pack("<HBHHB", low, _UTF8MB4, _AUTOCOMMIT, high, len(salt) + 1) + bytes(10)
            + salt[8:] + b"\x00" + self._plugin.encode() + b"\x00",
        )  # fmt: skip
        said = peer.hear()
        peer.capabilities = int.from_bytes(said[:4], "little")
        if peer.capabilities & _TLS and self._tls is not None:
            number = peer.sequence
            try:
                peer.socket = self._tls.wrap_socket(peer.socket, server_side=True)
            except OSError as err:
                raise HungUp from err
            peer.sequence = number
            peer.hear()

    def _command(self, peer: Peer, said: bytes) -> None:
        if said[0] == _QUIT:
            raise HungUp
        if said[0] != _QUERY:
            peer.ok()
            return
        sql = said[1:].decode("utf-8", "replace")
        peer.statements.append(sql)
        if self._answer is None or self._answer(peer, sql) is False:
            peer.polite_answer(sql)


def _value_of(item: str) -> Value:
    if match := _VARIABLE.fullmatch(item):
        return _VARIABLES.get(match.group(1).lower(), 0)
    if item.upper() == "VERSION()":
        return "8.4.0-hostile"
    word = re.sub(r"\s+AS\s+\w+$", "", item, flags=re.IGNORECASE)
    if word.isdecimal():
        return int(word)
    return word[1:-1] if re.fullmatch(r"'\w*'", word) else None


def _number(value: int) -> bytes:
    """A number in as few bytes as it needs (MySQL manual, "Length-Encoded Integer")."""
    for limit, mark, width in ((251, b"", 1), (1 << 16, b"\xfc", 2), (1 << 24, b"\xfd", 3)):
        if value < limit:
            return mark + value.to_bytes(width, "little")
    return b"\xfe" + value.to_bytes(8, "little")


def _text(value: Value) -> bytes:
    if value is None:
        return b"\xfb"
    data = value if isinstance(value, bytes) else str(value).encode()
    return _number(len(data)) + data
