"""The only import of SQLAlchemy's greenlet internals.

Read in SQLAlchemy 2.1.9 (``sqlalchemy/util/concurrency.py``); ``tests/unit/test_upstream.py`` fails by name
when one of them goes away.
"""

from __future__ import annotations

from sqlalchemy.util.concurrency import await_, greenlet_spawn, in_greenlet

__all__ = ["await_", "greenlet_spawn", "in_greenlet"]
