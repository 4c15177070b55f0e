"""How long a statement may take, said around the calls that it holds for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["UNSAID", "limit_of_context", "statement_limit"]

UNSAID: Final = -1.0
"""No limit was said here: the configuration's holds."""
_limit: ContextVar[float | None] = ContextVar("asyncdb_statement_limit", default=UNSAID)
limit_of_context: Final = _limit.get


@contextmanager
def statement_limit(seconds: float | None) -> Iterator[None]:
    """Limits each statement inside to ``seconds``, in place of ``statement_timeout``; None: ``read_timeout`` alone.

    It holds for what this task sends, through whatever door, and for the threads that it waits for. The server is told
    where it has such a limit, which costs a round trip each time that the limit of a connection changes.

    Example::

        with statement_limit(2.0):
            await db.fetch_all(select(Book))

    - **units**: seconds;
    - **errors**: the server's own for a statement that it stopped, whose connection stays; where only the client can
      stop it, that of ``read_timeout``, and the connection is dropped.
    """
    if seconds is not None and not seconds > 0:
        raise ValueError("a statement's limit is a positive number of seconds, or None")
    token = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(token)
