"""The pool of one alias, and what is known of its server."""

from __future__ import annotations

import contextlib
import copy
import logging
import weakref
from typing import Any, Final

from django.db.backends.signals import connection_created

from asyncdb.drivers.sockets import keep_alive

from ..conf import bridge_for, thread_limits
from .drivers import driver_of
from .pool import Place, ThreadPool
from .watchdog import within

__all__ = ["AliasPool"]

log = logging.getLogger("django_bridge.threads")

_FACTS_OF_WRAPPERS: Final = ("mysql_server_data", "pg_version")
"""What Django's wrappers ask their server once, each for itself (Django 5.2 and 6.1)."""
_TOUCH_THE_DRIVER_ALONE: Final = frozenset({("django.contrib.postgres.signals", "register_type_handlers")})
"""Receivers of ``connection_created`` that need to run for each physical connection only."""


class AliasPool:
    """The pool of one alias, and what is known of its server."""

    def __init__(self, alias: str) -> None:
        bridge = bridge_for(alias)
        self.alias = alias
        self.limits = thread_limits(alias)
        self.family = self.limits.family
        self.release = bridge.thread_pool_release
        self.driver = driver_of(self.family)
        self.routines = self.driver.routines()
        size = bridge.thread_pool_size or self.limits.pool_size + self.limits.max_overflow
        self.places = ThreadPool(alias, size=size, timeout=bridge.thread_pool_timeout)
        self.idle_limit: float | None = None
        self._learned = False
        self._facts: dict[str, Any] = {}
        self._put_on: dict[str, Any] = {}
        self._settings: dict[str, Any] | None = None

    # -- what wrappers know --------------------------------------------------------------------------------------

    def learn(self, wrapper: Any, connection: Any) -> None:
        """Takes what the server says once for all connections."""
        if not self._learned:
            self._learned = True
            try:
                self.idle_limit = self.driver.learn(connection, self.routines)
            except Exception as err:  # a proxy that does not know the question, say: pings find what it would tell
                log.warning("%r: the server does not tell its idle limit (%s)", self.alias, type(err).__name__)
        if not self._facts:
            self._facts = {name: vars(wrapper)[name] for name in _FACTS_OF_WRAPPERS if name in vars(wrapper)}
        fileno = self.driver.fileno(connection)
        if fileno is not None and "tcp_keepalive" in self.limits.model_fields_set:
            keep_alive(fileno, self.limits.tcp_keepalive)

    def put_facts_on(self, wrapper: Any) -> None:
        """Spares a wrapper the question that another one has asked."""
        for name, value in self._facts.items():
            vars(wrapper).setdefault(name, value)

    def note_put_on(self, attributes: dict[str, Any]) -> None:
        """Takes what ``get_new_connection()`` has set on its wrapper, for wrappers that did not open a connection."""
        self._put_on = attributes

    def ask_for_parameters(self, wrapper: Any) -> None:
        """Has a wrapper set on itself what it would set before it connects."""
        wrapper.get_connection_params()
        for name, value in self._put_on.items():
            vars(wrapper).setdefault(name, value)

    def copy_of_settings(self, wrapper: Any) -> dict[str, Any]:
        """The wrapper's settings as they are now, which nobody changes; the same object where they are the same."""
        known = self._settings
        if known is None or known != wrapper.settings_dict:
            known = self._settings = copy.deepcopy(wrapper.settings_dict)
        return known

    # -- receivers -----------------------------------------------------------------------------------------------

    @staticmethod
    def has_receivers() -> bool:
        """Whether ``connection_created`` has receivers that may do something to the wrapper."""
        return any(not _touches_the_driver_alone(entry[1]) for entry in connection_created.receivers)

    @staticmethod
    def announce(wrapper: Any) -> None:
        """Sends ``connection_created`` for a connection that is new to this wrapper."""
        connection_created.send(sender=wrapper.__class__, connection=wrapper)

    # -- closing -------------------------------------------------------------------------------------------------

    def close(self, place: Place) -> None:
        """Closes the connection of a place that is about to get a new one."""
        connection, place.connection, place.facts, place.user = place.connection, None, None, None
        place.generation = self.places.generation
        self.close_connection(connection)

    def close_connection(self, connection: Any, *, at_once: bool = False) -> None:
        """Closes a connection of the driver's, bounded in time; ``at_once``: its socket was shut down already."""
        with contextlib.suppress(Exception):  # it is gone, which is what was wanted
            if at_once:
                connection.close()
            else:
                with within(self.limits.close_timeout, self.driver.fileno(connection)):
                    connection.close()

    def count_invalidated(self, cause: str) -> None:
        """Counts a connection that was dropped in use."""
        invalidated = self.places.counts.invalidated
        invalidated[cause] = invalidated.get(cause, 0) + 1

    def close_idle(self) -> None:
        """Closes what is idle now."""
        for connection in self.places.take_idle():
            self.close_connection(connection)

    def shut(self, wait: float) -> bool:
        """Closes the pool; False if something was still in use after ``wait`` seconds."""
        for connection in self.places.close():
            self.close_connection(connection)
        return self.places.wait_closed(wait)


def _touches_the_driver_alone(receiver: Any) -> bool:
    if isinstance(receiver, weakref.ReferenceType):
        receiver = receiver()
    return (getattr(receiver, "__module__", ""), getattr(receiver, "__qualname__", "")) in _TOUCH_THE_DRIVER_ALONE
