"""What a request sees of an alias, whichever of its two wrappers it asks: query log, execute wrappers, debug flag."""

from __future__ import annotations

import weakref
from typing import Any

__all__ = ["Viewed", "share_from_now_on"]


class Viewed:
    """Mixin of a wrapper that may share its view with another one of its request."""

    _other: weakref.ref[Any] | None = None
    queries_log: Any
    execute_wrappers: Any

    @property
    def force_debug_cursor(self) -> bool:
        return bool(vars(self).get("force_debug_cursor"))

    @force_debug_cursor.setter
    def force_debug_cursor(self, on: bool) -> None:
        vars(self)["force_debug_cursor"] = on
        other = None if self._other is None else self._other()
        if other is not None and other.queries_log is self.queries_log:
            vars(other)["force_debug_cursor"] = on


def share_from_now_on(wrapper: Viewed, other: Viewed) -> None:
    """Gives ``wrapper`` the view of ``other``: what either is told to log, or to call, both do."""
    wrapper.queries_log, wrapper.execute_wrappers = other.queries_log, other.execute_wrappers
    wrapper._other, other._other = weakref.ref(other), weakref.ref(wrapper)
    vars(wrapper)["force_debug_cursor"] = other.force_debug_cursor
