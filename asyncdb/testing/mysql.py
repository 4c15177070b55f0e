"""A private MySQL server, and one that runs already."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from sqlalchemy import make_url

from .mysql_client import MySQLFamilyServer
from .process import ServerFailed, environment, find_binary
from .servers import PrivateServer, ServerConnection

# As for MariaDB: small and quick, and what was committed outlives a kill of the server, not a power cut.
_OPTIONS: Mapping[str, str | int] = {
    "innodb_buffer_pool_size": "32M",
    "innodb_redo_log_capacity": "16M",
    "innodb_log_buffer_size": "2M",
    "innodb_flush_log_at_trx_commit": 2,
    "innodb_flush_method": "nosync",
    "innodb_doublewrite": "OFF",
    "innodb_fast_shutdown": 1,
    "innodb_use_native_aio": "OFF",
    "key_buffer_size": "1M",
    "max_connections": 200,
    "back_log": 200,
    "character_set_server": "utf8mb4",
}
_CERTIFICATES = {"ca": "ca.pem", "cert": "server.pem", "key": "server.key"}


class _WithKey(MySQLFamilyServer):
    def public_key(self) -> str:
        """Returns the server's RSA key (PEM): a client without TLS encrypts the password for it."""
        ((_, key),) = self.execute("SHOW STATUS LIKE 'Caching_sha2_password_rsa_public_key'")
        return f"{(key or '').strip()}\n"


