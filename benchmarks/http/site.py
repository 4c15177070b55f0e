"""The project that is served: ``HTTP_BENCH`` says its database and which side it shows."""

from __future__ import annotations

import json
import os
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import path

_said: dict[str, Any] = json.loads(os.environ.get("HTTP_BENCH", "{}"))
ROWS = 100
SIDES: dict[str, dict[str, Any] | None] = {
    "stock": None,
    "bridge": {},
    "bridge, pool of threads": {"thread_pool": True, "thread_pool_size": 10},
}
"""What ``ASYNC_DB`` says on each side; None is Django without the bridge."""


def settings() -> dict[str, Any]:
    """The settings of this process."""
    own = SIDES[_said["side"]]
    middleware = [
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    apps = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
    return {
        "DATABASES": {"default": _said["database"]},
        "INSTALLED_APPS": apps if own is None else [*apps, "django_bridge"],
        "ASYNC_DB": {"default": own or {}},
        "MIDDLEWARE": middleware if own is None else ["django_bridge.middleware.ScopeMiddleware", *middleware],
        "ROOT_URLCONF": __name__,
        "SECRET_KEY": "only for the benchmark",
        "ALLOWED_HOSTS": ["*"],
        "LOGGING_CONFIG": None,
    }


def application() -> Any:
    """The ASGI application, for uvicorn's ``--factory``."""
    import django
    from django.conf import settings as of_django
    from django.core.asgi import get_asgi_application

    if not of_django.configured:
        of_django.configure(**settings())
        django.setup()
    return get_asgi_application()


def _one(number: int) -> str:
    from django.contrib.contenttypes.models import ContentType

    return ContentType.objects.get(pk=number % ROWS + 1).model


def nothing(request: HttpRequest) -> JsonResponse:
    return JsonResponse({})


def sync_one(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"model": _one(1)})


def sync_twenty(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"models": [_one(number) for number in range(20)]})


async def async_one(request: HttpRequest) -> JsonResponse:
    from django.contrib.contenttypes.models import ContentType

    return JsonResponse({"model": (await ContentType.objects.aget(pk=1)).model})


VIEWS: dict[str, Any] = {
    "sync, no query": nothing,
    "sync, 1 query": sync_one,
    "sync, 20 queries": sync_twenty,
    "async, 1 query": async_one,
}
urlpatterns = [path(f"{number}/", view) for number, view in enumerate(VIEWS.values())]
