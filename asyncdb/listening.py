"""Who hears of the statements that this context sends, and of none of their parameters.

A context is that of :mod:`contextvars`: a child task has it from its parent, a thread from whoever copied it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Final

__all__ = ["Listener", "hear", "listeners", "stop_hearing", "tell", "told_as", "unheard"]

Listener = Callable[[str, str, str], None]
"""Called with the sender, the alias and the SQL of a statement before it is sent."""

_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("asyncdb_listeners", default=())
_sender: ContextVar[str | None] = ContextVar("asyncdb_sender", default=None)
listeners: Final = _listeners.get
"""``listeners()`` are those of this context: where there are none, nothing needs to be told."""


def hear(listener: Listener) -> Token[tuple[Listener, ...]]:
    """Makes ``listener`` hear of the statements of this context; what it returns is for :func:`stop_hearing`."""
    return _listeners.set((*_listeners.get(), listener))


def stop_hearing(token: Token[tuple[Listener, ...]]) -> None:
    """Gives the context back the listeners that it had.

    One that is left in another context than it was entered in, as by some fixtures, keeps them: they close themselves.
    """
    _reset(_listeners, token)


def tell(sender: str, alias: str, sql: str) -> None:
    """Tells the listeners of a statement that is about to be sent."""
    for listener in _listeners.get():
        listener(_sender.get() or sender, alias, sql)


@contextmanager
def told_as(sender: str) -> Iterator[None]:
    """Names another sender for the statements inside: one that goes through somebody else's cursor."""
    token = _sender.set(sender)
    try:
        yield
    finally:
        _reset(_sender, token)


@contextmanager
def unheard() -> Iterator[None]:
    """Tells nobody of the statements inside, which make a connection ready and are not the caller's."""
    token = _listeners.set(())
    try:
        yield
    finally:
        _reset(_listeners, token)


def _reset(variable: ContextVar[Any], token: Token[Any]) -> None:
    try:
        variable.reset(token)
    except ValueError:
        return
