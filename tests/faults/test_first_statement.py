"""What the second try of a first statement must not cost: objects, options, errors; and where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError, connection
from django.db.backends.signals import connection_created
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, literal, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import django_bridge
from asyncdb import Database, DatabaseConfig, Session
from asyncdb.testing import DatabaseServer, Proxy
from django_bridge import run_django, scope
from django_bridge.wrappers.base import OnSeat

from .conftest import whole
from .test_retry import _while_it_breaks

pytestmark = [pytest.mark.faults, pytest.mark.families("mariadb", "postgresql", "mysql")]
Proxied = tuple[DatabaseConfig, Proxy]


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


INSERT = text("INSERT INTO account VALUES (1, 1)")
COUNT = text("SELECT COUNT(*) FROM account")


async def in_a_session(database: Database, work: Callable[[Session], Awaitable[Any]]) -> None:
    async with database.session() as db:
        await work(db)
        await db.commit()


async def in_a_block(database: Database, work: Callable[[Session], Awaitable[Any]]) -> None:
    async with database.atomic() as db:
        await work(db)


async def adds_and_reads(db: Session) -> None:
    db.add(Account(id=1, balance=5))
    await db.execute(select(Account.balance))  # flushes first


async def begins(db: Session) -> None:
    async with db.begin():
        await db.execute(INSERT)


async def chooses_a_level(db: Session) -> None:
    await db.connection(execution_options={"isolation_level": "SERIALIZABLE"})
    await db.execute(INSERT)


CAUSES = [
    (in_a_session, adds_and_reads),
    (in_a_block, adds_and_reads),
    (in_a_session, begins),
    (in_a_session, chooses_a_level),
]


@pytest.mark.parametrize(("within", "work"), CAUSES)
async def test_where_a_second_try_would_lose_something_the_loss_is_raised(
    proxied: Proxied, within: Any, work: Any
) -> None:
    """The control is in ``test_retry``: the same without objects and options is sent once more."""
    config, proxy = proxied
    async with whole(config, None) as database:
        async with database.engine.begin() as connection_:
            await connection_.run_sync(Base.metadata.create_all)
        with pytest.raises(DBAPIError) as caught:
            await _while_it_breaks(database, proxy, within(database, work))
        assert caught.value.connection_invalidated
        assert await database.fetch_val(COUNT) == 0
        assert database.stats().counts.retried == 0


@pytest.mark.families("postgresql")
async def test_nothing_is_written_to_another_schema(proxied: Proxied) -> None:
    config, proxy = proxied
    thing = Table("thing", MetaData(), Column("id", Integer, primary_key=True))

    async def writes(db: Session) -> None:
        await db.connection(execution_options={"schema_translate_map": {None: "tenant"}})
        await db.execute(insert(thing).values(id=1))

    async with whole(config, None) as database:
        for sql in ("CREATE SCHEMA tenant", "CREATE TABLE tenant.thing (id int)", "CREATE TABLE public.thing (id int)"):
            await database.execute(text(sql))
        with pytest.raises(DBAPIError):
            await _while_it_breaks(database, proxy, in_a_session(database, writes))
        assert await database.fetch_val(text("SELECT COUNT(*) FROM public.thing")) == 0


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.config(max_reply_bytes=2**20, isolation_level="READ COMMITTED")
async def test_a_reply_that_is_too_large_is_not_asked_for_again(database: Database) -> None:
    with pytest.raises(DBAPIError, match="max_reply_bytes"):
        await database.fetch_val(select(func.repeat("x", 4_000_000)))
    assert (database.stats().counts.retried, database.stats().counts.connects) == (0, 1)


# The ORM's reads


@pytest.fixture
def broken(tx: Any, server: DatabaseServer, project: Any) -> Iterator[Proxy]:
    """The way of the bridge to its database leads through a proxy."""
    with Proxy(server.host, server.port) as proxy:
        tx(PORT=proxy.port)
        yield proxy


async def _reads_by_orm() -> object:
    async with scope():
        return await ContentType.objects.filter(app_label="nobody").acount()


async def _reads_by_run_django() -> object:
    return await run_django(ContentType.objects.filter(app_label="nobody").count)


async def _reads_after_a_setting() -> object:
    def work() -> object:
        with connection.cursor() as cursor:
            cursor.execute("SET @mine = 5")
            cursor.execute("SELECT 0")
            return cursor.fetchone()[0]

    return await run_django(work)


ORM = pytest.mark.parametrize("read", [_reads_by_orm, _reads_by_run_django])


@pytest.mark.families("mariadb", "mysql")
@ORM
async def test_a_read_of_the_orm_whose_reply_was_lost_is_sent_once_more(broken: Proxy, read: Any) -> None:
    assert await _while_it_breaks(django_bridge.database(), broken, read()) == 0
    assert django_bridge.database().stats().counts.retried == 1


@pytest.mark.families("mariadb", "mysql")
@ORM
async def test_without_that_it_fails(broken: Proxy, read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    monkeypatch.setattr(OnSeat, "may_ask_again", lambda *_: False)
    with pytest.raises(OperationalError):
        await _while_it_breaks(django_bridge.database(), broken, read())


@pytest.mark.families("mariadb", "mysql")
async def test_what_changed_the_session_is_not_sent_again(broken: Proxy) -> None:
    with pytest.raises(OperationalError):
        await _while_it_breaks(django_bridge.database(), broken, _reads_after_a_setting())
    assert django_bridge.database().stats().counts.retried == 0


@pytest.fixture
def receives() -> Iterator[list[Any]]:
    """What ``connection_created`` is to call."""
    calls: list[Callable[[Any], None]] = []

    def receiver(connection: Any, **_: Any) -> None:
        for call in calls:
            call(connection)

    connection_created.connect(receiver)
    yield calls
    connection_created.disconnect(receiver)


async def test_a_receiver_of_new_connections_switches_no_second_try_off(broken: Proxy, receives: list[Any]) -> None:
    database = django_bridge.database()
    assert await _while_it_breaks(database, broken, database.fetch_val(select(literal(7)))) == 7


@pytest.mark.families("mariadb", "mysql")
async def test_a_connection_that_breaks_under_a_receiver_is_its_drivers_error(
    broken: Proxy, receives: list[Any]
) -> None:
    def asks(connection: Any) -> None:
        with connection.cursor() as cursor:
            broken.reset_connections()
            cursor.execute("SELECT 1")

    await asyncio.sleep(0)
    receives.append(asks)
    with pytest.raises(Exception, match="failed with OperationalError"):
        await django_bridge.database().fetch_val(select(literal(1)))
    receives.clear()
