"""A wrapper in whose transaction a session may take part: savepoints are set and undone by the session."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.db.utils import DatabaseError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from asyncdb.greenlets import await_, in_greenlet

from ..loops import on_the_loop

if TYPE_CHECKING:
    _Wrapper = BaseDatabaseWrapper
else:
    _Wrapper = object

T = TypeVar("T")


class Shared(Protocol):
    """What takes part in the wrapper's transaction; see ``shared.SharedTransaction``."""

    def before(self, statement: str) -> None: ...
    def knows(self, sid: str) -> bool: ...
    def set_savepoint(self, sid: str) -> None: ...
    def release(self, sid: str) -> None: ...
    def roll_back_to(self, sid: str) -> None: ...
    def unseated(self) -> None: ...


class Shares(_Wrapper):
    """Mixin of a project's own wrapper. Without a session it changes nothing but that async hooks are awaited."""

    shared: Shared | None = None
    """A session that takes part in this transaction."""
    hooks_wait = False
    """Whether the hooks of a commit wait for :meth:`hooks_due`."""
    _due: Sequence[Any] = ()
    rollback_asked = False
    """Whether the roll-back that is due was asked for by ``set_rollback(True)``, and not brought about by an error."""

    def set_rollback(self, rollback: bool) -> None:  # noqa: FBT001  (Django's signature)
        super().set_rollback(rollback)
        if rollback:
            self.rollback_asked = True

    if not TYPE_CHECKING:  # an attribute of Django's, which its blocks set when a roll-back is due, and when it is done

        @property
        def needs_rollback(self) -> bool:
            return self.__dict__["needs_rollback"]

        @needs_rollback.setter
        def needs_rollback(self, needed: bool) -> None:
            self.__dict__["needs_rollback"] = needed
            if not needed:
                self.__dict__.pop("rollback_asked", None)

    def in_place(self, function: Callable[..., T], *args: Any) -> T:
        """Calls ``function`` where the connection may be used."""
        return function(*args)

    def logged_as(self, sql: str) -> AbstractContextManager[None]:
        """Logs what a session sends as Django would have; nothing to do where it goes through Django's cursor."""
        return nullcontext()

    @property
    def failed_on_server(self) -> bool:
        """Whether the server will commit nothing, since a statement failed: PostgreSQL's way."""
        return False

    # -- savepoints ----------------------------------------------------------------------------------------------

    def _savepoint(self, sid: str) -> None:
        if self.shared is None:
            super()._savepoint(sid)  # type: ignore[misc]  # django-stubs has it not
        else:
            self._by_session(self.shared.set_savepoint, sid, self.ops.savepoint_create_sql(sid))

    def _savepoint_rollback(self, sid: str) -> None:
        if self.shared is None or not self.shared.knows(sid):
            super()._savepoint_rollback(sid)  # type: ignore[misc]  # as above
        else:
            self._by_session(self.shared.roll_back_to, sid, self.ops.savepoint_rollback_sql(sid))

    def _savepoint_commit(self, sid: str) -> None:
        if self.shared is None or not self.shared.knows(sid):
            super()._savepoint_commit(sid)  # type: ignore[misc]  # as above
            return
        try:
            self._by_session(self.shared.release, sid, self.ops.savepoint_commit_sql(sid))
        except DatabaseError:
            raise
        except Exception:
            self.savepoint_rollback(sid)  # Django does so after errors of the database alone
            raise

    def _by_session(self, function: Callable[[str], None], sid: str, sql: str) -> None:
        """Has the session do something about a savepoint, which raises as Django does."""
        with self.logged_as(sql), self.wrap_database_errors:
            try:
                self.in_place(function, sid)
            except DBAPIError as err:
                raise (err.orig or err) from err
            except SQLAlchemyError as err:
                raise TransactionManagementError(str(err)) from err

    # -- hooks ---------------------------------------------------------------------------------------------------

    def run_and_clear_commit_hooks(self) -> None:
        """As Django's; a hook that is ``async def`` is awaited."""
        if self.hooks_wait:
            self._due, self.run_on_commit = self.run_on_commit, []
            return
        waiting: list[Any] = self.run_on_commit
        cast("Any", self).run_on_commit = [(sids, awaited(hook), robust) for sids, hook, robust in waiting]
        super().run_and_clear_commit_hooks()

    def hooks_due(self) -> list[tuple[Callable[[], Any], bool]]:
        """The hooks that waited, once, as they were registered: who asks awaits them on the loop."""
        due, self._due = self._due, ()
        return [(hook.registered if isinstance(hook, _Awaited) else hook, robust) for _, hook, robust in due]


def awaited(hook: Callable[[], Any]) -> Callable[[], None]:
    """A hook as Django calls it; what it has to wait for is awaited."""
    return _Awaited(hook)


class _Awaited:
    """It looks like the hook: Django names it where it fails."""

    def __init__(self, hook: Callable[[], Any]) -> None:
        self.registered = hook

    def __call__(self) -> None:
        outcome = self.registered()
        if inspect.isawaitable(outcome):
            if in_greenlet():
                await_(outcome)
            elif on_the_loop():
                if inspect.iscoroutine(outcome):
                    outcome.close()
                raise SynchronousOnlyOperation(
                    "an async on_commit hook was called on the event loop by code that cannot wait (in an async test "
                    "captureOnCommitCallbacks(execute=True) does): leave execute out, and run each callback by "
                    "`await sync_to_async(callback)()`",
                )
            else:
                async_to_sync(_wait_for)(outcome)

    def __getattr__(self, name: str) -> Any:
        if name != "__qualname__":  # not what would tell that it is to be awaited: it is not
            raise AttributeError(name)
        return getattr(self.registered, name)

    def __repr__(self) -> str:
        return repr(self.registered)


async def _wait_for(outcome: Awaitable[Any]) -> None:
    await outcome


class _OfDjango(Shares):
    """Mixin of the wrapper of Django's own connection, while it is joined and ever after."""

    @property
    def failed_on_server(self) -> bool:
        status = getattr(getattr(self.connection, "info", None), "transaction_status", None)
        return getattr(status, "name", None) == "INERROR"  # psycopg's

    def on_commit(self, func: Callable[[], Any], robust: bool = False) -> None:  # noqa: FBT001, FBT002  (Django's)
        # Tests call what they have captured themselves.
        super().on_commit(awaited(func) if inspect.iscoroutinefunction(func) else func, robust)


_classes: dict[type[Any], type[Any]] = {}


def shared_by(wrapper: Any) -> Any:
    """Django's own wrapper of a connection, from now on one in whose transaction a session may take part."""
    if not isinstance(wrapper, Shares):
        own = type(wrapper)
        if own not in _classes:
            names = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
            _classes[own] = type(own.__name__, (_OfDjango, own), names)
        wrapper.__class__ = _classes[own]
    return wrapper
