"""``BusyMiddleware``: 503 instead of 500 where no connection came free in time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from asyncdb.errors import PoolOverloaded, PoolTimeout

__all__ = ["BusyMiddleware"]

log = logging.getLogger("django_bridge.busy")


class BusyMiddleware:
    """Answers 503 with ``Retry-After`` where a view was given no connection in time: the request did nothing wrong.

    Put it last in ``MIDDLEWARE``, so that it hears of the error first. It answers for ``PoolTimeout`` and
    ``PoolOverloaded``, also as the cause of Django's ``OperationalError``. Every other error goes on, and so does that
    of a body, which begins after the answer.
    """

    sync_capable = True
    async_capable = True
    retry_after = 1
    """Seconds, as the header says; a subclass may say others."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Called by Django where a view has raised."""
        if not _is_of_a_full_pool(exception):
            return None
        log.warning("503 for %s: %s", request.path, exception)
        return HttpResponse(status=503, headers={"Retry-After": str(self.retry_after)})


def _is_of_a_full_pool(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, PoolTimeout | PoolOverloaded):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False
