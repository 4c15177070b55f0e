"""psycopg alone: the unit of every figure on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..schema import CITY_COLUMNS, STATION_COLUMNS, STATIONS_OUT, StationOut
from ..workloads import to_json
from .base import Path

_STATION = f"SELECT {', '.join(STATION_COLUMNS)} FROM station"
_CITY = f"SELECT {', '.join(CITY_COLUMNS)} FROM city"


class RawPsycopg(Path):
    name = "psycopg"
    title = "raw psycopg"
    config = (
        "AsyncConnection(autocommit=True), its own prepare_threshold; a bare asyncio.LifoQueue for a pool, "
        "the least that can be: psycopg_pool would be one more peer"
    )
    families = frozenset({"postgresql"})

    async def open(self) -> None:
        import psycopg

        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        for _ in range(self.place.pool_size):
            connection = await psycopg.AsyncConnection.connect(**self.place.login("dbname"), autocommit=True)
            self._idle.put_nowait(connection)

    async def close(self) -> None:
        while not self._idle.empty():
            await self._idle.get_nowait().close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        connection = await self._idle.get()
        try:
            yield connection
        finally:
            self._idle.put_nowait(connection)

    async def _all(self, sql: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        async with self._connection() as connection:
            return list(await (await connection.execute(sql, arguments)).fetchall())

    async def point(self, key: int) -> tuple[Any, ...]:
        return (await self._all(f"{_CITY} WHERE id = %s", (key,)))[0]

    async def page(self, first: int, last: int) -> bytes:
        rows = await self._all(f"{_CITY} WHERE id BETWEEN %s AND %s ORDER BY id", (first, last))
        return to_json(dict(zip(CITY_COLUMNS, row, strict=True)) for row in rows)

    async def join(self, country: int, limit: int) -> list[tuple[Any, ...]]:
        return await self._all(
            "SELECT city.id, city.name, city.population, country.name, country.continent FROM city"
            " JOIN country ON country.id = city.country_id WHERE city.country_id = %s ORDER BY city.id LIMIT %s",
            (country, limit),
        )

    async def models(self, first: int, last: int) -> list[StationOut]:
        rows = await self._all(f"{_STATION} WHERE id BETWEEN %s AND %s ORDER BY id", (first, last))
        return STATIONS_OUT.validate_python([dict(zip(STATION_COLUMNS, row, strict=True)) for row in rows])

    async def transfer(self, source: int, target: int, amount: int) -> None:
        change = "UPDATE account SET balance = balance + %s WHERE id = %s"
        async with self._connection() as connection, connection.transaction():
            await connection.execute(change, (-amount, source))
            await connection.execute(change, (amount, target))
            await connection.execute(
                "INSERT INTO transfer (source, target, amount) VALUES (%s, %s, %s)", (source, target, amount)
            )

    async def debit(self, source: int, target: int, amount: int) -> None:
        async with self._connection() as connection, connection.transaction():
            read = await connection.execute("SELECT id, balance FROM account WHERE id = %s FOR UPDATE", (source,))
            ((key, balance),) = await read.fetchall()
            await connection.execute("UPDATE account SET balance = %s WHERE id = %s", (balance - amount, key))
            await connection.execute(
                "INSERT INTO transfer (source, target, amount) VALUES (%s, %s, %s) RETURNING id", (key, target, amount)
            )
