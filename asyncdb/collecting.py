"""Whether the garbage collector runs in this thread now.

It finalizes what it finds in whatever thread has just made an object, amid anything which that does: with a lock in
hand, between two packets of another statement. What is closed there can neither wait nor give anything back; it tells
the event loop, which does so later. That a reference was merely dropped is another matter: its code is at that place.

Source: Python manual, ``gc.callbacks``; one collection runs at a time, and both its callbacks in its thread.
"""

from __future__ import annotations

import gc
from threading import get_ident
from typing import Any

__all__ = ["collecting"]

_thread: int | None = None


def collecting() -> bool:
    """Whether this is code that a collection has called: a finalizer, or the callback of a weak reference."""
    return _thread is not None and _thread == get_ident()


def _note(phase: str, _: dict[str, Any]) -> None:
    global _thread  # noqa: PLW0603  (the interpreter has one collector)
    _thread = get_ident() if phase == "start" else None


gc.callbacks.append(_note)
