"""The proxy counts what the drivers do and makes real faults."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import asyncmy
import psycopg
import pytest

from asyncdb.testing import MariaDBServer, PostgreSQLServer, Proxy
from tests.polling import until


class EchoServer:
    """Answers each line with the same line, in as many packets as there are characters if told so."""

    def __init__(self) -> None:
        self.in_pieces = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(10)
            thread = threading.Thread(target=self._echo, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _echo(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for line in lines:
                    for piece in [bytes([byte]) for byte in line] if self.in_pieces else [line]:
                        client.sendall(piece)
                        if self.in_pieces:
                            time.sleep(0.002)  # so that each leaves in a segment of its own
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


def dial(proxy: Proxy) -> socket.socket:
    client = socket.create_connection((proxy.host, proxy.port), timeout=5)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def ask(client: socket.socket, line: bytes) -> bytes:
    client.sendall(line)
    answer = b""
    while not answer.endswith(b"\n"):
        if not (piece := client.recv(100)):
            break
        answer += piece
    return answer


async def test_three_selects_of_asyncmy_are_three_round_trips(mariadb: MariaDBServer) -> None:
    with Proxy(mariadb.host, mariadb.port) as proxy:
        connection = await asyncmy.connect(
            host=proxy.host, port=proxy.port, user=mariadb.user, password=mariadb.password
        )
        proxy.reset()
        async with connection.cursor() as cursor:
            for _ in range(3):
                await cursor.execute("SELECT 1")
                assert await cursor.fetchone() == (1,)
        assert proxy.round_trips == 3
        await connection.ensure_closed()
        until(lambda: proxy.connections == 0)
        assert proxy.round_trips == 3, "the goodbye is no round trip"


async def test_three_selects_of_psycopg_are_three_round_trips(postgresql: PostgreSQLServer) -> None:
    with Proxy(postgresql.host, postgresql.port) as proxy:
        url = postgresql.url("postgres", port=proxy.port)
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        proxy.reset()
        for number in range(3):
            cursor = await connection.execute("SELECT %s::int", [number])
            assert await cursor.fetchall() == [(number,)]
        assert proxy.round_trips == 3
        await connection.close()
        until(lambda: proxy.connections == 0)
        assert proxy.round_trips == 3, "the goodbye is no round trip"


async def test_a_long_result_is_one_round_trip(mariadb: MariaDBServer) -> None:
    with Proxy(mariadb.host, mariadb.port) as proxy:
        connection = await asyncmy.connect(
            host=proxy.host, port=proxy.port, user=mariadb.user, password=mariadb.password
        )
        proxy.reset()
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT REPEAT('x', 1000) FROM mysql.seq_1_to_5000")
            assert len(await cursor.fetchall()) == 5000
        assert proxy.round_trips == 1
        await connection.ensure_closed()


def test_an_answer_in_many_packets_is_one_round_trip(proxy: Proxy, echo: EchoServer) -> None:
    echo.in_pieces = True
    with dial(proxy) as client:
        assert ask(client, b"twenty characters ..\n") == b"twenty characters ..\n"
        assert proxy.round_trips == 1


def test_round_trips_are_counted_for_each_connection(proxy: Proxy) -> None:
    with dial(proxy) as one, dial(proxy) as two:
        for _ in range(2):
            ask(one, b"a\n")
        ask(two, b"b\n")
        assert sorted(proxy.round_trips_per_connection) == [1, 2]
        assert proxy.round_trips == 3
    until(lambda: proxy.connections == 0)
    assert proxy.round_trips == 3


def test_reset_sets_the_counters_to_nought(proxy: Proxy) -> None:
    with dial(proxy) as client:
        ask(client, b"a\n")
        assert (proxy.accepted, proxy.round_trips) == (1, 1)
        proxy.reset()
        assert (proxy.accepted, proxy.round_trips, proxy.connections) == (0, 0, 1)
        ask(client, b"b\n")
        assert proxy.round_trips == 1


def test_cut_ends_connections_with_a_goodbye(proxy: Proxy) -> None:
    with dial(proxy) as client:
        ask(client, b"a\n")
        proxy.cut()
        assert client.recv(10) == b""
        assert proxy.connections == 0
    with dial(proxy) as client:
        assert ask(client, b"b\n") == b"b\n"


def test_reset_connections_ends_connections_without_one(proxy: Proxy) -> None:
    with dial(proxy) as client:
        ask(client, b"a\n")
        proxy.reset_connections()
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        assert proxy.connections == 0


def test_black_hole_takes_everything_and_answers_nothing(proxy: Proxy) -> None:
    with dial(proxy) as client:
        ask(client, b"a\n")
        proxy.black_hole()
        client.settimeout(0.2)
        client.sendall(b"b\n")
        with pytest.raises(TimeoutError):
            client.recv(10)
        with dial(proxy) as late:
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                ask(late, b"c\n")
            proxy.restore()
            late.settimeout(5)
            assert late.recv(10) == b"c\n"
        client.settimeout(5)
        assert client.recv(10) == b"b\n"


def test_refuse_turns_new_connections_away_and_keeps_the_open_ones(proxy: Proxy) -> None:
    with dial(proxy) as client:
        ask(client, b"a\n")
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            dial(proxy)
        assert ask(client, b"b\n") == b"b\n"
        proxy.restore()
        with dial(proxy) as another:
            assert ask(another, b"c\n") == b"c\n"


def test_delay_holds_each_reply_back(proxy: Proxy) -> None:
    with dial(proxy) as client:
        ask(client, b"a\n")
        proxy.delay(0.2)
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            ask(client, b"b\n")
        client.settimeout(5)
        assert client.recv(10) == b"b\n"
        proxy.delay(0)
        assert ask(client, b"c\n") == b"c\n"


def test_half_reply_breaks_off_in_the_middle_once(proxy: Proxy) -> None:
    with dial(proxy) as client, dial(proxy) as other:
        proxy.half_reply()
        assert ask(client, b"1234567\n") == b"1234"
        assert ask(other, b"1234567\n") == b"1234567\n"


def test_a_server_that_is_away_ends_the_connection(echo: EchoServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Proxy("127.0.0.1", port) as proxy, dial(proxy) as client:
        assert client.recv(10) == b""


def test_stop_closes_everything_and_leaves_no_thread(echo: EchoServer) -> None:
    before = set(threading.enumerate())
    proxy = Proxy("127.0.0.1", echo.port)
    with proxy, dial(proxy) as client:
        ask(client, b"a\n")
        proxy.black_hole()
        client.sendall(b"b\n")
        proxy.stop()
        assert proxy.connections == 0
        assert client.recv(10) == b""
        with pytest.raises(ConnectionRefusedError):
            dial(proxy)
    until(lambda: not {t for t in threading.enumerate() if t.name.startswith("proxy-")} - before)


def test_a_proxy_that_does_not_run_says_so() -> None:
    with pytest.raises(RuntimeError, match="does not run: start it"):
        Proxy("127.0.0.1", 1).cut()


def test_the_proxy_serves_clients_of_several_loops(proxy: Proxy) -> None:
    async def once() -> bytes:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"a\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    assert [asyncio.run(once()) for _ in range(3)] == [b"a\n"] * 3
    assert (proxy.accepted, proxy.round_trips) == (3, 3)
