"""``Database.fetch_*``: Core statements on our pool."""

from __future__ import annotations

from typing import Any

from ..schema import StationOut
from ..workloads import to_json
from . import statements
from .ours import OurPath


class OurVerbs(OurPath):
    name = "our-verbs"
    title = "ours, Database.fetch_*"

    async def point(self, key: int) -> tuple[Any, ...]:
        return tuple(await self.database.fetch_one(statements.city_row(key)))

    async def page(self, first: int, last: int) -> bytes:
        return to_json(await self.database.fetch_all(statements.city_rows(first, last), into=dict))

    async def models(self, first: int, last: int) -> list[StationOut]:
        return await self.database.fetch_all(statements.station_rows(first, last), into=StationOut)

    async def join(self, country: int, limit: int) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.database.fetch_all(statements.joined_rows(country, limit))]
