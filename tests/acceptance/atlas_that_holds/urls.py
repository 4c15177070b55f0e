"""A stream that keeps its connection while it waits."""

from __future__ import annotations

from collections.abc import AsyncIterator

from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path
from sqlalchemy import text

from atlas.urls import urlpatterns as atlas_urls
from django_bridge import session
from places.inputs import Live
from places.live import events


async def held(request: HttpRequest) -> StreamingHttpResponse:
    async def events_in_a_session() -> AsyncIterator[str]:
        async with session() as db:
            await db.execute(text("SELECT 1"))
            async for event in events(Live.of(request)):
                yield event

    return StreamingHttpResponse(events_in_a_session(), content_type="text/event-stream")


urlpatterns = [*atlas_urls, path("held/", held)]
