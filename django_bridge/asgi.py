"""Django's ASGI application with a lifespan: settings are checked at startup, pools are closed at shutdown.

Lifespan is answered here and never reaches Django, which refuses it (Django 5.2 and 6.1, ``core/handlers/asgi.py``).
A server without lifespan loses nothing but the early check: the registry closes the pools with the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ._foundation import require_asyncdb

require_asyncdb()

from django.core import asgi as django_asgi  # noqa: E402  (a foreign asyncdb is named before it is imported)

from asyncdb import registry  # noqa: E402
from asyncdb.errors import AsyncDBError, ConfigurationError  # noqa: E402

from .conf import aliases, bridge_for, config_for  # noqa: E402
from .databases import database  # noqa: E402
from .scopes import enabled  # noqa: E402
from .unsettled import complaints  # noqa: E402

__all__ = ["get_asgi_application"]

log = logging.getLogger("django_bridge.asgi")

_Message = MutableMapping[str, Any]
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

STARTUP_TIMEOUT = 5.0
"""Seconds to wait for the servers at startup, all at once; a supervisor gives a worker about ten."""
SHUTDOWN_TIMEOUT = 5.0
"""Seconds for draining and closing; container platforms kill after ten, and the requests had theirs before."""


def get_asgi_application() -> _Application:
    """Returns Django's ASGI application, which in addition answers ``lifespan``.

    - **errors**: none; wrong settings are ``lifespan.startup.failed`` with a message. A server that cannot be
      reached is one warning and a lazy start, unless ``ASYNC_DB[alias]["require_at_startup"]``. What check W006 says
    is a warning too.
    """
    application = _WithLifespan(django_asgi.get_asgi_application())
    if enabled():
        for complaint in complaints().values():
            log.warning("%s Name it in ASYNC_DB_THREAD_LOCALS (check W006)", complaint)
    return application


class _WithLifespan:
    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await self.application(scope, receive, send)


async def _lifespan(receive: _Receive, send: _Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await _start()
            except Exception as err:
                await _stop()
                reason = str(err) if isinstance(err, AsyncDBError) else f"{type(err).__name__} while starting"
                await send({"type": "lifespan.startup.failed", "message": reason})
                return
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await _stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _start() -> None:
    """Checks every alias, then knocks at every server."""
    wrong: list[str] = []
    missing: dict[str, str] = {}
    found = aliases()
    for alias in found:
        try:
            config_for(alias)
            _ = database(alias).engine
        except ConfigurationError as err:
            wrong.append(str(err))
        except Exception as err:  # the project's own wrapper, which may ask a vault that is away
            missing[alias] = f"database {alias!r} has no connection parameters: {type(err).__name__} in its wrapper"
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    there = [alias for alias in found if alias not in missing]
    complaints = await asyncio.gather(*map(_knock, there))
    missing |= {alias: complaint for alias, complaint in zip(there, complaints, strict=True) if complaint}
    if required := [complaint for alias, complaint in missing.items() if bridge_for(alias).require_at_startup]:
        raise AsyncDBError(f"{'; '.join(required)} (require_at_startup)")
    for complaint in missing.values():
        log.warning("%s: started without it, the next request tries again", complaint)


async def _knock(alias: str) -> str | None:
    """Tries one server; returns what is wrong, or None."""
    try:
        async with asyncio.timeout(STARTUP_TIMEOUT):
            health = await database(alias).health(timeout=STARTUP_TIMEOUT)
    except TimeoutError:
        return f"database {alias!r} did not answer within {STARTUP_TIMEOUT:g} s"
    return None if health.ok else f"database {alias!r} cannot be reached: {health.error}"


async def _stop() -> None:
    try:
        async with asyncio.timeout(SHUTDOWN_TIMEOUT):
            await registry.close_all(timeout=SHUTDOWN_TIMEOUT - 0.5)
    except TimeoutError:
        log.warning("the pools were not drained within %g s", SHUTDOWN_TIMEOUT)