class MySQLServer(_WithKey, PrivateServer):
    """A private MySQL server of version 8.4 or newer; its accounts log in by ``caching_sha2_password``.

    The program is what the variable ``MYSQLD`` names; else the ``mysqld`` in ``mysql/bin`` of this Python's
    environment, where the sources' ``scripts/mysql.sh`` puts it, or on ``PATH`` if it is MySQL's and not MariaDB's.
    ``wait_timeout`` and ``options`` are those of ``MariaDBServer``. Without ``tls`` the server offers none, and a
    client needs the server's key: ``driver_options={"server_public_key": server.public_key()}``.

    Example::

        with MySQLServer() as server:
            server.create_database("library")
            key = {"server_public_key": server.public_key()}
            config = DatabaseConfig.from_url(server.url("library"), driver_options=key)
    """

    name = "mysql"
    default_database = "mysql"
    # The process's own, root's too: its programs may lie where another account cannot read.
    _accounts = None
    _stop_signal = signal.SIGTERM
    _list_of_connections = "performance_schema.processlist"
    _more_hidden_users = ", 'root'"

    def __init__(
        self,
        *,
        wait_timeout: int | None = None,
        tls: bool = False,
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        idle = {} if wait_timeout is None else {"wait_timeout": wait_timeout, "interactive_timeout": wait_timeout}
        super().__init__(tls=tls, options={**_OPTIONS, **idle, **(options or {})})
        self._admin_environment = {"MYSQL_PWD": self._admin_password}

    @property
    def _socket(self) -> Path:
        return self.folder / "socket"

    _socket_file = _socket

    def _client(self) -> Path:
        beside = find_mysqld().parent / "mysql"
        return beside if os.access(beside, os.X_OK) else find_binary("mysql", "mariadb", package="mariadb-client")

    def _admin_arguments(self) -> Sequence[str]:
        return ("--no-defaults", "--protocol=SOCKET", f"--socket={self._socket}", "--user=root", "--loose-skip-ssl")

    def _initialise(self) -> None:
        self._process.run(
            [*self._program(), "--initialize-insecure", *(f"--{k}={v}" for k, v in _OPTIONS.items())],
            timeout=60.0,
        )
        accounts = self.folder / "accounts.sql"
        accounts.touch(mode=0o600)
        # The rights of a project's user, not of an administrator: as on MariaDB.
        accounts.write_text(
            f"ALTER USER root@localhost IDENTIFIED BY '{self._admin_password}';\n"
            f"CREATE USER IF NOT EXISTS '{self.user}'@'%'"
            f" IDENTIFIED WITH caching_sha2_password BY '{self.password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{self.user}'@'%';\n"
            f"REVOKE SUPER, CONNECTION_ADMIN ON *.* FROM '{self.user}'@'%';\n"
        )

    def _program(self) -> list[str | Path]:
        command: list[str | Path] = [find_mysqld(), "--no-defaults", f"--datadir={self.folder / 'data'}"]
        return [*command, "--user=root"] if os.geteuid() == 0 else command

    def _command(self) -> list[str | Path]:
        folder = self.folder
        tls = ["--tls-version="]
        if self.tls:
            tls = [f"--ssl-{key}={folder / file}" for key, file in _CERTIFICATES.items()]
        return [
            *self._program(),
            f"--socket={self._socket}",
            f"--pid-file={folder / 'pid'}",
            f"--tmpdir={folder}",
            f"--init-file={folder / 'accounts.sql'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--secure-file-priv=NULL",
            "--mysqlx=OFF",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--auto-generate-certs=OFF",
            *tls,
            *(f"--{key}={value}" for key, value in self._options.items()),
        ]


def find_mysqld() -> Path:
    """Returns the path of a MySQL server's program.

    - **errors**: ``ServerFailed`` where there is none.
    """
    if chosen := os.environ.get("MYSQLD"):
        if not os.access(chosen, os.X_OK):
            raise ServerFailed(f"MYSQLD names {chosen}, and there is no such program")
        return Path(chosen)
    path = os.pathsep.join([f"{sys.prefix}/mysql/bin", os.environ.get("PATH", os.defpath), "/usr/sbin"])
    for folder in path.split(os.pathsep):
        found = shutil.which("mysqld", path=folder)
        if found is not None and _is_mysql(found):
            return Path(found)
    raise ServerFailed(
        "there is no mysqld of MySQL, 8.4 or newer: name one by MYSQLD; on Debian `make setup` fetches it for the tests"
    )


@functools.cache
def _is_mysql(program: str) -> bool:
    """Whether it is MySQL's own: MariaDB's has the same name."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            [program, "--no-defaults", "--version"],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=10,
            check=False,
        ).stdout
        found = re.search(r"Ver (\d+)\.(\d+)", said)
        return found is not None and "MariaDB" not in said and (int(found[1]), int(found[2])) >= (8, 4)
    return False


class RunningMySQLServer(_WithKey):
    """A running MySQL, given by a URL whose user may create databases and users, and see and end connections.

    In a ``with`` block it has a user of its own for what is tested, as private servers have, which is dropped
    afterwards; otherwise the administrator is that user. It is not started, stopped or paused here.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.host = parsed.host or "127.0.0.1"
        self.port = parsed.port or 3306
        self.user = self._admin = parsed.username or "root"
        self.password = str(parsed.password or "")
        self._admin_environment = {"MYSQL_PWD": self.password}

    def __repr__(self) -> str:
        return f"<RunningMySQLServer {self.host}:{self.port}>"

    def __enter__(self) -> Self:
        user, password = f"asyncdb_{secrets.token_hex(6)}", secrets.token_urlsafe(18)
        self.execute(
            f"CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'; GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%'"
        )
        self.user, self.password = user, password
        return self

    def __exit__(self, *exc_info: object) -> None:
        user, self.user = self.user, self._admin
        self.password = self._admin_environment["MYSQL_PWD"]
        self.execute(f"DROP USER IF EXISTS '{user}'@'%'")

    def connections(self) -> list[ServerConnection]:
        """Returns those of ``user``: others may be at work on the same server."""
        return [connection for connection in super().connections() if connection.user == self.user]

    def _admin_arguments(self) -> Sequence[str]:
        # MariaDB's client from 11.4 on wants a certificate that it can verify, which a test server has not.
        return (
            "--no-defaults",
            "--protocol=TCP",
            f"--host={self.host}",
            f"--port={self.port}",
            f"--user={self._admin}",
            "--loose-skip-ssl-verify-server-cert",
        )
