"""Each endpoint three times: as a sync view, as an async view on Django's ``a*`` methods, and on the bridge."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, URLResolver, include, path, re_path

from places import bridge, stock, stock_async
from places.health import health
from places.live import live

ROUTES = (
    ("search/", "search"),
    ("nearest/", "nearest"),
    ("countries/", "countries"),
    ("cities/<int:pk>/", "city"),
    ("visits/", "record_visit"),
    ("cities.csv", "cities_csv"),
)


def routes_of(views: object) -> list[URLPattern]:
    """Returns the same routes for each module of views."""
    return [path(route, getattr(views, name), name=name) for route, name in ROUTES]


def index(_request: HttpRequest) -> JsonResponse:
    """Lists what can be asked."""
    routes = [f"/{kind}/{route}" for kind in ("stock", "stock/async", "bridge") for route, _ in ROUTES]
    return JsonResponse({"endpoints": [*routes, "/live/", "/health/", "/admin/"]})


urlpatterns: list[URLPattern | URLResolver] = [
    path("", index),
    path("stock/async/", include((routes_of(stock_async), "stock_async"))),
    path("stock/", include((routes_of(stock), "stock"))),
    path("bridge/", include((routes_of(bridge), "bridge"))),
    path("live/", live),
    path("health/", health),
    path("admin/", admin.site.urls),
    # A demo has no web server in front that would serve the admin's style sheets.
    re_path(r"^static/(?P<path>.*)$", serve, {"insecure": True}),
]
