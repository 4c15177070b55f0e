"""``ScopeMiddleware``: one scope for each request; ``outside_scope``: a view that is left to Django."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
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

    Put it first in ``MIDDLEWARE``: what stands above it is not in the scope. The body of a streaming response
    uses the pool too, and holds no connection while it waits. Under WSGI it does nothing.

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
        with scope_from_thread() as place:  # under ASGI Django runs it in a thread where one below it is sync
            response = self.get_response(request)
        return response if place is None else _in_place(response, place)

    async def _in_scope(self, request: HttpRequest) -> Any:
        async with scope() as place:
            response: Any = await cast("Awaitable[HttpResponseBase]", self.get_response(request))
        return _in_place(response, place)


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


def _in_place(response: Any, place: Scope) -> Any:
    if _is_read_in_a_thread(response):
        response.streaming_content = _Body(response.streaming_content, place)
    return response


def _is_read_in_a_thread(response: Any) -> bool:
    """Whether Django reads the body by ``sync_to_async``; a file is read so too, and asks no database."""
    return response.streaming and not response.is_async and not isinstance(response, FileResponse)


class _Body:
    """A synchronous body, which Django reads in a thread after the request's scope has ended.

    Each step carries that scope, by which the thread is known for one of ours and gets a scope of its own. An
    asynchronous body needs no such thing: each of its operations opens a scope for itself.
    """

    def __init__(self, content: Iterator[bytes], place: Scope) -> None:
        self._content = content
        self._place = place

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with entered(self._place):
            return next(self._content)
