"""``ScopeMiddleware``: one scope for each request; ``outside_scope``: a view that is left to Django."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import FileResponse, HttpRequest
from django.http.response import HttpResponseBase

from .scope_threads import scope_from_thread
from .scopes import Scope, entered, hidden, scope

__all__ = ["ScopeMiddleware", "outside_scope"]

V = TypeVar("V", bound=Callable[..., Any])


class ScopeMiddleware:
    """Opens a scope for each request, so that its views, sync and async, use the pool's connections.

    Put it first in ``MIDDLEWARE``: what stands above it is not in the scope. The scope of a streaming response lasts
    until its body has ended, which holds no connection while it waits unless a statement has changed its session.
    Under WSGI it does nothing.

    - **cancel**: the request's connections go back to the pool, or are closed if their state is not known.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self):
            return self._in_scope(request)
        with scope_from_thread() as opened:  # under ASGI Django runs it in a thread where one below it is sync
            response = self.get_response(request)
            if _has_a_body_to_come(response) and (place := opened.leave_open()) is not None:
                _stay_for_the_body(response, place)
        return response

    async def _in_scope(self, request: HttpRequest) -> Any:
        opened = scope()
        async with opened:
            response: Any = await cast("Awaitable[HttpResponseBase]", self.get_response(request))
            if _has_a_body_to_come(response) and (place := opened.leave_open()) is not None:
                _stay_for_the_body(response, place)
        return response


def outside_scope(view: V) -> V:
    """Decorates a view, sync or async, that is to use Django's own connections and threads, as without the bridge.

    For a class-based view: ``@method_decorator(outside_scope, name="dispatch")``.
    """
    if inspect.iscoroutinefunction(view):

        @functools.wraps(view)
        async def left_to_django(*args: Any, **kwargs: Any) -> Any:
            with hidden():
                return await view(*args, **kwargs)

    else:

        @functools.wraps(view)
        def left_to_django(*args: Any, **kwargs: Any) -> Any:
            with hidden():
                response = view(*args, **kwargs)
            # The dispatch() of a class with async handlers is sync, and gives what has not run yet.
            return _awaited_outside(response) if inspect.iscoroutine(response) else response

    left_to_django.outside_scope = True  # type: ignore[attr-defined]  # for the block of ATOMIC_REQUESTS around it
    return cast("V", left_to_django)


async def _awaited_outside(response: Awaitable[Any]) -> Any:
    with hidden():
        return await response


def _has_a_body_to_come(response: Any) -> bool:
    """Whether its body is made while it is sent; a file asks no database."""
    return response.streaming and not isinstance(response, FileResponse)


def _stay_for_the_body(response: Any, place: Any) -> None:
    """Lets the scope last until the body has ended, or the response is closed, as the handler does in any case."""
    body: Any = _AsyncBody if response.is_async else _Body
    response.streaming_content = body(response.streaming_content, place)


class _Body:
    """A synchronous body, each step of which runs in the scope of its request, in whatever thread Django reads it."""

    def __init__(self, content: Iterator[bytes], place: Any) -> None:
        self._content = content
        self._place = place

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with entered(self._place):
            try:
                return next(self._content)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Ends the scope, if there is one; called in any thread."""
        _end(self._place)


class _AsyncBody:
    """The same for an asynchronous body."""

    def __init__(self, content: AsyncIterator[bytes], place: Any) -> None:
        self._content = content
        self._place = place

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with entered(self._place):
            try:
                return await anext(self._content)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Ends the scope, if there is one; called in any thread."""
        _end(self._place)


def _end(place: Any) -> None:
    if isinstance(place, Scope):
        place.soon(place.close)
