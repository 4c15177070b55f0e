"""Counts the queries of each request and times its view: the headers ``X-Queries`` and ``Server-Timing``.

The tally travels in a context variable, which follows a request into Django's threads and into SQLAlchemy's
greenlets. BEGIN, COMMIT and their kin are not counted: Django sends most of them past its own hooks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware
from sqlalchemy import Engine, event

TRANSACTION_WORDS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START", "SET")


@dataclass
class Tally:
    """What one request has cost so far."""

    queries: int = 0


_tally: ContextVar[Tally | None] = ContextVar("atlas_tally", default=None)


def count(sql: Any) -> None:
    """Adds one statement to the tally of the request that sent it."""
    tally = _tally.get()
    if tally is not None and not str(sql).lstrip().upper().startswith(TRANSACTION_WORDS):
        tally.queries += 1


def _count_django(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
    count(sql)
    return execute(sql, *rest)


@receiver(connection_created)
def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    # There is no one connection object to hook: the hook goes in where and when one connects.
    if _count_django not in connection.execute_wrappers:
        connection.execute_wrappers.append(_count_django)


@event.listens_for(Engine, "before_cursor_execute")
def _count_sqlalchemy(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
    count(sql)


@contextmanager
def metered() -> Iterator[Callable[[HttpResponse], HttpResponse]]:
    """Counts and times the block; yields the function that writes the headers."""
    tally, began = Tally(), perf_counter()
    token = _tally.set(tally)

    def stamp(response: HttpResponse) -> HttpResponse:
        if response.streaming:  # it has hardly begun: nothing is known yet
            return response
        response["X-Queries"] = str(tally.queries)
        response["Server-Timing"] = f"view;dur={(perf_counter() - began) * 1000:.2f}"
        return response

    try:
        yield stamp
    finally:
        _tally.reset(token)


@sync_and_async_middleware
def metering(
    get_response: Callable[[HttpRequest], HttpResponse] | Callable[[HttpRequest], Awaitable[HttpResponse]],
) -> Callable[[HttpRequest], Any]:
    """The middleware, in the colour of the stack around it."""
    if iscoroutinefunction(get_response):

        async def async_middleware(request: HttpRequest) -> HttpResponse:
            with metered() as stamp:
                return stamp(await get_response(request))

        return async_middleware

    def middleware(request: HttpRequest) -> HttpResponse:
        with metered() as stamp:
            return stamp(get_response(request))  # type: ignore[arg-type]  # sync here: asked above

    return middleware
