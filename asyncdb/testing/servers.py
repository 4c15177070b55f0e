"""What every private test server can do; :mod:`.mariadb` and :mod:`.postgresql` say how."""

from __future__ import annotations

import abc
import atexit
import os
import secrets
import signal
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

from sqlalchemy import URL

from .certificates import make_certificates
from .ports import free_port
from .process import Account, ServerFailed, ServerProcess

Row = tuple[str | None, ...]

START_TIMEOUT = 60.0
_STOP_TIMEOUT = 20.0
_PORT_ATTEMPTS = 3


class ServerConnection(NamedTuple):
    """A client's connection as the server sees it."""

    id: int
    user: str
    host: str
    database: str | None
    command: str
    """MySQL: ``Sleep``, ``Query``, ...; PostgreSQL: ``idle``, ``active``, ``idle in transaction``, ..."""
    state: str | None
    """MySQL: what the thread does; PostgreSQL: the event that it waits for."""


class DatabaseServer(abc.ABC):
    """A database server as tests see it: where it is, and an administrator's side entrance.

    The side entrance is the server's own command-line client, so that no test
    shares a driver, a pool or an event loop with what it tests.
    """

    family: ClassVar[Literal["mysql", "postgresql"]]
    host: str
    port: int
    user: str
    password: str

    @abc.abstractmethod
    def execute(self, sql: str, *, database: str | None = None, timeout: float = 30.0) -> list[Row]:
        """Runs ``sql`` as administrator and returns the rows of its statements, in order.

        - **shape**: every value as the server's text, NULL as None.
        - **units**: ``timeout`` in seconds.
        - **errors**: ``ServerFailed`` with the server's own message, or when no answer came in time.
        """

    @abc.abstractmethod
    def connections(self) -> list[ServerConnection]:
        """Returns the clients' connections, in the order of their ids, without the administrator's own."""

    @abc.abstractmethod
    def _kill(self, connection_ids: Sequence[int]) -> None:
        """Tells the server to end these connections; some may be gone already."""

    @abc.abstractmethod
    def create_database(self, name: str) -> None:
        """Creates an empty database that ``user`` may do everything with."""

    @abc.abstractmethod
    def drop_database(self, name: str) -> None:
        """Drops the database if it exists, whoever is connected to it."""

    def kill_connections(self, *, database: str | None = None, within: float = 5.0) -> int:
        """Ends every client's connection (or those to ``database``) and returns how many there were.

        Returns when the server has let go of them; clients may have come back by then.

        - **units**: ``within`` in seconds.
        - **errors**: ``ServerFailed`` if some were still there afterwards.
        """
        chosen = {c.id for c in self.connections() if database is None or c.database == database}
        if not chosen:
            return 0
        self._kill(sorted(chosen))
        deadline = time.monotonic() + within
        while left := chosen & {c.id for c in self.connections()}:
            if time.monotonic() > deadline:
                raise ServerFailed(f"{len(left)} of {len(chosen)} connections still there {within:g} s after the KILL")
            time.sleep(0.01)
        return len(chosen)

    def url(self, database: str | None = None, *, port: int | None = None) -> str:
        """Returns the URL of a database, with user and password; ``port`` is that of a proxy, if one is between."""
        url = URL.create(
            self.family,
            username=self.user,
            password=self.password,
            host=self.host,
            port=port or self.port,
            database=database,
        )
        return url.render_as_string(hide_password=False)


