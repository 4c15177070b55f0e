"""What a running test says of the database: who may not touch it, and whose transaction its end rolls back.

Both are told by what every test of Django's and of pytest-django's has in force: another ``ensure_connection`` on
Django's wrapper class. In production nothing stands there, and the question costs one comparison.

Read in Django 5.2 and 6.1 (``test/testcases.py``: ``SimpleTestCase._add_databases_failures``,
``ensure_connection_patch_method``, ``TestCase._enter_atomics``; ``db/utils.py``: ``create_connection``) and
pytest-django 4.14 (``plugin.py``: ``DjangoDbBlocker``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .conf import bridge_for
from .errors import JoinRefused

__all__ = ["admit", "held", "is_in_a_test", "never_beside", "note", "refuse", "require_allowed", "watched"]

_TESTS = ("django.test.testcases", "pytest")
"""Modules of which one is there wherever tests run."""

_current: Any = BaseDatabaseWrapper.ensure_connection
_DJANGOS = _current if getattr(_current, "__module__", None) == BaseDatabaseWrapper.__module__ else None
"""Django's own method; if something else stands there already, everything is asked about."""

_made: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""The connections of Django's threads, among which a test's are found from whatever task or thread."""
_probes: dict[str, Any] = {}
_asking: ContextVar[bool] = ContextVar("django_bridge_asking", default=False)
"""Whether what stands in the place of ``ensure_connection`` is being asked."""


def watched() -> bool:
    """Whether a test may be running that forbids the database, or holds a transaction on it."""
    return BaseDatabaseWrapper.ensure_connection is not _DJANGOS and any(name in sys.modules for name in _TESTS)


def note(wrapper: Any) -> None:
    """Called with each connection that Django makes for a thread."""
    _made[id(wrapper)] = wrapper


def is_in_a_test(wrapper: Any) -> bool:
    """Whether the transaction is that of a ``TestCase``, as pytest-django's ``db`` is too."""
    return any(getattr(block, "_from_testcase", False) for block in wrapper.atomic_blocks)


def held() -> dict[str, Any]:
    """The connections on which the running test is in a transaction, by alias."""
    if not watched():
        return {}
    made = [ref() for ref in _made.valuerefs()]  # a list first: other threads may add some
    return {wrapper.alias: wrapper for wrapper in made if wrapper is not None and is_in_a_test(wrapper)}


def admit(alias: str) -> None:
    """Called before a connection of the pool is handed out, a new one or one that is open already.

    - **errors**: the blocker's own, where the running test may not touch ``alias``; ``JoinRefused`` where it holds a
      transaction there, which another connection would not see, and what was written on it would outlive the test.
    """
    if not watched():
        return
    require_allowed(alias)
    if alias in held() and bridge_for(alias).join != "never":
        refuse(alias)


def require_allowed(alias: str) -> None:
    """Raises what the running test's blocker raises, if it has one for ``alias``."""
    if not watched() or _asking.get():
        return  # or it is the blocker itself that connects
    token = _asking.set(True)
    try:
        BaseDatabaseWrapper.ensure_connection(_probe(alias))
    except SynchronousOnlyOperation:
        """Django's own method on the loop, to which the others come where they allow it."""
    finally:
        _asking.reset(token)


def _probe(alias: str) -> Any:
    """A connection of Django's that connects to nothing, to be shown to what stands before ``connect()``."""
    probe = _probes.get(alias)
    if probe is None or probe.settings_dict is not connections.settings[alias]:
        probe = _probes[alias] = connections.create_connection(alias)
        vars(probe)["connect"] = _nothing
    return probe


def _nothing() -> None:
    """In the place of ``connect()``."""


def refuse(alias: str, *_: Any) -> NoReturn:
    """Raises the error of who would go beside the running test."""
    raise JoinRefused(
        f"a test is in a transaction on {alias!r} that its end rolls back, and this code runs in another thread, or on "
        "the event loop of one, where it cannot join it: what it read would lack the test's rows, and what it wrote "
        "would outlive the test. Await it in the test, send it by sync_to_async, or test it in a TransactionTestCase "
        "(pytest: django_db(transaction=True)), which joins nothing",
    )


@contextmanager
def never_beside() -> Iterator[None]:
    """In a thread that works for async code: refuses connections of its own for aliases on which a test is at work."""
    own: list[Any] = [wrapper for alias, test in held().items() if (wrapper := connections[alias]) is not test]
    for wrapper in own:
        vars(wrapper)["ensure_connection"] = partial(refuse, wrapper.alias)
    try:
        yield
    finally:
        for wrapper in own:
            vars(wrapper).pop("ensure_connection", None)
