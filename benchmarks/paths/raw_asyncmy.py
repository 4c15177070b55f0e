"""asyncmy alone: the unit of every figure on MySQL and MariaDB."""

from __future__ import annotations

from typing import Any

from ..schema import CITY_COLUMNS, STATION_COLUMNS, STATIONS_OUT, StationOut
from ..workloads import to_json
from .base import Path

_STATION = f"SELECT {', '.join(STATION_COLUMNS)} FROM station"
_CITY = f"SELECT {', '.join(CITY_COLUMNS)} FROM city"


class RawAsyncmy(Path):
    name = "asyncmy"
    title = "raw asyncmy"
    config = (
        "create_pool(minsize=maxsize=pool size, autocommit=True), text protocol: asyncmy as its README shows it, "
        "every connection opened beforehand"
    )
    families = frozenset({"mysql"})

    async def open(self) -> None:
        import asyncmy

        size = self.place.pool_size
        self._pool: Any = await asyncmy.create_pool(
            minsize=size, maxsize=size, autocommit=True, **self.place.login("db")
        )

    async def close(self) -> None:
        self._pool.close()
        await self._pool.wait_closed()

    async def _all(self, sql: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(sql, arguments)
            return list(await cursor.fetchall())

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
        async with self._pool.acquire() as connection:
            await connection.begin()
            try:
                async with connection.cursor() as cursor:
                    await cursor.execute(change, (-amount, source))
                    await cursor.execute(change, (amount, target))
                    await cursor.execute(
                        "INSERT INTO transfer (source, target, amount) VALUES (%s, %s, %s)", (source, target, amount)
                    )
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()

    async def debit(self, source: int, target: int, amount: int) -> None:
        async with self._pool.acquire() as connection:
            await connection.begin()
            try:
                async with connection.cursor() as cursor:
                    await cursor.execute("SELECT id, balance FROM account WHERE id = %s FOR UPDATE", (source,))
                    ((key, balance),) = await cursor.fetchall()
                    await cursor.execute("UPDATE account SET balance = %s WHERE id = %s", (balance - amount, key))
                    await cursor.execute(
                        "INSERT INTO transfer (source, target, amount) VALUES (%s, %s, %s)", (key, target, amount)
                    )
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()