class PrivateServer(DatabaseServer):
    """A server of one's own, in a temporary folder, on 127.0.0.1 and on a Unix socket.

    Start it with ``with`` or :meth:`start`. It is ended, and its folder removed, when the block or the process
    ends, however the process ends. Its data are safe from a kill of the server, not from a power cut: the folder is in
    memory (``/dev/shm``) where 4 GiB are free there and ``TMPDIR`` is not set.

    - **errors**: ``ServerFailed`` when the server's binaries are missing, when it does not start within
      ``START_TIMEOUT`` seconds (with the end of its log), or when an SQL statement fails.
    """

    name: ClassVar[str]
    default_database: ClassVar[str]
    _accounts: ClassVar[Sequence[str] | None]
    _stop_signal: ClassVar[signal.Signals]

    def __init__(self, *, tls: bool = False, options: Mapping[str, str | int] | None = None) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.user = "asyncdb"
        self.password = secrets.token_urlsafe(18)
        self.tls = tls
        self.ca_file: str | None = None
        """The authority that signed the server's certificate, for clients that verify it; None without ``tls``."""
        self._options = {key.replace("-", "_"): str(value) for key, value in (options or {}).items()}
        self._admin_password = secrets.token_urlsafe(18)
        self._account = Account(self._accounts)
        self._process = ServerProcess(self.name, self._account, stop_signal=self._stop_signal)
        self._owner = os.getpid()
        self._atexit: Callable[[], None] | None = None

    def __repr__(self) -> str:
        place = f"{self.host}:{self.port}" if self.port else "not started"
        return f"<{type(self).__name__} {place}{' running' if self.running else ''}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """The server's temporary folder."""
        return self._process.folder

    @property
    def unix_socket(self) -> str:
        """What a client gives to connect through the Unix socket: MySQL's file, PostgreSQL's folder."""
        return str(self._socket)

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, else None."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self.pid is not None

    def log_tail(self) -> str:
        """Returns the end of the server's log."""
        return self._process.log_tail()

    def start(self) -> None:
        """Starts the server and waits until it answers; after :meth:`kill` or :meth:`shutdown` on the same data."""
        if self.running:
            return
        if self._process.exists:
            self._launch()
            return
        self._owner = os.getpid()
        self._stop_at_exit()
        try:
            self._process.make_folder()
            if self.tls:
                self._make_certificates()
            self._initialise()
            for attempt in range(_PORT_ATTEMPTS):
                self.port = free_port()
                try:
                    self._launch()
                    break
                except ServerFailed:
                    # Somebody else took the port between our look and the server's bind.
                    if attempt == _PORT_ATTEMPTS - 1 or "in use" not in self.log_tail():
                        raise
        except BaseException:
            self.stop()
            raise

    def shutdown(self) -> None:
        """Stops the server politely and keeps its data and its port for :meth:`start`."""
        self._process.stop(timeout=_STOP_TIMEOUT)

    def restart(self) -> None:
        """Stops the server politely and starts it again: same port, same data."""
        self.shutdown()
        self.start()

    def kill(self) -> None:
        """Kills the server (SIGKILL) and keeps its data and its port for :meth:`start`."""
        self._process.kill()

    def pause(self) -> None:
        """Freezes the server (SIGSTOP): its sockets stay open, and nothing answers."""
        self._process.pause()

    def resume(self) -> None:
        """Lets a paused server go on."""
        self._process.resume()

    def stop(self) -> None:
        """Ends the server and removes its folder. In a child forked from the one that started it: does nothing."""
        if os.getpid() != self._owner:
            return
        if self._process.exists:
            self._end()
            self._process.remove()
        self.port = 0
        self.ca_file = None
        if self._atexit is not None:
            atexit.unregister(self._atexit)
            self._atexit = None

    def _end(self) -> None:
        self._process.stop(timeout=_STOP_TIMEOUT)

    def _stop_at_exit(self) -> None:
        myself = weakref.ref(self)

        def stop() -> None:
            if (server := myself()) is not None:
                server.stop()

        self._atexit = stop
        atexit.register(stop)

    def _make_certificates(self) -> None:
        files = make_certificates(self.folder)
        for path in files:
            self._account.own(path)
        self.ca_file = str(files.ca)

    def _launch(self) -> None:
        self._process.start(self._command(), ready=self._answers, timeout=START_TIMEOUT)

    def _answers(self) -> bool:
        if not self._socket_file.exists():
            return False
        try:
            self.execute("SELECT 1", timeout=5.0)
        except ServerFailed:
            return False
        return True

    @property
    @abc.abstractmethod
    def _socket(self) -> Path: ...

    @property
    @abc.abstractmethod
    def _socket_file(self) -> Path: ...

    @abc.abstractmethod
    def _initialise(self) -> None: ...

    @abc.abstractmethod
    def _command(self) -> list[str | Path]: ...
