"""What a wrapper was before somebody used it, by which it is seen what was put on it since.

A project's code may keep on the wrapper what it has sent on "its" connection: a tenant, a role. On stock Django the
connection beneath a wrapper changes by ``close()`` and ``connect()`` alone, so that such code is right there. So a
wrapper that was changed is given to nobody else, and while it is in use it keeps its connection.

Read in Django 5.2 and 6.1 (``db/backends/base/base.py``, ``BaseDatabaseWrapper.__init__``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from django.utils.functional import cached_property

__all__ = ["Rest", "forget_facts", "is_djangos_own", "is_fact"]

_DJANGOS = frozenset({
    "_named_cursor_idx", "_thread_ident", "_thread_sharing_count", "_thread_sharing_lock", "atomic_blocks",
    "autocommit",
    "close_at", "closed_in_transaction", "commit_on_exit", "connection", "errors_occurred", "execute_wrappers",
    "force_debug_cursor", "health_check_done", "health_check_enabled", "in_atomic_block", "init_commands",
    "isolation_level", "needs_rollback", "queries_log", "rollback_exc", "run_commit_hooks_on_set_autocommit_on",
    "run_on_commit", "savepoint_ids", "savepoint_state", "transaction_mode",
})  # fmt: skip
"""What Django's own code changes while a wrapper is in use, or makes of the settings at each connection."""
_OF_PARAMETERS = frozenset({"init_commands", "isolation_level", "transaction_mode"})
"""Of these, what Django makes of the settings whenever it connects."""
_PLAIN = (str, int, float, bool, type(None), tuple, frozenset, set, dict, list)
_CONTAINERS = (list, dict, set, deque, bytearray)
_HELPERS = frozenset({"client", "creation", "features", "introspection", "ops", "validation"})
_OF_SETTINGS = frozenset({"timezone", "timezone_name"})
"""Cached properties that a wrapper makes for itself: no server was asked."""

_facts: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
"""What the wrappers of each alias, and their features, have learned of the server."""


def is_djangos_own(cls: type[Any]) -> bool:
    """Whether a wrapper class is one of Django's, GeoDjango's included, as it comes."""
    return cls.__module__.startswith(("django.db.backends.", "django.contrib.gis.db.backends."))


def is_fact(cls: type[Any], name: str) -> bool:
    """Whether an attribute is what Django's own code asks a server or the settings once, and then keeps.

    What a project's own cached property has found may be of the one connection that was there.
    """
    found: Any = getattr(cls, name, None)
    return isinstance(found, cached_property) and str(found.func.__module__).startswith(("django.", "django_bridge."))


def forget_facts() -> None:
    """Forgets what wrappers have learned of servers and settings."""
    _facts.clear()


class Rest:
    """A wrapper as it is while nobody uses it.

    ``bookkeeping`` are the attributes that the bridge itself changes. Of a wrapper of a project's own class it is seen
    too what was changed inside of the containers and objects that it keeps, one level deep.
    """

    __slots__ = ("_attributes", "_bookkeeping", "_inside", "_knowledge", "_names", "_values", "_values_of")

    def __init__(self, wrapper: Any, bookkeeping: frozenset[str]) -> None:
        if facts := _facts.get(wrapper.alias):  # others of its alias have asked the server already
            wrapper.__dict__.update(facts[0])
            wrapper.features.__dict__.update(facts[1])
        self._bookkeeping = bookkeeping | _DJANGOS
        self._knowledge = _knowledge(wrapper)
        self._attributes = {name: value for name, value in vars(wrapper).items() if name not in self._bookkeeping}
        looked_into = _HELPERS if is_djangos_own(wrapper.project_class) else self._attributes.keys() - {"settings_dict"}
        self._inside: dict[str, tuple[Any, Any]] = {}
        """What is inside of the values, now and at rest."""
        for name in looked_into:
            self._look_into(name, self._attributes[name])
        self._values: tuple[Any, ...] = ()
        self._values_of: Callable[[dict[str, Any]], Any] = tuple
        self._names: frozenset[str] = frozenset()
        """The wrapper's attributes, bookkeeping included, when it was last compared one by one."""

    def learn(self, wrapper: Any) -> None:
        """Keeps what a wrapper has asked the server, as far as it is plain data: its version, its features."""
        if (knowledge := _knowledge(wrapper)) > self._knowledge:
            self._knowledge = knowledge
            _facts[wrapper.alias] = (dict(_plain_facts(wrapper)), dict(_plain_facts(wrapper.features)))

    def is_changed(self, wrapper: Any) -> bool:
        """Whether something was put on the wrapper since; what Django has learned of the server does not count."""
        mine = vars(wrapper)
        if mine.keys() != self._names or self._values_of(mine) != self._values:
            if self._is_changed_by_name(wrapper):
                return True
            self._names = frozenset(mine)
            self._values_of, self._values = itemgetter(*self._attributes), tuple(self._attributes.values())
        try:
            for name, (now, before) in self._inside.items():
                if now != before and not (name in _HELPERS and _has_only_learned(mine[name], before)):
                    return True
        except Exception:  # of values that cannot be compared
            return True
        return False

    def _is_changed_by_name(self, wrapper: Any) -> bool:
        mine, rest, bookkeeping = vars(wrapper), self._attributes, self._bookkeeping
        for name, value in mine.items():
            if name in bookkeeping or rest.get(name, rest) is value:
                continue
            if name in rest or not is_fact(type(wrapper), name):
                return True
            rest[name] = value
        return not rest.keys() <= mine.keys()

    def restore(self, wrapper: Any) -> bool:
        """Whether the wrapper is as it was; what it has made of the settings alone it makes again."""
        mine = vars(wrapper)
        mine.pop("timezone", None)
        mine.pop("timezone_name", None)
        return not self.is_changed(wrapper)

    def put_on(self, wrapper: Any, *, plain: bool = False) -> dict[str, Any]:
        """What was put on the wrapper since it was made, by attribute; if ``plain``, only what is plain data."""
        return {
            name: value
            for name, value in vars(wrapper).items()
            if (name not in self._bookkeeping or name in _OF_PARAMETERS)
            and self._attributes.get(name, self) is not value
            and not is_fact(type(wrapper), name)
            and (isinstance(value, _PLAIN) or not plain)
        }

    def adopt(self, wrapper: Any, attributes: Mapping[str, Any]) -> None:
        """Puts attributes on the wrapper that belong to it at rest, too."""
        vars(wrapper).update(attributes)
        for name, value in attributes.items():
            if name not in self._bookkeeping:
                self._attributes[name] = value
                self._look_into(name, value)
        self._names = frozenset()

    def _look_into(self, name: str, value: Any) -> None:
        self._inside.pop(name, None)
        if isinstance(value, _CONTAINERS):
            self._inside[name] = value, value.copy()
        elif isinstance(found := getattr(value, "__dict__", None), dict):
            self._inside[name] = found, dict(found)


def _knowledge(wrapper: Any) -> int:
    return len(vars(wrapper)) + len(vars(wrapper.features))


def _plain_facts(owner: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(owner).items():
        if isinstance(value, _PLAIN) and name not in _OF_SETTINGS and is_fact(type(owner), name):
            yield name, value


def _has_only_learned(helper: Any, before: dict[str, Any]) -> bool:
    """Whether what differs in a helper of Django's is what Django has asked the server, or a module it has loaded."""
    for key, found in vars(helper).items():
        if before.get(key, before) is not found:
            if key != "_cache" and (key in before or not is_fact(type(helper), key)):
                return False
            before[key] = found
    return all(key in vars(helper) for key in before)
