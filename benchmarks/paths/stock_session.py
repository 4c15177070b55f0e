"""SQLAlchemy's ``AsyncSession`` on its own engine, with pre-ping and without."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from .session_requests import SessionRequests
from .stock_engine import StockPath


class StockSession(SessionRequests, StockPath):
    name = "session"
    title = "AsyncSession, stock"
    config = StockPath.config + "; async_sessionmaker(expire_on_commit=False), as SQLAlchemy's asyncio chapter has it"

    async def open(self) -> None:
        await super().open()
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        return self._sessions()


class StockSessionWithoutPing(StockSession):
    name = "session-no-ping"
    title = "AsyncSession, stock, no pre-ping"
    config = "as session, with pool_pre_ping=False: nobody should run it so, but it is the harder rival"
    pool_pre_ping = False
