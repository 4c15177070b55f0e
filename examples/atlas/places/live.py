"""The visits as they happen: server-sent events, from Django's ORM, with no connection held between two of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from django.http import HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_GET

from .inputs import Live, answers_errors
from .models import Visit

LATEST = 3


@require_GET
@answers_errors
async def live(request: HttpRequest) -> StreamingHttpResponse:
    """How many visits there are and where the latest were, again and again: ``EventSource("/live/?every=1")``."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # a proxy that buffers would hold events back
    return StreamingHttpResponse(events(Live.of(request)), content_type="text/event-stream", headers=headers)


async def events(asked: Live) -> AsyncIterator[str]:
    """Yields the first event at once, and the others ``asked.every`` seconds apart."""
    for number in range(asked.events):
        if number:
            await asyncio.sleep(asked.every)
        latest = [visit.city.name async for visit in Visit.objects.select_related("city")[:LATEST]]
        told = {"visits": await Visit.objects.acount(), "latest": latest}
        yield f"id: {number}\nevent: visits\ndata: {json.dumps(told)}\n\n"
