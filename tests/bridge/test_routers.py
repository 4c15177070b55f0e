"""``DATABASE_ROUTERS`` decide: one request on several aliases, a replica, and one transaction for each alias."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from sqlalchemy import insert

from asyncdb import Session
from asyncdb.engine import pool_of
from django_bridge import atomic, database, run_django, scope, session
from tests.bridge.shared import Kind, clear, outside, session_writes

from .site import SCOPED, get, site

native_only = pytest.mark.native_only("in threads the session and the ORM have transactions of their own")


class Replica:
    """Reads go to ``other``, writes to ``default``."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "other"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True


class Tenant:
    """Everything of content types is on the alias of the tenant of now."""

    now = "default"

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.now if model is ContentType else None

    db_for_write = db_for_read


@pytest.fixture
def routed(project: Any) -> Iterator[Callable[..., None]]:
    """``routed(Replica)``: these are the ``DATABASE_ROUTERS``."""

    def use(*routers: type) -> None:
        project(DATABASE_ROUTERS=[f"{__name__}.{one.__name__}" for one in routers])

    yield use
    Tenant.now = "default"


@pytest.fixture
def request_to(project: Any) -> Callable[..., Any]:
    """Sends one request to a view below ``ScopeMiddleware``."""

    async def send(view: Any) -> tuple[int, bytes]:
        site(project=project, middleware=[SCOPED], view=view)
        return await get("/view")

    return send


async def orm(model: str, using: str | None = None) -> None:
    await ContentType.objects.using(using).acreate(app_label="a", model=model)


async def everywhere() -> dict[str, list[str]]:
    return {alias: await outside(alias) for alias in ("default", "other")}


# Who is asked


async def test_a_replicas_router_sends_native_reads_there_and_writes_to_the_default(
    two: Any, routed: Any, request_to: Any
) -> None:
    routed(Replica)
    async with database("other").session() as db:
        await session_writes(db, "replica's")
        await db.commit()

    async def view(request: HttpRequest) -> HttpResponse:
        await ContentType.objects.acreate(app_label="a", model="one")
        await run_django(lambda: ContentType.objects.create(app_label="a", model="two"))
        await sync_to_async(lambda: ContentType.objects.create(app_label="a", model="three"))()
        read = [
            [one.model async for one in ContentType.objects.all()],
            await run_django(lambda: [one.model for one in ContentType.objects.all()]),
            await sync_to_async(lambda: [one.model for one in ContentType.objects.all()])(),
            [(await ContentType.objects.aget()).model],
        ]
        assert read == [["replica's"]] * 4
        return HttpResponse("ok")

    assert await request_to(view) == (200, b"ok")
    assert await everywhere() == {"default": ["one", "three", "two"], "other": ["replica's"]}


async def test_a_row_is_written_where_it_was_read_unless_the_router_says_otherwise(
    two: Any, routed: Any, request_to: Any
) -> None:
    await orm("row", "other")

    async def view(request: HttpRequest) -> HttpResponse:
        row = await ContentType.objects.using("other").aget(model="row")
        row.app_label = "b"
        await row.asave()
        return HttpResponse("ok")

    assert await request_to(view) == (200, b"ok")
    labels = ContentType.objects.values_list("app_label", flat=True)
    assert [label async for label in labels.using("other")] == ["b"]
    assert [label async for label in labels.using("default")] == []


async def test_without_a_router_everything_is_on_the_default(two: Any, request_to: Any) -> None:
    """The control: it is the router that sends reads elsewhere."""

    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        return HttpResponse(str(await ContentType.objects.acount()))

    assert await request_to(view) == (200, b"1")
    assert await everywhere() == {"default": ["one"], "other": []}


async def test_the_session_and_atomic_of_a_model_are_on_the_alias_of_its_router(two: Any, routed: Any) -> None:
    routed(Replica)
    async with session(model=ContentType) as db:
        await session_writes(db, "replica's")
        await db.commit()
    async with session(model=ContentType, for_write=True) as db:
        await session_writes(db, "one")
        await db.commit()
    async with atomic(model=ContentType) as db:
        await session_writes(db, "two")
    assert await everywhere() == {"default": ["one", "two"], "other": ["replica's"]}


