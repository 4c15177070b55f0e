"""Views and middleware of a project under ASGI, for the tests that send requests through Django's own handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import markcoroutinefunction
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.urls import path

PREFIX = f"{__name__}."
SCOPED = "django_bridge.middleware.ScopeMiddleware"
around: dict[str, Callable[..., Any]] = {}
"""What a test puts in the place of the sync-only middleware and of the async one."""


def site(*, project: Callable[..., None], middleware: list[str], **named: Callable[..., Any]) -> None:
    """``site(project=project, middleware=[…], view=view)``: the view is reached at ``/view``."""

    urls = type("Urls", (), {"urlpatterns": [path(name, view) for name, view in named.items()]})
    project(ROOT_URLCONF=urls, MIDDLEWARE=middleware, ALLOWED_HOSTS=["*"], DEBUG=False)


class SyncOnly:
    """A middleware that knows nothing of async: Django runs it in a thread, and what is below it by async_to_sync."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return around["sync"](self.get_response, request)


class AsyncOnly:
    """An async middleware that runs what the test says."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[..., Any]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        return await around["async"](self.get_response, request)


async def asked(where: str) -> ApplicationCommunicator:
    """A request that Django's real handler has got whole."""
    asking = ApplicationCommunicator(
        ASGIHandler(),
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": where,
            "raw_path": where.encode(),
            "query_string": b"",
            "headers": [(b"host", b"testserver")],
        },
    )
    await asking.send_input({"type": "http.request", "body": b"", "more_body": False})
    return asking


async def get(where: str) -> tuple[int, bytes]:
    """One request through Django's real handler: status and body."""
    asking = await asked(where)
    start = await asking.receive_output(20)
    body = b""
    while True:
        part = await asking.receive_output(20)
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    await asking.wait(20)
    return start["status"], body
