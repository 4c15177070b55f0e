"""What a wrapper of a project's own class does more than Django's: its hooks run, and what it remembers is respected.

``OwnWrapper`` stands above the project's class, the family's mixin beneath it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.backends.base.base import BaseDatabaseWrapper

from asyncdb.errors import ConnectFailed

from .extension import overrides
from .rest import Rest

if TYPE_CHECKING:
    _Wrapper = BaseDatabaseWrapper
else:
    _Wrapper = object

__all__ = ["HookFailed", "Made", "Making", "OwnWrapper", "changed_place"]

_PLACE = ("host", "port", "unix_socket", "user", "dbname", "database", "service")
"""The connection parameters that say whose data a connection reaches, in Django's words for its drivers."""
_MAY_CHANGE = frozenset({"context", "cursor_factory", "conv", "prepare_threshold"})
"""Those that only tell the driver what to make of values, which Django's side of a connection honours."""


class HookFailed(ConnectFailed):
    """A method of the project's wrapper class failed for a new physical connection; ``orig`` is its error."""


@dataclass
class Making:
    """What Django's ``connect()`` needs to know while it is done for one connection."""

    created: Callable[[Any], None]
    """Sends ``connection_created``."""
    ready: Callable[[Any], None]
    """Does with the driver's connection what Django's own ``get_new_connection()`` does."""
    parameters: dict[str, Any] | None = None
    """The connection parameters by which the physical connection was opened; None: the wrapper is asked for them."""
    is_new: bool = True
    """Whether the physical connection was just opened, and by these parameters."""


@dataclass
class Made:
    """What the hooks of a project's wrapper have made of one physical connection."""

    connection: Any
    """What ``get_new_connection()`` returned."""
    facade: Any
    """The bridge's own object in it."""
    parameters: Mapping[str, Any]
    attributes: dict[str, Any]
    """What the hooks put on the wrapper, which each wrapper has that gets this connection."""


class OwnWrapper(_Wrapper):
    """Mixin above a project's own wrapper class."""

    project_class: ClassVar[type[BaseDatabaseWrapper]]
    has_hooks: ClassVar[bool]
    opens_itself: ClassVar[bool]
    """Whether its class has a ``get_new_connection()`` that must not be called."""
    making: Making | None = None
    login_parameters: dict[str, Any] | None = None
    _rest: Rest | None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def remembers(self) -> bool:
        """Whether something was put on the wrapper that may be true of the one connection, or request, alone."""
        if getattr(self.project_class, "connection_may_change", False):
            return False
        return self._rest is not None and self._rest.is_changed(self)

    # -- connecting ----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Runs the hooks for a connection that is new, or new to who closed the last one or put something on this."""
        if self.making is None and self.has_hooks and not self.in_atomic_block and (self._was_closed or self.remembers):
            self.making = Making(created=_nothing, ready=_nothing, is_new=False)
        if self.making is None:
            self.sit()
            return
        try:
            super().connect()
        finally:
            self.making = None

    def get_new_connection(self, conn_params: Any) -> Any:
        if self.making is not None and self.opens_itself:
            return self.pooled_connection(conn_params)
        return super().get_new_connection(conn_params)

    def seated_connection(self) -> Any:
        if self.making is not None or not self.has_hooks:
            return super().seated_connection()  # type: ignore[misc]  # a mixin
        return self.seat.call(self._made_connection)

    def _made_connection(self) -> Any:
        made: Made | None = self.taken().made
        if made is None:
            return super().seated_connection()  # type: ignore[misc]  # a mixin
        self.rebind(made.facade)
        if self._rest is not None:
            self._rest.adopt(self, made.attributes)
        return made.connection

    # -- cursors -------------------------------------------------------------------------------------------------

    def create_cursor(self, name: str | None = None) -> Any:
        return self.adopt_cursor(super().create_cursor(name), streams=name is not None)


def changed_place(wrapper: Any, made: Mapping[str, Any], asked: Mapping[str, Any], *, is_new: bool) -> list[str]:
    """The connection parameters in which two logins differ, by name: all of a new one, else those of the place."""
    if is_new:
        names = {name for name in made.keys() | asked.keys() if name not in _MAY_CHANGE}
    else:
        names = set(_PLACE) if overrides(wrapper.project_class, "get_connection_params") else set()
    return sorted(name for name in names if made.get(name) != asked.get(name))


def _nothing(_: Any) -> None:
    """Nothing to do."""
