"""A TCP proxy that counts round trips and makes faults, on a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Self

from .ports import free_port

_CHUNK_BYTES = 65536
_CONTROL_TIMEOUT = 5.0


class _Connection:
    """One client, its socket and the server's, and who spoke last."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.client_spoke = False
        self.round_trips = 0
        self.task: asyncio.Task[None] | None = None
        self.ends_with_reset = False

    def close(self) -> None:
        for end in (self.client, self.server):
            if end is None or end.fileno() == -1:
                continue
            if self.ends_with_reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                # Says FIN also where bytes lie unread, or a forked child holds a copy of the socket.
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Stands between clients and a server on TCP; clients connect to :attr:`host` and :attr:`port`.

    A round trip is counted when the server begins to answer after a client spoke, however many packets either
    of them needed. It parses nothing, so the login counts too: :meth:`reset` after it. A goodbye, which nobody
    answers, counts nothing.

    Every method may be called from any thread, and returns when the fault is in place.

    Example::

        with MariaDBServer() as server, Proxy(server.host, server.port) as proxy:
            config = DatabaseConfig.from_url(server.url("mysql", port=proxy.port))
            ...
            proxy.reset_connections()
    """

    def __init__(self, target_host: str, target_port: int, *, port: int | None = None) -> None:
        self.target = (target_host, target_port)
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.accepted = 0
        """Connections accepted since the start, or the last :meth:`reset`."""
        self._open: list[_Connection] = []
        self._gone_round_trips = 0
        self._delay = 0.0
        self._halve_next_reply = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listener: asyncio.Task[None] | None = None
        self._flowing: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Proxy {self.host}:{self.port} to {self.target[0]}:{self.target[1]}, {self.connections} open>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def round_trips(self) -> int:
        """Round trips on all connections since the start, or the last :meth:`reset`."""
        return self._gone_round_trips + sum(self.round_trips_per_connection)

    @property
    def round_trips_per_connection(self) -> list[int]:
        """Round trips on each open connection, the oldest first."""
        return [connection.round_trips for connection in list(self._open)]

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._open)

    def reset(self) -> None:
        """Sets the counters to nought."""
        self._call(self._do_reset)

    def cut(self) -> None:
        """Closes every connection on both sides (FIN), as a server does that stops politely."""
        self._call(lambda: self._close_all(reset=False))

    def reset_connections(self) -> None:
        """Resets every connection on both sides (RST), as a crash or a firewall does."""
        self._call(lambda: self._close_all(reset=True))

    def black_hole(self) -> None:
        """Accepts connections and bytes and passes nothing on, not even a goodbye, until :meth:`restore`."""
        self._call(lambda: self._event().clear())

    def refuse(self) -> None:
        """Stops listening: new connections are refused, those that are open go on."""
        self._call(self._do_refuse)

    def delay(self, seconds: float) -> None:
        """Holds back the beginning of each reply by ``seconds``."""
        self._delay = seconds

    def half_reply(self) -> None:
        """Passes on the first half of the server's next packet and then closes that connection (FIN)."""
        self._halve_next_reply = True

    def restore(self) -> None:
        """Ends every lasting fault; what a black hole held back is passed on."""
        self._call(self._do_restore)

    def start(self) -> None:
        """Starts the thread and listens."""
        if self._thread is not None:
            return
        loop = self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._run, args=(loop,), name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        try:
            self._call(self._do_restore)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Closes everything and ends the thread.

        - **errors**: ``RuntimeError`` if the thread has not ended within 5 seconds.
        """
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CONTROL_TIMEOUT)
        if self._thread.is_alive():
            raise RuntimeError(f"{self!r}: its thread did not end within {_CONTROL_TIMEOUT:g} s")
        self._thread = self._loop = self._listener = self._flowing = None

    # Below, everything runs on the proxy's own loop.

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop().run_forever()
            # The runner cancels the tasks that are left, waits for them and closes the loop.

    def _call(self, action: Callable[[], Any]) -> None:
        if self._loop is None:
            raise RuntimeError(f"{self!r} does not run: start it, or use it in a with block")

        async def on_loop() -> None:
            result = action()
            if isinstance(result, Coroutine):
                await result

        asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result(_CONTROL_TIMEOUT)

    def _event(self) -> asyncio.Event:
        assert self._flowing is not None
        return self._flowing

    def _do_reset(self) -> None:
        self.accepted = self._gone_round_trips = 0
        for connection in self._open:
            connection.round_trips = 0

    async def _do_refuse(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
            self._listener = None

    def _do_restore(self) -> None:
        self._delay = 0.0
        self._halve_next_reply = False
        self._event().set()
        if self._listener is None:
            listening = socket.create_server((self.host, self.port), backlog=200)
            listening.settimeout(0)
            self._listener = asyncio.get_running_loop().create_task(self._listen(listening))

    async def _close_all(self, *, reset: bool) -> None:
        tasks = []
        for connection in list(self._open):
            connection.ends_with_reset = reset
            if connection.task is not None:
                # The task closes the sockets when it no longer waits for them: a socket closed under it would leave
                # its number in the loop's selector, for the next connection to inherit.
                connection.task.cancel()
                tasks.append(connection.task)
        if tasks:
            await asyncio.wait(tasks)

    async def _listen(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                client, _ = await loop.sock_accept(listening)
                connection = _Connection(client)
                self.accepted += 1
                self._open.append(connection)
                connection.task = loop.create_task(self._serve(connection))
                # Not the task's own finally: one that is cancelled before its first step has none.
                connection.task.add_done_callback(partial(self._forget, connection))

    async def _serve(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            await self._event().wait()
            server = connection.server = socket.socket()
            server.settimeout(0)
            connection.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(server, self.target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_questions(connection, server))
                both.create_task(self._pass_replies(connection, server))
        except* OSError:
            pass  # one end was reset, or the server could not be reached: both ends are closed now

    def _forget(self, connection: _Connection, _: asyncio.Task[None]) -> None:
        connection.close()
        self._gone_round_trips += connection.round_trips
        self._open.remove(connection)

    async def _pass_questions(self, connection: _Connection, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(connection.client, _CHUNK_BYTES):
            await self._event().wait()
            connection.client_spoke = True
            await loop.sock_sendall(server, data)
        await self._event().wait()
        server.shutdown(socket.SHUT_WR)

    async def _pass_replies(self, connection: _Connection, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(server, _CHUNK_BYTES):
            await self._event().wait()
            if connection.client_spoke:
                # Counted before it is passed on: whoever has the answer finds it counted.
                connection.client_spoke = False
                connection.round_trips += 1
                if self._delay:
                    await asyncio.sleep(self._delay)
            if self._halve_next_reply:
                self._halve_next_reply = False
                await loop.sock_sendall(connection.client, data[: len(data) // 2])
                raise ConnectionAbortedError("cut in the middle of a reply, as asked")
            await loop.sock_sendall(connection.client, data)
        await self._event().wait()
        connection.client.shutdown(socket.SHUT_WR)
