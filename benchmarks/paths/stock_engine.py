"""SQLAlchemy's own engine as a team sets it up, for the stock paths."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from .base import Path, Place, fill

_DRIVERS = {"mysql": "mysql+asyncmy", "postgresql": "postgresql+psycopg"}


def stock_engine(place: Place, *, pool_pre_ping: bool = True, **options: Any) -> AsyncEngine:
    return create_async_engine(
        place.url(_DRIVERS[place.family]),
        pool_size=place.pool_size,
        max_overflow=0,
        pool_pre_ping=pool_pre_ping,
        **options,
    )


class StockPath(Path):
    """A path on that engine."""

    pool_pre_ping: ClassVar[bool] = True
    config = (
        "create_async_engine(pool_size, pool_pre_ping=True, max_overflow=0): SQLAlchemy's defaults, pre-ping because "
        "without it an idle connection fails, no overflow because overflow connects anew at each request"
    )

    async def open(self) -> None:
        self.engine = stock_engine(self.place, pool_pre_ping=self.pool_pre_ping)
        await fill(self.engine.connect, self.place.pool_size)

    async def close(self) -> None:
        await self.engine.dispose()
