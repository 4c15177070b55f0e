"""A connection out of the pool and back, with nothing in between: what the pools' own checks cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from .base import Path, fill
from .ours import OurPath
from .stock_engine import stock_engine


class _Checkout(Path):
    engine: AsyncEngine

    async def checkout(self) -> None:
        async with self.engine.connect():
            pass

    async def serve(self, method: str, requests: Iterator[tuple[Any, ...]], tasks: int) -> None:
        # Nobody stands in line here: that is another cost.
        await super().serve(method, requests, min(tasks, self.place.pool_size))


class StockPool(_Checkout):
    name = "pool"
    title = "SQLAlchemy's pool"
    config = "create_async_engine(pool_size, max_overflow=0): SQLAlchemy's defaults, which roll back at check-in"
    silent = False

    async def open(self) -> None:
        silence = {"pool_reset_on_return": None} if self.silent else {}
        self.engine = stock_engine(self.place, pool_pre_ping=False, **silence)
        await fill(self.engine.connect, self.place.pool_size)

    async def close(self) -> None:
        await self.engine.dispose()


class SilentPool(StockPool):
    name = "pool-silent"
    title = "... without any check"
    config = "the same with pool_reset_on_return=None: not usable, but the least that a checkout can cost"
    silent = True


class OurPool(OurPath, _Checkout):
    name = "our-pool"
    title = "our pool"

    async def open(self) -> None:
        await super().open()
        self.engine = self.database.engine
