"""Cancelled at every point where it waits: nobody gets another's reply, nothing stays out, nothing is half done."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any, get_args

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.models import Value
from sqlalchemy import delete, func, insert, literal, select

import django_bridge
from asyncdb import Database
from asyncdb.testing import DatabaseServer, How, cancelled_everywhere
from django_bridge import run_django, scope
from tests.bridge.shared import Kind

from .conftest import OPEN_TRANSACTIONS, RUNNING, comes_true, count

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.parametrize("how", get_args(How))]
_numbers = itertools.count(1)


class Replies:
    """Each statement asks for a word that nobody else asks for."""

    wrong = right = 0

    def word(self) -> str:
        return f"token-{next(_numbers)}"

    def check(self, asked: str, found: object) -> None:
        self.right, self.wrong = self.right + (asked == found), self.wrong + (asked != found)


class Undo(Exception):
    """Rolls a block back."""


# The programs of the three doors. Each does all that a connection can be asked for.


async def session_reads(database: Database, replies: Replies) -> None:
    word = replies.word()
    replies.check(word, await database.fetch_val(select(literal(word))))
    async with database.session() as db:
        for word in (replies.word(), replies.word()):
            replies.check(word, (await db.execute(select(literal(word)))).scalar_one())


async def session_streams(database: Database, replies: Replies) -> None:
    words = [replies.word() for _ in range(4)]
    statement = select(literal(words[0])).union_all(*(select(literal(word)) for word in words[1:]))
    found = [word async for word in database.stream(statement, into=str, batch=2)]
    for asked, got in zip(words, found, strict=True):
        replies.check(asked, got)
    async with database.session() as db, db.stream(statement, into=str, batch=1) as rows:
        async for got in rows:
            replies.check(words[0], got)
            break


async def session_writes(database: Database, replies: Replies) -> None:
    async with database.atomic() as db:
        await db.execute(insert(Kind).values(app_label="a", model="one"))
        word = replies.word()
        replies.check(word, await db.fetch_val(select(literal(word))))
        try:
            async with database.atomic():
                await db.execute(insert(Kind).values(app_label="a", model="never"))
                raise Undo
        except Undo:
            pass
        async with database.atomic():
            await db.execute(insert(Kind).values(app_label="a", model="two"))


async def session_rolls_back(database: Database, replies: Replies) -> None:
    try:
        async with database.atomic() as db:
            await db.execute(insert(Kind).values(app_label="a", model="never"))
            word = replies.word()
            replies.check(word, await db.fetch_val(select(literal(word))))
            raise Undo
    except Undo:
        pass


async def orm_reads(database: Database, replies: Replies) -> None:
    for word in (replies.word(), replies.word()):
        replies.check(word, await ContentType.objects.values_list(Value(word), flat=True).afirst())
    word = replies.word()
    async for found in ContentType.objects.values_list(Value(word), flat=True).aiterator(chunk_size=1):
        replies.check(word, found)


async def orm_writes(database: Database, replies: Replies) -> None:
    async with django_bridge.atomic() as db:
        await ContentType.objects.acreate(app_label="a", model="one")
        word = replies.word()
        replies.check(word, await db.fetch_val(select(literal(word))))
        try:
            async with django_bridge.atomic():
                await ContentType.objects.acreate(app_label="a", model="never")
                raise Undo
        except Undo:
            pass
        async with django_bridge.atomic():
            await ContentType.objects.acreate(app_label="a", model="two")


async def orm_rolls_back(database: Database, replies: Replies) -> None:
    try:
        async with django_bridge.atomic():
            await ContentType.objects.acreate(app_label="a", model="never")
            raise Undo
    except Undo:
        pass


async def sync_code(database: Database, replies: Replies) -> None:
    def work() -> None:
        with transaction.atomic():
            ContentType.objects.create(app_label="a", model="one")
            word = replies.word()
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s", [word])
                replies.check(word, cursor.fetchone()[0])
            with transaction.atomic():
                ContentType.objects.create(app_label="a", model="two")

    await run_django(work)


PROGRAMS = [
    session_reads,
    session_streams,
    session_writes,
    session_rolls_back,
    orm_reads,
    orm_writes,
    orm_rolls_back,
    sync_code,
]


@pytest.fixture
async def database(tx: Any, project: Any) -> Database:
    """The bridge's database, each checkout of which pings."""
    project(ASYNC_DB={"default": {"ping_after": 0.0, "pool_size": 2, "pool_timeout": 3.0}})
    await django_bridge.database().execute(insert(Kind).values(app_label="a", model="there"))
    return django_bridge.database()


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_program_cancelled_anywhere_leaves_all_well(
    database: Database, server: DatabaseServer | None, how: How, program: Callable[..., Awaitable[None]]
) -> None:
    replies, points = Replies(), 0

    async def run() -> None:
        async with scope() if program in {orm_reads, orm_writes, orm_rolls_back, sync_code} else nullcontext():
            await program(database, replies)

    async for point in cancelled_everywhere(run, how=how):
        points += 1
        assert database.stats().checked_out == 0, f"at its wait number {point}"
        await _the_next_one_is_well(database, replies, f"at its wait number {point}")
    assert points >= 3
    assert replies.right >= points
    assert replies.wrong == 0
    if server is not None:
        assert await comes_true(lambda: count(server, RUNNING) == 0, within=1.0)
        assert await comes_true(lambda: count(server, OPEN_TRANSACTIONS) == 0)


