"""Counts what is sent to a thread: by asgiref, by the loop, by an executor; each once, under the function's name."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import SyncToAsync

_noted = contextvars.ContextVar("noted", default=False)


def _name(function: Any) -> str:
    # Not repr(): that of a queryset's bound method would ask the database.
    return str(getattr(function, "__name__", type(function).__name__))


@contextmanager
def counted() -> Iterator[list[str]]:
    """``with counted() as hops``: the names of the functions that went to a thread meanwhile."""
    hops: list[str] = []
    original: Callable[..., Any] = SyncToAsync.__call__

    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        hops.append(_name(self.func))
        token = _noted.set(True)
        try:
            return await original(self, *args, **kwargs)
        finally:
            _noted.reset(token)

    def noting(submit: Callable[..., Any], place: int) -> Callable[..., Any]:
        def sent(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not _noted.get():
                hops.append(_name(args[place]))
            token = _noted.set(True)
            try:
                return submit(self, *args, **kwargs)
            finally:
                _noted.reset(token)

        return sent

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SyncToAsync, "__call__", call)
        loops = asyncio.base_events.BaseEventLoop
        patch.setattr(loops, "run_in_executor", noting(loops.run_in_executor, 1))
        patch.setattr(ThreadPoolExecutor, "submit", noting(ThreadPoolExecutor.submit, 0))
        yield hops
