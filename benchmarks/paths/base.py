"""What a path is: a way from Python to the rows, with a method for each workload that it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import URL

from asyncdb.config import Family


@dataclass(frozen=True)
class Place:
    """Where the database is, and how many connections a pool may have."""

    family: Family
    host: str
    port: int
    user: str
    password: str
    database: str
    pool_size: int

    def __repr__(self) -> str:
        return f"<Place {self.family} {self.host}:{self.port}>"

    def login(self, database_argument: str) -> dict[str, Any]:
        """A driver's own arguments of ``connect``."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            database_argument: self.database,
        }

    def url(self, drivername: str) -> URL:
        return URL.create(drivername, self.user, self.password, self.host, self.port, self.database)


class Path:
    """One way to the rows. Its methods are those that the workloads name; one that it lacks is not measured.

    - ``point(key)``: the columns of one city, a tuple
    - ``page(first, last)``: cities as JSON, bytes
    - ``join(country, limit)``: (city's id, name, population, country's name, continent), a list of tuples
    - ``transfer(source, target, amount)``: two updates and an insert in a transaction
    - ``debit(source, target, amount)``: an account read FOR UPDATE, its balance written from what was read, an insert,
      in a transaction
    - ``checkout()``: nothing, on a connection out of the pool
    - ``models(first, last)``: stations as ``StationOut``, a list
    """

    name: ClassVar[str]
    title: ClassVar[str]
    config: ClassVar[str]
    """How it is configured, and why so."""
    families: ClassVar[frozenset[Family]] = frozenset({"mysql", "postgresql"})
    connects_by_design: ClassVar[bool] = False
    """It opens connections while it is measured, and that belongs to its cost."""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def open(self) -> None:
        """Makes the pool and opens all of its connections."""

    async def close(self) -> None:
        """Closes them."""

    def in_place(self) -> AbstractContextManager[None]:
        """Puts in place, while its methods are called, what would change other paths."""
        return nullcontext()

    async def serve(self, method: str, requests: Iterator[tuple[Any, ...]], tasks: int) -> None:
        """Serves requests, each with its arguments, ``tasks`` at a time."""
        request = getattr(self, method)

        async def work() -> None:
            for arguments in requests:
                await request(*arguments)

        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(work())


async def fill(connect: Callable[[], AbstractAsyncContextManager[Any]], pool_size: int) -> None:
    """Opens every connection of a pool, by holding all of them at once."""
    async with AsyncExitStack() as held:
        for _ in range(pool_size):
            await held.enter_async_context(connect())
