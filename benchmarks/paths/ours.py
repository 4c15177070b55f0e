"""Our ``Database`` for the paths that stand on it."""

from __future__ import annotations

from asyncdb import Database, DatabaseConfig

from .base import Path, fill


class OurPath(Path):
    """A path on our pool."""

    config = (
        "DatabaseConfig's defaults (liveness look at each checkout, ping after 30 idle seconds), the same pool size"
    )

    async def open(self) -> None:
        place = self.place
        self.database = Database(
            DatabaseConfig.of(family=place.family, pool_size=place.pool_size, **place.login("database")),
        )
        await fill(self.database.engine.connect, place.pool_size)

    async def close(self) -> None:
        await self.database.close()
