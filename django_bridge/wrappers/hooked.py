"""Django's ``connect()`` on a connection of the pool, with the hooks of the project's own wrapper class in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper

from .own import Making, changed_place
from .rest import Rest

if TYPE_CHECKING:
    _Wrapper = BaseDatabaseWrapper
else:
    _Wrapper = object


class Hooked(_Wrapper):
    """Mixin beneath the project's class; what the hooks reach by ``super()``."""

    making: Making | None = None
    """What is done now for one connection, as Django's ``connect()`` does it."""
    login_parameters: dict[str, Any] | None = None
    facade: Any = None
    """The driver's connection as Django sees it, where the project's class has made something of it."""
    state_by_new_connection = False
    """Whether ``get_new_connection()`` of the project's class has changed the session."""
    has_hooks = False
    """Whether its class has something to do with each physical connection."""
    _rest: Rest | None = None
    _was_closed: bool

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def connect(self) -> None:
        if self.making is None:
            self.sit()
        else:
            self._connect_by_hooks(self.making)

    def _connect_by_hooks(self, making: Making) -> None:
        """Django's ``connect()``, call by call; its connection is the one on the seat (Django 5.2 and 6.1)."""
        self._begin_anew()
        self.check_settings()
        self.health_check_done, self.health_checks_enabled = True, self.settings_dict["CONN_HEALTH_CHECKS"]
        with self.seat.held():
            self.login_parameters = making.parameters or self.get_connection_params()
            link = self.seat.call(self.taken)
            before, link.left = link.left, None
            self.connection = self.get_new_connection(self.login_parameters)
            self.state_by_new_connection, link.left = link.left is not None, link.left or before
            self.set_autocommit(self.settings_dict["AUTOCOMMIT"])
            self.init_connection_state()
            making.created(self)
        self.run_on_commit = []
        if self._was_closed:
            self._was_closed = False
            self._tell_again()

    def get_new_connection(self, conn_params: Any) -> Any:
        if self.making is None:  # by name, of code that wants one of Django's own driver
            return cast("Any", super()).get_new_connection(conn_params)
        return self.pooled_connection(conn_params)

    def pooled_connection(self, conn_params: Any) -> Any:
        """What Django's own ``get_new_connection()`` returns: here the connection on the seat."""
        making, login = self.making, self.login_parameters
        assert making is not None
        link = self.seat.call(self.taken)
        login = (login or {}) if link.made is None else link.made.parameters
        if changed := changed_place(self, login, conn_params, is_new=making.is_new):
            raise ImproperlyConfigured(
                f"database {self.alias!r}: {', '.join(changed)} of the connection parameters cannot be changed for one "
                "connection of a pool: get_connection_params() must return them, the same for each wrapper",
            )
        if link.made is not None:
            self.rebind(link.made.facade)
            return link.made.connection
        facade = self.seated_connection()
        self.facade = facade
        making.ready(facade)
        return facade

    def put_on(self) -> dict[str, Any]:
        """What was put on the wrapper since it was made."""
        return self._rest.put_on(self) if self._rest is not None else {}

    def rebind(self, facade: Any) -> None:
        """Makes this the wrapper by which a driver's connection, as Django sees it, is used from now on."""
        facade._wrapper = self
