"""What a request does with a session; the stock path and ours differ in where the session comes from."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from ..schema import Transfer
from ..workloads import to_json
from . import statements


async def transfer_in(session: AsyncSession, source: int, target: int, amount: int) -> None:
    """The three writes; whoever opened the session commits them."""
    await session.execute(statements.orm_add_to_balance(source, -amount))
    await session.execute(statements.orm_add_to_balance(target, amount))
    session.add(Transfer(source=source, target=target, amount=amount))


class SessionRequests:
    """The ORM's objects, read and written as SQLAlchemy's documentation does."""

    def session(self) -> AbstractAsyncContextManager[AsyncSession]:
        raise NotImplementedError

    async def point(self, key: int) -> tuple[Any, ...]:
        async with self.session() as session:
            return statements.as_tuple((await session.execute(statements.city(key))).scalar_one())

    async def page(self, first: int, last: int) -> bytes:
        async with self.session() as session:
            cities = (await session.execute(statements.cities(first, last))).scalars().all()
        return to_json(map(statements.as_dict, cities))

    async def join(self, country: int, limit: int) -> list[tuple[Any, ...]]:
        async with self.session() as session:
            cities = (await session.execute(statements.cities_with_country(country, limit))).scalars().all()
        return [statements.as_joined(city) for city in cities]

    async def transfer(self, source: int, target: int, amount: int) -> None:
        async with self.session() as session:
            await transfer_in(session, source, target, amount)
            await session.commit()
