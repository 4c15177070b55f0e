"""A pool without a free connection: a request gets 503 and ``Retry-After`` where the middleware is, else its error."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext
from django.core.handlers.asgi import ASGIHandler
from django.db import DatabaseError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory
from django.urls import path
from sqlalchemy import text

from asyncdb.errors import PoolTimeout
from django_bridge import session
from django_bridge.busy import BusyMiddleware

BUSY = ("django_bridge.middleware.ScopeMiddleware", "django_bridge.busy.BusyMiddleware")


def sync_view(request: HttpRequest) -> HttpResponse:
    from django.contrib.contenttypes.models import ContentType

    return HttpResponse(str(ContentType.objects.count()))


async def orm_view(request: HttpRequest) -> HttpResponse:
    from django.contrib.contenttypes.models import ContentType

    return HttpResponse(str(await ContentType.objects.acount()))


async def session_view(request: HttpRequest) -> HttpResponse:
    async with session() as db:
        return HttpResponse(str(await db.scalar(text("SELECT 1"))))


def wrong_view(request: HttpRequest) -> HttpResponse:
    raise OperationalError("another error") from DatabaseError("of another cause")


urlpatterns = [
    path("sync/", sync_view),
    path("orm/", orm_view),
    path("session/", session_view),
    path("wrong/", wrong_view),
]


async def answer(project: Any, where: str, middleware: tuple[str, ...] = BUSY) -> Any:
    project(MIDDLEWARE=list(middleware), ROOT_URLCONF=__name__, DEBUG_PROPAGATE_EXCEPTIONS=False)
    handler = ASGIHandler()

    async def request() -> Any:
        async with ThreadSensitiveContext():
            return await handler.get_response_async(AsyncRequestFactory().get(f"/{where}/"))

    # As a server does it: in a task of its own, which inherits nothing of who holds the connection.
    return await asyncio.create_task(request(), context=contextvars.Context())


@pytest.mark.native_only("of the loop's pool")
@pytest.mark.parametrize("where", ["sync", "orm", "session"])
async def test_a_request_without_a_connection_is_told_to_come_again(
    shop: Any, project: Any, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    from django.contrib.contenttypes.models import ContentType

    await shop.create(ContentType)
    shop.configure(async_db={"pool_size": 1, "pool_timeout": 0.2})
    async with session() as db:
        await db.execute(text("SELECT 1"))
        busy = await answer(project, where)
        with caplog.at_level("CRITICAL", logger="django.request"):
            stock = await answer(project, where, BUSY[:1])
    free = await answer(project, where)
    assert (busy.status_code, busy["Retry-After"]) == (503, "1")
    assert f"503 for /{where}/" in caplog.text
    assert stock.status_code == 500
    assert free.status_code == 200


async def test_another_error_is_none_of_its_business(shop: Any, project: Any) -> None:
    assert (await answer(project, "wrong")).status_code == 500


def test_a_subclass_says_other_seconds() -> None:
    class Patient(BusyMiddleware):
        retry_after = 30

    found = Patient(orm_view).process_exception(HttpRequest(), PoolTimeout())
    assert found is not None
    assert found["Retry-After"] == "30"
