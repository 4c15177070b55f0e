"""A checkout for one who says himself when the connection goes back: SQLAlchemy's fairy at a third of its price.

The fairy looks after listeners of the pool, detaching and a reset that asks the dialect; :meth:`Pool.checkout` gives
a fairy where somebody listens. Read in SQLAlchemy 2.1.9 (``pool/base.py``: ``_ConnectionRecord.checkout``,
``checkin``, ``fairy_ref``; ``_finalize_fairy``, ``_ConnectionFairy._finalizer``).

What was forgotten is found by the garbage collector, in any thread and amid anything that its thread does. So nothing
is done there but to tell the connection's own loop, which closes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from .drivers.physical import Begun

log = logging.getLogger("asyncdb.pool")


class Checkout:
    """One connection out of the pool. What is neither closed nor invalidated is closed when it is forgotten."""

    __slots__ = ("__weakref__", "_loop", "_put_back", "_record", "dbapi_connection")

    def __init__(self, record: Any, put_back: Callable[[Any], None]) -> None:
        """``put_back`` is the pool's own end of a check-in, to which SQLAlchemy comes by way of the listeners."""
        self.dbapi_connection = record.dbapi_connection
        self._record = record
        self._put_back = put_back
        self._loop = asyncio.get_running_loop()
        record.fairy_ref = weakref.ref(self)  # by which SQLAlchemy knows that it is in use

    def close(self) -> None:
        """Gives the connection back; it has nothing to end, or the pool closes it. Never waits."""
        record, self._record = self._record, None
        if record is None:
            return  # the garbage collector came first, and its loop closes the connection
        link = self.dbapi_connection
        if link.begun is Begun.WANTED and link.nothing_to_end:
            link.end("ROLLBACK")  # of which the server knows nothing
        if record.finalize_callback:
            record.checkin()
        else:
            record.fairy_ref = None
            self._put_back(record)

    def invalidate(self) -> None:
        """Closes the connection; its place in the pool is free. Never waits."""
        record, self._record = self._record, None
        if record is not None:
            _invalidated(record)

    def __del__(self) -> None:
        record, self._record = self._record, None
        if record is None:
            return
        _tell(self._loop, record, record.fairy_ref)
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"<Checkout from {self.dbapi_connection.config}>"


class _WhenForgotten:
    """In the place of a fairy's ``weakref.finalize``, which would close its connection in the collector's thread."""

    __slots__ = ("_loop", "_record", "_ref")

    def __init__(self, loop: asyncio.AbstractEventLoop, record: Any) -> None:
        self._loop = loop
        self._record = record
        self._ref = record.fairy_ref

    def detach(self) -> None:
        """Called by SQLAlchemy when the connection goes back."""
        self._record = self._ref = None

    def __del__(self) -> None:
        if self._record is not None:
            _tell(self._loop, self._record, self._ref)


def told_when_forgotten(fairy: Any) -> Any:
    """Has the loop that runs now close the connection of ``fairy``, SQLAlchemy's, once that is forgotten."""
    fairy._finalizer.detach()  # noqa: SLF001  (SQLAlchemy's, as above)
    fairy._finalizer = _WhenForgotten(asyncio.get_running_loop(), fairy._connection_record)  # noqa: SLF001
    return fairy


def _tell(loop: asyncio.AbstractEventLoop, record: Any, ref: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: whoever abandons its database closes the sockets
        loop.call_soon_threadsafe(_lost, record, ref)


def _lost(record: Any, ref: Any) -> None:
    if record.fairy_ref is not ref:
        return  # it went back meanwhile, or was taken anew
    log.warning("a connection was forgotten by whoever took it from the pool, and is closed")
    _invalidated(record)


def _invalidated(record: Any) -> None:
    try:
        record.invalidate()
    finally:
        record.checkin()
