"""MySQL and MariaDB through their client program."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from .process import ServerFailed, find_binary, run_client
from .servers import DatabaseServer, Row, ServerConnection

_HEAD = b'<?xml version="1.0"?>'
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


class MySQLFamilyServer(DatabaseServer):
    """What MySQL and MariaDB have in common."""

    family = "mysql"

    def execute(self, sql: str, *, database: str | None = None, timeout: float = 30.0) -> list[Row]:
        return self._run(sql, database=database, timeout=timeout)

    def connections(self) -> list[ServerConnection]:
        rows = self.execute(
            f"SELECT id, user, host, db, command, state FROM {self._list_of_connections}"
            " WHERE id <> CONNECTION_ID() AND command <> 'Daemon'"
            f" AND user NOT IN ('system user', 'event_scheduler'{self._more_hidden_users}) ORDER BY id"
        )
        return [
            ServerConnection(int(id or 0), user or "", host or "", database, command or "", state or None)
            for id, user, host, database, command, state in rows
        ]

    def create_database(self, name: str) -> None:
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")

    _list_of_connections = "information_schema.processlist"
    _more_hidden_users = ""
    _admin_environment: dict[str, str]

    def _admin_arguments(self) -> Sequence[str]:
        raise NotImplementedError

    def _client(self) -> Path:
        return find_binary("mariadb", "mysql", package="mariadb-client")

    def _kill(self, connection_ids: Sequence[int]) -> None:
        try:
            self._run("\n".join(f"KILL {id};" for id in connection_ids), "--force")
        except ServerFailed as err:
            unexpected = [line for line in str(err).splitlines() if "ERROR " in line and "ERROR 1094 " not in line]
            if unexpected:  # 1094: it was gone already
                raise

    def _run(self, sql: str, *flags: str, database: str | None = None, timeout: float = 30.0) -> list[Row]:
        command: list[str | Path] = [self._client(), *self._admin_arguments(), "--xml", "--no-auto-rehash", *flags]
        if database is not None:
            command.append(f"--database={database}")
        # XML: the one output that tells NULL from the string 'NULL'.
        return _rows(run_client(command, sql, variables=self._admin_environment, timeout=timeout))


def _rows(printed: bytes) -> list[Row]:
    try:
        results = [ET.fromstring(_HEAD + result) for result in printed.split(_HEAD)[1:]]
    except ET.ParseError as err:
        raise ServerFailed(f"the rows hold characters that XML cannot carry, select HEX() of them: {err}") from err
    return [tuple(_value(field) for field in row) for result in results for row in result.iter("row")]


def _value(field: ET.Element) -> str | None:
    return None if field.get(_NIL) == "true" else field.text or ""
