"""``database()``: the one ``Database`` of an alias on the running event loop; beneath sync code, the caller's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, ClassVar

from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from asyncdb import Database, Session, registry
from asyncdb.config import IsolationLevel
from asyncdb.engine import pool_of
from asyncdb.health import Health
from asyncdb.session import Unentered
from asyncdb.transaction import Lent, innermost

from . import connections, in_tests
from .conf import bridge_for, config_for
from .connected import announce
from .errors import JoinRefused, ScopeOwnedByTask
from .in_tests import is_in_a_test
from .joined.caller import caller_beneath, is_of_an_async_view, where_the_orm_is
from .joined.database import JoinedDatabases
from .scopes import changed_seat, has_caller, has_its_own_scope, is_in_its_thread
from .wrappers import mysqldb

__all__ = ["BridgedDatabase", "database"]

_CONFIGURED_BY = frozenset({"ASYNC_DB", "DATABASES", "TIME_ZONE", "USE_TZ"})


class BridgedDatabase(Database):
    """See :class:`asyncdb.Database`. Beneath sync code that is in a transaction it joins that, or refuses to go beside.

    In tests (``TestCase``, pytest-django's ``db``) it joins too, unless ``ASYNC_DB[alias]["join"]`` is ``"never"``.
    """

    def _make_engine(self) -> AsyncEngine:
        engine = super()._make_engine()
        pool_of(engine).admit = partial(in_tests.admit, self.config.alias)
        return engine

    def session(self, *, join: bool = False, **options: Any) -> AbstractAsyncContextManager[Session]:
        """As :meth:`asyncdb.Database.session`; ``join`` takes part in the transaction of the sync code beneath.

        There ``commit()`` ends a savepoint, and the caller commits.

        - **errors**: ``JoinRefused`` beneath a transaction that it is not said to join.
        """
        if not self._may_belong_to_a_thread:
            return super().session(**options)
        return _Door(self, "session", options, join=join)

    def atomic(self, *, join: bool = False, **options: Any) -> AbstractAsyncContextManager[Session]:
        """As :meth:`asyncdb.Database.atomic`; ``join`` makes it a savepoint in the sync code's transaction.

        - **errors**: ``JoinRefused`` beneath a transaction that it is not said to join.
        """
        if not self._may_belong_to_a_thread:
            return super().atomic(**options)
        return _Door(self, "atomic", options, join=join)

    def atomic_with_the_orm(self, *, join: bool = False, **options: Any) -> AbstractAsyncContextManager[Session]:
        """As :meth:`atomic`, on the connection that the ORM uses for this task while it is not on the loop."""
        return _Door(self, "atomic", options, join=join, with_the_orm=True)

    def _connection_of_its_own(self) -> AsyncConnection | None:
        """Where a statement has changed the session of this task's scope, the connection that carries it."""
        if (seat := changed_seat(self.config.alias)) is None:
            return None
        engine = self.engine
        connection = Connection(engine.sync_engine, seat.lend(), _allow_revalidate=False)
        return AsyncConnection(engine, connection)

    def _session_for_statement(self) -> AbstractAsyncContextManager[AsyncSession]:
        if not self._may_belong_to_a_thread or innermost(self.engine) is not None:
            try:
                return super()._session_for_statement()
            except ScopeOwnedByTask:
                if not has_its_own_scope():
                    raise
                return self._session_of_its_own()  # the block around is another task's, which this one has left
        return _Door(self, "_session_for_statement", {}, join=False)

    async def health(self, *, timeout: float = 5.0) -> Health:
        """As :meth:`asyncdb.Database.health`; in a test that rolls back it asks the test's own connection.

        - **errors**: that of a test's blocker, where a test may not touch the database.
        """
        in_tests.require_allowed(self.config.alias)
        held = in_tests.held().get(self.config.alias)
        place = await self.place(join=False, with_the_orm=False) if held is not None else self
        return await (super().health(timeout=timeout) if place is self else place.health(timeout=timeout))

    async def place(self, *, join: bool, with_the_orm: bool) -> Any:
        """Where a session belongs: here, or on a connection of Django's."""
        alias = self.config.alias
        rule = bridge_for(alias).join
        in_its_thread = is_in_its_thread(alias)
        if rule == "never" and not (join or in_its_thread):
            return self
        caller = await caller_beneath(alias, self.config.pool_timeout) if has_caller() else None
        if caller is None and (with_the_orm or in_its_thread) and self._django_can_connect:
            caller = await where_the_orm_is(alias, self.config.pool_timeout)
        if caller is None:
            return self
        asked = (
            join
            or rule == "always"
            or (with_the_orm and in_its_thread)
            or is_in_a_test(caller.wrapper)
            or is_of_an_async_view(caller.wrapper)
        )
        if caller.in_transaction and not asked:
            raise JoinRefused(
                f"sync code that waits for this task (async_to_sync) is in a transaction on {alias!r}, which a session "
                "of its own would not see: join it (session(join=True), atomic(join=True), or "
                f"ASYNC_DB[{alias!r}]['join'] = 'always'), or call the async code outside of transaction.atomic()",
            )
        joined = registry.get(f"{alias} joined", partial(JoinedDatabases, self))
        assert isinstance(joined, JoinedDatabases)
        return joined.of(caller, self)

    one_of_both: ClassVar[Callable[..., AbstractAsyncContextManager[Session]]]
    """Makes the block that an alias has for both ORMs; from the file that knows it."""

    def retried_block(
        self, *, isolation: IsolationLevel | None, read_only: bool
    ) -> AbstractAsyncContextManager[Session]:
        """One transaction of both ORMs."""
        self._refuse_to_retry_inside()
        return self.one_of_both(self.config.alias, isolation=isolation, read_only=read_only)

    @property
    def _may_belong_to_a_thread(self) -> bool:
        """Whether a block may belong on a connection of Django's: sync code waits, or has changed its session."""
        return has_caller() or is_in_its_thread(self.config.alias)

    @property
    def _django_can_connect(self) -> bool:
        """Whether the sync driver is there: the bridge itself can do without mysqlclient."""
        return self.config.family != "mysql" or mysqldb.is_there()


class _Door(Unentered, AbstractAsyncContextManager[Any]):
    """A block whose place is not known before it is entered."""

    def __init__(
        self, here: BridgedDatabase, verb: str, options: dict[str, Any], *, join: bool, with_the_orm: bool = False
    ) -> None:
        self._here = here
        self._verb = verb
        self._options = options
        self._join = join
        self._with_the_orm = with_the_orm
        self._entered: AbstractAsyncContextManager[Any] | None = None

    @property
    def committed(self) -> bool:
        return bool(getattr(self._entered, "committed", False))

    @property
    def can_be_repeated(self) -> bool:
        return bool(getattr(self._entered, "can_be_repeated", False))

    async def __aenter__(self) -> Any:
        here = self._here
        inside = isinstance(innermost(here.engine), Lent)
        if inside and self._verb == "atomic":
            place = here  # a block inside that one, wherever it stands
        else:
            place = await here.place(join=self._join or inside, with_the_orm=self._with_the_orm)
        opened = getattr(super(BridgedDatabase, here) if place is here else place, self._verb)(**self._options)
        value = await opened.__aenter__()
        self._entered = opened
        return value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._entered is not None, "left without having been entered"
        return await self._entered.__aexit__(kind, error, traceback)


def database(using: str | None = None) -> BridgedDatabase:
    """Returns the ``Database`` of the alias ``using`` (default: ``"default"``) on the running event loop.

    It is built at the first call; its connections are opened when they are needed, each with the
    connection parameters that the project's own wrapper gives at that time.

    - **errors**: ``ConfigurationError`` for an unknown alias or a wrong setting; ``NoEventLoop`` outside asyncio.
    """
    alias = using or DEFAULT_DB_ALIAS
    found = registry.get(alias, partial(_build, alias))
    assert isinstance(found, BridgedDatabase)
    return found


def _build(alias: str) -> Database:
    source = partial(config_for, alias)
    return BridgedDatabase(source(), source=source, on_connect=partial(announce, alias))


def _forget(*, setting: str, **_: Any) -> None:
    """Builds anew what was built from a setting that a test overrides."""
    if setting in _CONFIGURED_BY:
        connections.forget()
        for alias in {built.config.alias for built in registry.databases()}:
            for built in registry.forget(alias):
                built.retire()


setting_changed.connect(_forget, dispatch_uid="django_bridge.databases")
connections.install(database)
