"""A private MariaDB server."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from .mysql_client import MySQLFamilyServer
from .process import find_binary
from .servers import PrivateServer

_PACKAGE = "mariadb-server"

# Small and quick. What was committed is handed to the operating system, so that it outlives a kill of the server;
# nothing is flushed to the disk, so that it would not outlive a power cut.
_OPTIONS: Mapping[str, str | int] = {
    "innodb_buffer_pool_size": "32M",
    "innodb_log_file_size": "16M",
    "innodb_log_buffer_size": "2M",
    "innodb_data_file_path": "ibdata1:4M:autoextend",
    "innodb_temp_data_file_path": "ibtmp1:4M:autoextend",
    "innodb_flush_log_at_trx_commit": 2,
    "innodb_flush_method": "nosync",
    "innodb_doublewrite": "OFF",
    "innodb_fast_shutdown": 1,
    "key_buffer_size": "1M",
    "aria_pagecache_buffer_size": "2M",
    "performance_schema": "OFF",
    "max_connections": 200,
    "back_log": 200,
    "character_set_server": "utf8mb4",
}


class MariaDBServer(MySQLFamilyServer, PrivateServer):
    """A private MariaDB server.

    ``wait_timeout`` (whole seconds) is the server's idle limit for each connection; ``options`` are further
    ``mariadbd`` options, with or without a value of their own here.

    Example::

        with MariaDBServer(wait_timeout=2, options={"max_connections": 20}) as server:
            server.create_database("library")
            config = DatabaseConfig.from_url(server.url("library"))
    """

    name = "mariadb"
    default_database = "mysql"
    _accounts = ("mysql",)
    _stop_signal = signal.SIGTERM
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

    def _admin_arguments(self) -> Sequence[str]:
        return ("--no-defaults", "--protocol=SOCKET", f"--socket={self._socket}", "--user=root", "--loose-skip-ssl")

    def _initialise(self) -> None:
        install = find_binary("mariadb-install-db", "mysql_install_db", package=_PACKAGE)
        self._process.run(
            [
                install,
                "--no-defaults",
                f"--datadir={self._data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
                *(f"--{key}={value}" for key, value in _OPTIONS.items() if key.startswith("innodb_")),
            ],
            timeout=60.0,
        )
        accounts = self.folder / "accounts.sql"
        accounts.touch(mode=0o600)
        self._account.own(accounts)
        # The rights of a project's user, not of an administrator: SUPER would get in when all connections are taken,
        # and would write to a read-only server.
        accounts.write_text(
            f"ALTER USER root@localhost IDENTIFIED BY '{self._admin_password}';\n"
            "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');\n"
            "FLUSH PRIVILEGES;\n"
            f"CREATE OR REPLACE USER '{self.user}'@'%' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{self.user}'@'%';\n"
            f"REVOKE SUPER, CONNECTION ADMIN, READ_ONLY ADMIN ON *.* FROM '{self.user}'@'%';\n"
        )

    def _command(self) -> list[str | Path]:
        command: list[str | Path] = [
            find_binary("mariadbd", "mysqld", package=_PACKAGE),
            "--no-defaults",
            f"--datadir={self._data}",
            f"--socket={self._socket}",
            f"--pid-file={self.folder / 'pid'}",
            f"--tmpdir={self.folder}",
            f"--init-file={self.folder / 'accounts.sql'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            "--skip-name-resolve",
            "--skip-log-bin",
            *(f"--{key}={value}" for key, value in self._options.items()),
        ]
        if self.tls:
            folder = self.folder
            command += [
                f"--ssl-ca={folder / 'ca.pem'}",
                f"--ssl-cert={folder / 'server.pem'}",
                f"--ssl-key={folder / 'server.key'}",
            ]
        return command

    @property
    def _data(self) -> Path:
        return self.folder / "data"
