"""Whether the database answers, and how the pool is doing."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET
from pydantic import TypeAdapter

from django_bridge import database

from .inputs import answer


@require_GET
async def health(_request: HttpRequest) -> JsonResponse:
    """Answers 200 while the database does, else 503, with the numbers of the pool in either case."""
    db = database()
    state, pool = await db.health(timeout=2.0), db.stats()
    body = {"database": _plain(state), "pool": _plain(pool)}
    return answer(body, status=200 if state.ok else 503)


def _plain(record: object) -> object:
    return TypeAdapter(type(record)).dump_python(record, mode="json")
