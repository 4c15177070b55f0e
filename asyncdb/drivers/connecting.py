"""What every login has: options that are known, one clock over all of it, one clear error when it fails."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..config import DatabaseConfig
from ..errors import ConfigurationError, ConnectFailed

T = TypeVar("T")


async def within_connect_timeout(
    config: DatabaseConfig,
    login: Coroutine[Any, Any, T],
    driver_error: type[Exception],
) -> T:
    """Awaits ``login`` (TCP, TLS, authentication, session settings), at most ``connect_timeout`` seconds.

    - **errors**: ``ConnectFailed``, with the driver's error as its cause;
    - **cancel**: ``login`` closes what it opened.
    """
    try:
        async with asyncio.timeout(config.connect_timeout):
            return await login
    except ConfigurationError:
        raise
    except TimeoutError as err:
        _let_go(err)
        raise ConnectFailed(
            f"no login to {config} within {config.connect_timeout:g} s (connect_timeout): "
            "is the server reachable and not overloaded?",
            err,
        ) from err
    except (driver_error, OSError, ValueError) as err:
        _let_go(err)
        raise ConnectFailed(f"cannot connect to {config}: {_reason(err)}", err) from err
    except asyncio.CancelledError as err:
        _let_go(err)
        raise


def _let_go(error: BaseException) -> None:
    """Empties the frames of a login that failed, which an error report would show with the password in them.

    Besides, psycopg 3.3.9 closes a socket that is still connecting when it is collected: the traceback would hold it.
    """
    part: BaseException | None = error
    while part is not None:
        traceback.clear_frames(part.__traceback__)
        part = part.__context__


def _reason(error: BaseException) -> str:
    """The driver's own words, in one line; drivers put neither password nor parameters into a login error."""
    words = error.args[-1] if error.args and isinstance(error.args[-1], str) else str(error)
    return " ".join(words.split()) or type(error).__name__


def refuse_unknown_options(config: DatabaseConfig, known: frozenset[str]) -> None:
    """Raises ``ConfigurationError`` that names each of ``driver_options`` that is not known."""
    unknown = sorted(set(config.driver_options) - known)
    if unknown:
        raise ConfigurationError(
            f"database {config.alias!r}: driver_options {', '.join(unknown)} cannot be honoured on {config.family} "
            f"(known: {', '.join(sorted(known))})",
        )
