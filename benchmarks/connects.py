"""The server's own count of connections, asked over one connection that stays open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from .paths.base import Place


class Connects(ABC):
    """How often somebody has connected since the last :meth:`since_last`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._connection: Any = None

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    @abstractmethod
    async def since_last(self) -> int: ...

    @abstractmethod
    async def server_version(self) -> str: ...


class MySQLConnects(Connects):
    """By the status variable ``Connections``, which counts every attempt."""

    _seen = 0

    async def __aenter__(self) -> Self:
        import asyncmy

        self._connection = await asyncmy.connect(**self.place.login("db"))
        await self.since_last()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._connection.ensure_closed()

    async def _ask(self, sql: str) -> Any:
        async with self._connection.cursor() as cursor:
            await cursor.execute(sql)
            return await cursor.fetchone()

    async def since_last(self) -> int:
        before, self._seen = self._seen, int((await self._ask("SHOW GLOBAL STATUS LIKE 'Connections'"))[1])
        return self._seen - before

    async def server_version(self) -> str:
        return str((await self._ask("SELECT VERSION()"))[0])


class PostgreSQLConnects(Connects):
    """By the backends that are there now and were not: one that came and went in between is not seen."""

    _seen: frozenset[int] = frozenset()

    async def __aenter__(self) -> Self:
        import psycopg

        self._connection = await psycopg.AsyncConnection.connect(**self.place.login("dbname"), autocommit=True)
        await self.since_last()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._connection.close()

    async def since_last(self) -> int:
        found = await self._connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database()",
        )
        before, self._seen = self._seen, frozenset(pid for (pid,) in await found.fetchall())
        return len(self._seen - before)

    async def server_version(self) -> str:
        found = await self._connection.execute("SHOW server_version")
        return "PostgreSQL " + str((await found.fetchone())[0])