async def test_atomic_of_a_model_asks_the_router_at_each_call(two: Any, routed: Any) -> None:
    routed(Tenant)

    @atomic(model=ContentType)
    async def write(model: str, *, db: Session) -> None:
        await session_writes(db, model)

    for tenant in ("default", "other", "default"):
        Tenant.now = tenant
        await write(f"{tenant} {len(await outside())}")
    assert await everywhere() == {"default": ["default 0", "default 1"], "other": ["other 1"]}


@native_only
async def test_atomic_of_a_model_covers_what_the_orm_writes_of_it(two: Any, routed: Any) -> None:
    routed(Tenant)
    Tenant.now = "other"
    with pytest.raises(LookupError):
        async with atomic(model=ContentType):
            await ContentType.objects.acreate(app_label="a", model="one")
            raise LookupError
    assert await everywhere() == {"default": [], "other": []}


def test_atomic_refuses_an_alias_and_a_model_together() -> None:
    with pytest.raises(TypeError, match="'using' or 'model', not both"):
        atomic("default", model=Group)


# Several aliases at once


@native_only
async def test_one_request_holds_a_connection_of_each_alias_while_both_are_in_transactions(
    two: Any, request_to: Any
) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        pools = [pool_of(database(alias).engine) for alias in ("default", "other")]
        held = [[pool.stats().checked_out for pool in pools]]
        async with atomic():
            await orm("one")
            held.append([pool.stats().checked_out for pool in pools])
            async with atomic("other"):
                await orm("two", "other")
                await sync_to_async(ContentType.objects.using("other").create)(app_label="a", model="three")
                held.append([pool.stats().checked_out for pool in pools])
            held.append([pool.stats().checked_out for pool in pools])
        held.append([pool.stats().checked_out for pool in pools])
        return HttpResponse(str(held))

    assert await request_to(view) == (200, b"[[0, 0], [1, 0], [1, 1], [1, 0], [0, 0]]")
    assert await everywhere() == {"default": ["one"], "other": ["three", "two"]}


@native_only
async def test_of_two_aliases_one_commits_and_the_other_rolls_back(two: Any, request_to: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        with pytest.raises(LookupError):
            async with atomic():
                await orm("outer")
                async with atomic("other") as db:
                    await orm("inner", "other")
                    await session_writes(db, "inner too")
                raise LookupError
        async with atomic() as db:
            await session_writes(db, "kept")
            with pytest.raises(LookupError):
                async with atomic("other"):
                    await orm("lost", "other")
                    raise LookupError
        return HttpResponse("ok")

    assert await request_to(view) == (200, b"ok")
    assert await everywhere() == {"default": ["kept"], "other": ["inner", "inner too"]}


@native_only
async def test_a_block_of_one_alias_is_none_of_the_other(two: Any) -> None:
    async with scope(), atomic():
        await orm("one")
        await orm("two", "other")
        await database("other").execute(insert(Kind).values(app_label="a", model="three"))
        assert not await run_django(lambda: connections["other"].in_atomic_block)
        assert await everywhere() == {"default": [], "other": ["three", "two"]}
        await clear()  # on the block's own connection: nothing of the other's
        transaction.set_rollback(True)
    assert await everywhere() == {"default": [], "other": ["three", "two"]}


@native_only
async def test_hooks_run_after_the_commit_of_their_own_alias(two: Any) -> None:
    ran: list[str] = []
    async with atomic():
        async with atomic("other"):
            transaction.on_commit(lambda: ran.append("default"))
            transaction.on_commit(lambda: ran.append("other"), using="other")
        assert ran == ["other"]
    assert ran == ["other", "default"]


@native_only
async def test_a_replicas_router_is_asked_inside_a_transaction_as_well(two: Any, routed: Any) -> None:
    """As in Django: what the transaction wrote is read back by ``using`` alone."""
    routed(Replica)
    async with scope(), atomic():
        await ContentType.objects.acreate(app_label="a", model="one")
        assert await ContentType.objects.acount() == 0
        assert await ContentType.objects.using("default").acount() == 1
    assert await everywhere() == {"default": ["one"], "other": []}


async def test_a_replica_in_threads_is_read_there(two: Any, routed: Any, request_to: Any) -> None:
    routed(Replica)
    two(ASYNC_DB={"other": {"mode": "threads"}})

    async def view(request: HttpRequest) -> HttpResponse:
        await ContentType.objects.acreate(app_label="a", model="one")
        return HttpResponse(str(await ContentType.objects.acount()))

    assert await request_to(view) == (200, b"0")
    assert await everywhere() == {"default": ["one"], "other": []}
