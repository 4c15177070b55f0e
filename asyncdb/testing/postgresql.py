"""A private PostgreSQL server."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from .process import environment, find_binary, run_client
from .servers import PrivateServer, Row, ServerConnection

_PACKAGE = "postgresql"
_FIELD, _NULL = "\x1f", "\x1a"

# fsync=off with synchronous_commit=on: what was committed is handed to the operating system, so that it outlives a
# kill of the server; nothing is flushed to the disk, so that it would not outlive a power cut.
_OPTIONS: Mapping[str, str | int] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "max_connections": 200,
    # In files of the data folder, which are removed with it, and not in /dev/shm, where a killed server leaves them.
    "dynamic_shared_memory_type": "mmap",
    "autovacuum": "off",
    "jit": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


class PostgreSQLServer(PrivateServer):
    """A private PostgreSQL server.

    ``options`` are further settings, as in ``postgresql.conf``.

    Example::

        with PostgreSQLServer(options={"idle_session_timeout": "2s"}) as server:
            server.create_database("library")
            config = DatabaseConfig.from_url(server.url("library"))
    """

    name = "postgresql"
    family = "postgresql"
    default_database = "postgres"
    _accounts = ("postgres",)
    # "Fast": end the sessions, write a checkpoint, go. SIGTERM would wait for the clients to leave.
    _stop_signal = signal.SIGINT

    def __init__(self, *, tls: bool = False, options: Mapping[str, str | int] | None = None) -> None:
        super().__init__(tls=tls, options={**_OPTIONS, **(options or {})})

    def execute(self, sql: str, *, database: str | None = None, timeout: float = 30.0) -> list[Row]:
        psql = find_binary("psql", folders=_folders(), package="postgresql-client")
        command: list[str | Path] = [
            psql,
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            f"--field-separator={_FIELD}",
            "--record-separator-zero",
            f"--pset=null={_NULL}",
            "--set=ON_ERROR_STOP=1",
            f"--host={self.folder}",
            f"--port={self.port}",
            "--username=postgres",
            f"--dbname={database or self.default_database}",
        ]
        printed = run_client(command, sql, variables={"PGSSLMODE": "disable"}, timeout=timeout).decode()
        # Each record ends with a zero byte, which no text of PostgreSQL can hold.
        return [
            tuple(None if value == _NULL else value for value in record.split(_FIELD))
            for record in printed.split("\0")[:-1]
        ]

    def connections(self) -> list[ServerConnection]:
        rows = self.execute(
            "SELECT pid, usename, coalesce(host(client_addr) || ':' || client_port, 'local'), datname, state,"
            " wait_event FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND usename <> 'postgres' ORDER BY pid"
        )
        return [
            ServerConnection(int(id or 0), user or "", host or "", database, command or "", state)
            for id, user, host, database, command, state in rows
        ]

    def create_database(self, name: str) -> None:
        self.execute(f'CREATE DATABASE "{name}" OWNER "{self.user}" TEMPLATE template0{self._copying}')

    @cached_property
    def _copying(self) -> str:
        """How an empty database is made fastest; before PostgreSQL 15 there was no other way."""
        [[version]] = self.execute("SHOW server_version_num")
        return " STRATEGY file_copy" if int(version or 0) >= 150000 else ""

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _kill(self, connection_ids: Sequence[int]) -> None:
        self.execute("".join(f"SELECT pg_terminate_backend({id});" for id in connection_ids))

    @property
    def _socket(self) -> Path:
        return self.folder

    @property
    def _socket_file(self) -> Path:
        return self.folder / f".s.PGSQL.{self.port}"

    def _initialise(self) -> None:
        self._process.run(
            [
                find_binary("initdb", folders=_folders(), package=_PACKAGE),
                f"--pgdata={self._data}",
                "--no-sync",
                "--no-instructions",
                "--encoding=UTF8",
                "--locale=C",
                "--username=postgres",
                "--auth=scram-sha-256",
                f"--pwfile={self._password_file()}",
            ],
            timeout=60.0,
        )
        # The administrator comes in through the socket, in a folder that only the server's account may enter.
        access = self._data / "pg_hba.conf"
        access.write_text(
            "local all postgres trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )

    def _password_file(self) -> Path:
        path = self.folder / "password"
        path.touch(mode=0o600)
        self._account.own(path)
        path.write_text(self._admin_password + "\n")
        return path

    def _launch(self) -> None:
        super()._launch()
        if not self.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{self.user}'"):
            self.execute(f"CREATE ROLE \"{self.user}\" LOGIN CREATEDB PASSWORD '{self.password}'")

    def _command(self) -> list[str | Path]:
        options = dict(self._options)
        if self.tls:
            options |= {
                "ssl": "on",
                "ssl_ca_file": str(self.folder / "ca.pem"),
                "ssl_cert_file": str(self.folder / "server.pem"),
                "ssl_key_file": str(self.folder / "server.key"),
            }
        return [
            find_binary("postgres", folders=_folders(), package=_PACKAGE),
            "-D",
            self._data,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"port={self.port}",
            "-c",
            f"unix_socket_directories={self.folder}",
            *(argument for key, value in options.items() for argument in ("-c", f"{key}={value}")),
        ]

    def _end(self) -> None:
        super()._end()
        # A killed server leaves its System V shared memory (a few bytes) for the next start, which does not come.
        with contextlib.suppress(OSError, IndexError, subprocess.TimeoutExpired):
            memory_id = (self._data / "postmaster.pid").read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", memory_id], env=environment(), capture_output=True, timeout=5, check=False)

    @property
    def _data(self) -> Path:
        return self.folder / "data"


def _folders() -> list[str]:
    """Debian keeps each version apart and off PATH: newest first."""

    def version(folder: Path) -> float:
        try:
            return float(folder.parent.name)
        except ValueError:
            return 0.0

    return [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)]