async def _the_next_one_is_well(database: Database, replies: Replies, where: str) -> None:
    async with database.atomic() as db, database.session() as other:
        for one in (db, other):
            word = replies.word()
            replies.check(word, await one.fetch_val(select(literal(word))))
        found = await db.fetch_val(select(func.count()).where(Kind.model.in_(["one", "two"])))
        assert found in (0, 2), f"half of it was applied {where}"
        assert await db.fetch_val(select(func.count()).where(Kind.model == "never")) == 0, where
        await db.execute(delete(Kind).where(Kind.model.in_(["one", "two"])))


async def test_a_first_connection_cancelled_anywhere_leaves_all_well(
    database_config: Any, server: DatabaseServer | None, how: How
) -> None:
    replies = Replies()
    made: list[Database] = []

    async def connects() -> None:
        made.append(Database(database_config))
        word = replies.word()
        replies.check(word, await made[-1].fetch_val(select(literal(word))))

    async for point in cancelled_everywhere(connects, how=how):
        assert made[-1].stats().checked_out == 0, f"at its wait number {point}"
        await session_reads(made[-1], replies)
        await made[-1].close()
    await made[-1].close()
    assert replies.wrong == 0


async def test_a_caller_cancelled_in_line_passes_on_what_he_was_given(database_config: Any, how: How) -> None:
    """A connection handed over in the moment of the cancellation goes to the next in line."""
    database, replies = Database(database_config.model_copy(update={"pool_size": 1, "pool_timeout": 3.0})), Replies()

    others: list[asyncio.Task[None]] = []

    async def holds() -> None:
        async with database.session() as holder:
            await holder.execute(select(1))
            others.append(asyncio.create_task(session_reads(database, replies)))
            for _ in range(20):  # whoever comes stands in line meanwhile
                await asyncio.sleep(0)

    async def stands_in_line() -> None:
        others.append(asyncio.create_task(holds()))
        await asyncio.sleep(0)
        await session_reads(database, replies)

    try:
        async for point in cancelled_everywhere(stands_in_line, how=how):
            while others:
                await others.pop()
            assert (database.stats().checked_out, database.stats().waiting) == (0, 0), f"at its wait number {point}"
            await session_reads(database, replies)
        while others:
            await others.pop()
        assert database.stats().counts.waits > 0
    finally:
        await database.close()
    assert replies.wrong == 0


@pytest.mark.families("mariadb", "mysql")
async def test_without_the_drop_somebody_gets_anothers_reply(
    database: Database, how: How, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a connection that goes back with a reply on its way gives it to whoever comes next."""
    from asyncdb.checkout import Checkout
    from asyncdb.drivers.mysql import Connection
    from asyncdb.drivers.physical import Liveness
    from django_bridge.wrappers.base import OnSeat

    def goes_back(checkout: Any) -> None:
        checkout.dbapi_connection.doom = None
        monkeypatch.setattr(Connection, "nothing_to_end", True)
        checkout.close()

    monkeypatch.setattr(Checkout, "invalidate", goes_back)
    monkeypatch.setattr(Connection, "look", lambda _: Liveness.WHOLE)
    monkeypatch.setattr(Connection, "probe", lambda _: asyncio.sleep(0))
    monkeypatch.setattr(OnSeat, "may_ask_again", lambda *_: False)
    replies = Replies()
    harm = 0

    async def run() -> None:
        async with scope():
            await orm_reads(database, replies)

    try:
        async with asyncio.timeout(5.0):
            async for _ in cancelled_everywhere(run, how=how):
                async with scope():
                    await orm_reads(database, replies)
    except Exception:
        harm = 1  # the driver noticed by itself
    assert replies.wrong + harm > 0
