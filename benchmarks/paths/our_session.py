"""``Database.session()``: what the stock ``AsyncSession`` path does, on our pool."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncSession

from .ours import OurPath
from .session_requests import SessionRequests


class OurSession(SessionRequests, OurPath):
    name = "our-session"
    title = "ours, Database.session()"

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        return self.database.session()
