"""The same made-up rows for everyone, and the ledger that the transactions write, read back and set to nought."""

from __future__ import annotations

import datetime
import random
from decimal import Decimal

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from .schema import Account, Base, City, Country, Station, Transfer

COUNTRIES = 100
CITIES = 5_000
ACCOUNTS = 10_000
STATIONS = 1_200

_LETTERS = "abcdefghijklmnopqrstuvwxyzäéñß"


async def prepare(engine: AsyncEngine, seed: int) -> None:
    """Creates the tables and fills them; city ``i`` is in country ``i % COUNTRIES``."""
    source = random.Random(seed)
    begin = datetime.datetime(2020, 1, 1)  # noqa: DTZ001  (the columns have no zone, so that no path converts any)

    def name() -> str:
        return "".join(source.choices(_LETTERS, k=source.randint(4, 14))).title()

    countries = [
        {"id": i, "name": name(), "continent": source.choice(("AF", "AN", "AS", "EU", "NA", "OC", "SA"))}
        for i in range(COUNTRIES)
    ]
    cities = [
        {
            "id": i,
            "country_id": i % COUNTRIES,
            "name": name(),
            "population": source.randint(1_000, 30_000_000),
            "latitude": round(source.uniform(-90, 90), 5),
            "longitude": round(source.uniform(-180, 180), 5),
            "updated": begin + datetime.timedelta(seconds=source.randrange(10**8)),
        }
        for i in range(CITIES)
    ]
    stations = [
        {
            "id": i,
            "country_id": i % COUNTRIES,
            "code": f"{i:08}",
            "name": name(),
            "latitude": round(source.uniform(-90, 90), 5),
            "longitude": round(source.uniform(-180, 180), 5),
            "height": Decimal(source.randint(-40_000, 500_000)) / 100,
            "manned": source.random() < 0.5,
            "founded": begin.date() - datetime.timedelta(days=source.randrange(60_000)),
            "passengers": source.randint(0, 10**10),
            "updated": begin + datetime.timedelta(seconds=source.randrange(10**8)),
        }
        for i in range(STATIONS)
    ]
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(insert(Country), countries)
        await connection.execute(insert(City), cities)
        await connection.execute(insert(Station), stations)
        await connection.execute(insert(Account), [{"id": i, "balance": 1_000_000} for i in range(ACCOUNTS)])


async def reset_ledger(engine: AsyncEngine) -> None:
    """As before the first transfer."""
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE TABLE transfer"))
        await connection.execute(update(Account).values(balance=1_000_000))


async def ledger(engine: AsyncEngine) -> list[tuple[int, ...]]:
    """What the transactions have left behind, without the numbers that the server gave."""
    async with engine.connect() as connection:
        changed = select(Account.id, Account.balance).where(Account.balance != 1_000_000).order_by(Account.id)
        sent = select(Transfer.source, Transfer.target, Transfer.amount).order_by(Transfer.source)
        return [tuple(row) for statement in (changed, sent) for row in await connection.execute(statement)]
