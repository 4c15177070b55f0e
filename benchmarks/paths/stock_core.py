"""SQLAlchemy Core on its own engine."""

from __future__ import annotations

from typing import Any

from ..workloads import to_json
from . import statements
from .stock_engine import StockPath


class StockCore(StockPath):
    name = "core"
    title = "SQLAlchemy Core, stock"

    async def point(self, key: int) -> tuple[Any, ...]:
        async with self.engine.connect() as connection:
            return tuple((await connection.execute(statements.city_row(key))).one())

    async def page(self, first: int, last: int) -> bytes:
        async with self.engine.connect() as connection:
            rows = (await connection.execute(statements.city_rows(first, last))).mappings().all()
        return to_json(map(dict, rows))

    async def join(self, country: int, limit: int) -> list[tuple[Any, ...]]:
        async with self.engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(statements.joined_rows(country, limit))]

    async def transfer(self, source: int, target: int, amount: int) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(statements.add_to_balance(source, -amount))
            await connection.execute(statements.add_to_balance(target, amount))
            await connection.execute(statements.insert_transfer(source, target, amount))
