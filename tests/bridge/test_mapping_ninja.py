"""``pydantic_model`` as a django-ninja response, of what a session reads and of Django's own instances."""

# ruff: noqa: N806  (what mapped() gives is a class)

# The annotations of a view are read where it stands: they are no strings here.

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import AsyncClient
from django.urls import path
from ninja import NinjaAPI
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from asyncdb import Page
from django_bridge import database, mapped, pydantic_model

from .test_mapping_pydantic import VALUES, catalogue

__all__ = ["catalogue"]


def routes(models: Any) -> Any:
    """A ``ROOT_URLCONF`` whose API answers with mapped objects, pydantic models, a page, and instances."""
    Entry = mapped(models.Entry)
    EntryOut = pydantic_model(
        models.Entry, fields=["word", "state", "day", "maker", "others"], depth=1, name="EntryOut"
    )
    loaded = select(Entry).options(joinedload(Entry.maker), selectinload(Entry.others)).order_by(Entry.id)
    api = NinjaAPI(urls_namespace=f"catalogue {id(models)} {id(loaded)}")

    @api.get("mapped", response=list[EntryOut])  # type: ignore[valid-type]  # made just now
    async def of_mapped(request: HttpRequest) -> Any:
        return [row[0] for row in await database().fetch_all(loaded)]

    @api.get("typed", response=list[EntryOut])  # type: ignore[valid-type]  # as above
    async def of_typed(request: HttpRequest) -> Any:
        return await database().fetch_all(loaded, into=EntryOut)

    @api.get("page", response=Page[EntryOut])  # type: ignore[valid-type]  # as above
    async def of_page(request: HttpRequest) -> Any:
        return await database().fetch_page(loaded, size=10, into=EntryOut)

    @api.get("django", response=list[EntryOut])  # type: ignore[valid-type]  # as above
    async def of_django(request: HttpRequest) -> Any:
        found = models.Entry.objects.select_related("maker").prefetch_related("others")
        return [entry async for entry in found]

    @api.post("maker", response=pydantic_model(models.Maker))
    async def post(request: HttpRequest, maker: pydantic_model(models.Maker, fields=["code"], name="MakerIn")) -> Any:  # type: ignore[valid-type]  # as above
        return await models.Maker.objects.acreate(**maker.model_dump())

    return (path("api/", api.urls),)


@pytest.fixture
def client(catalogue: Any, project: Callable[..., None]) -> AsyncClient:
    project(ROOT_URLCONF=routes(catalogue), ALLOWED_HOSTS=["testserver"], MIDDLEWARE=[
        "django_bridge.middleware.ScopeMiddleware"])  # fmt: skip
    return AsyncClient()


async def test_every_source_gives_the_same_answer(client: AsyncClient) -> None:
    first, second = {"id": 1, "code": "m1", "parent_id": None}, {"id": 2, "code": "m2", "parent_id": 1}
    wanted = [
        {"word": "ab", "state": "old", "day": VALUES["day"].isoformat(), "maker": second, "others": [first, second]}
    ]
    for source in ("mapped", "typed", "django"):
        answer = await client.get(f"/api/{source}")
        assert (answer.status_code, answer.json()) == (200, wanted), source
    page = (await client.get("/api/page")).json()
    assert page == {
        "items": wanted, "total": 1, "page": 1, "size": 10, "pages": 1, "has_next": False, "has_previous": False
    }  # fmt: skip


async def test_what_is_posted_is_validated_by_the_fields_limits(client: AsyncClient) -> None:
    refused = await client.post("/api/maker", {"code": "too long"}, content_type="application/json")
    assert (refused.status_code, refused.json()["detail"][0]["loc"][-1]) == (422, "code")
    made = await client.post("/api/maker", {"code": "m3"}, content_type="application/json")
    assert (made.status_code, made.json()) == (200, {"id": 3, "code": "m3", "parent_id": None})


async def test_the_schema_has_the_fields_words(client: AsyncClient) -> None:
    schema = (await client.get("/api/openapi.json")).json()["components"]["schemas"]
    assert schema["EntryOut"]["properties"]["word"]["description"] == "How it is written"
    assert schema["EntryOut"]["properties"]["state"]["enum"] == ["new", "old"]
