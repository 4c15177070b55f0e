"""A transaction of Django's in which a SQLAlchemy session takes part: one connection, one set of savepoints.

::

    Django's Atomic     the state machine: savepoint ids, needs_rollback, on_commit hooks
      wrapper           sets, releases and goes back to savepoints through the session, so that its objects follow
        session         on a SQLAlchemy Connection over the physical connection of the seat, which it neither commits
                        nor gives back

Read in SQLAlchemy 2.1.9 (``orm/session.py``: ``SessionTransaction.rollback``, ``begin_nested``, ``flush``,
``_flushing``; ``engine/base.py``: ``Connection``, ``NestedTransaction._savepoint``).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.orm import ORMExecuteState, SessionTransaction

from asyncdb.drivers.physical import PhysicalConnection
from asyncdb.drivers.statements import Kind, kind_of_text
from asyncdb.errors import TransactionMisuse, TransactionPoisoned
from asyncdb.session import Hook, SyncSession
from asyncdb.transaction import AtomicSession

from .lent import LentConnection

__all__ = ["SharedSession", "SharedTransaction"]

log = logging.getLogger("django_bridge.transaction")

_SHARED = "django_bridge.shared"


class _SharedSync(SyncSession):
    """The sync half: what it loads is fresh after the ORM wrote, and the transaction is not its own to end."""

    def commit(self) -> NoReturn:
        raise TransactionMisuse("the atomic() block commits when it ends: remove commit(), or use session()")

    def rollback(self) -> NoReturn:
        raise TransactionMisuse("raise an exception to roll back an atomic() block, or nest one and raise inside")

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        shared: SharedTransaction = self.info[_SHARED]
        shared.admit(Kind.READ)
        if shared.stale and (self.autoflush or not shared.has_unflushed):
            shared.flush()
            options["populate_existing"] = True
        return super().get(entity, ident, **options)


@event.listens_for(_SharedSync, "do_orm_execute")
def _admit_and_refresh(state: ORMExecuteState) -> None:
    shared: SharedTransaction = state.session.info[_SHARED]
    shared.admit(Kind.READ)
    refreshes = shared.stale and state.is_select and state.is_orm_statement and not state.is_column_load
    flushes = state.session.autoflush and state.execution_options.get("autoflush", True)
    if refreshes and (flushes or not shared.has_unflushed):  # else what was changed would be overwritten
        state.update_execution_options(populate_existing=True)


@event.listens_for(_SharedSync, "before_flush")
def _admit_flush(session: Any, *_: Any) -> None:
    session.info[_SHARED].admit(Kind.WRITE)


@event.listens_for(_SharedSync, "after_transaction_create")
def _savepoint_begins(session: Any, begun: SessionTransaction) -> None:
    if begun.nested:
        session.info[_SHARED].savepoint_begins(begun)


@event.listens_for(_SharedSync, "after_soft_rollback")
def _savepoint_rolled_back(session: Any, ended: SessionTransaction) -> None:
    session.info[_SHARED].savepoint_rolled_back(ended)


class SharedSession(AtomicSession):
    """The session inside ``django_bridge.atomic``: it sees the ORM's uncommitted rows, and the ORM sees its.

    It is flushed before each statement of the ORM, before each savepoint and before the commit. Once the ORM has
    written in the transaction, whatever the session loads anew is refreshed (``populate_existing``); objects that it
    does not load again stay as they were.
    """

    sync_session_class = _SharedSync

    def on_commit(self, hook: Hook, *, robust: bool = False) -> None:
        if not callable(hook):
            raise TypeError("on_commit() takes a function without arguments")
        self.sync_session.info[_SHARED].on_commit(hook, robust=robust)


@dataclass(eq=False, slots=True)
class _Savepoint:
    sid: str
    nested: SessionTransaction
    name: str
    """SQLAlchemy's name for it."""


class SharedTransaction:
    """The session's part in a wrapper's transaction; the ``Keeper`` of the physical connection."""

    stale = False
    """Whether the ORM has written, so that what the session has loaded may be out of date."""
    failure: str | None = None
    """What SQLAlchemy did wrong since the last savepoint, after which nothing more runs before going back to it."""

    def __init__(
        self, wrapper: Any, link: PhysicalConnection, engine: AsyncEngine, require_task: Callable[[], None]
    ) -> None:
        self.wrapper = wrapper
        self._link = link
        self._require_this_task = require_task
        self._lent = LentConnection(self._link)
        self._savepoints: list[_Savepoint] = []
        self._begun: dict[SessionTransaction, tuple[int, bool]] = {}
        """For each savepoint of the session's: how many hooks there were before, and whether all was well."""
        connection = Connection(engine.sync_engine, self._lent, _allow_revalidate=False)
        connection.begin()
        self.session = SharedSession(
            engine,
            connection=AsyncConnection(engine, connection),
            join_transaction_mode="rollback_only",
            close_resets_only=False,
            info={_SHARED: self},
        )
        self.sync: Any = self.session.sync_session
        self._link.keeper = self
        wrapper.shared = self

    # -- the keeper's part ---------------------------------------------------------------------------------------

    def admit(self, kind: Kind) -> None:
        self._require_task()
        if self.wrapper.needs_rollback:
            raise TransactionPoisoned(
                f"the transaction on {self.wrapper.alias!r} is to be rolled back: "
                f"{self.failure or 'an error occurred in it, or set_rollback(True) was called'}; leave its block, then "
                "start again (an atomic() block around what may fail keeps the rest)",
            )

    def _require_task(self) -> None:
        if self.wrapper.shared is not self:
            raise TransactionMisuse("the atomic() block of this session is over: open another block")
        self._require_this_task()

    def failed(self, reason: str, error: BaseException | None = None) -> None:
        self.failure = reason
        self.wrapper.needs_rollback = True
        if isinstance(error, Exception):
            self.wrapper.rollback_exc = error

    def rolls_back_to_savepoint(self) -> None:
        self._forgive()

    def rolled_back_to_savepoint(self) -> None:
        if self.sync._flushing:
            # The session has gone back by itself, and will do nothing before its user goes back as well.
            self.failed("a flush of its session failed")

    def savepoint_begins(self, begun: SessionTransaction) -> None:
        """Called when the session is about to set a savepoint, on whosever behalf."""
        self._begun[begun] = len(self.wrapper.run_on_commit), not self.wrapper.needs_rollback

    def savepoint_rolled_back(self, ended: SessionTransaction) -> None:
        """Called when the session went back to a savepoint: what failed and the hooks registered since are void."""
        hooks, all_was_well = self._begun.pop(ended, (None, False))
        if hooks is not None and self.wrapper.shared is self:
            del self.wrapper.run_on_commit[hooks:]
            if all_was_well:
                self._forgive()

    def _forgive(self) -> None:
        """Whatever failed, failed after the savepoint was set: nothing is set once something has failed."""
        self.failure = None
        self.wrapper.needs_rollback = False

    @property
    def lost(self) -> str | None:
        """Why a normal end of the block cannot be a good one, if that is so."""
        return self._link.poison or self._link.spoiled or (self.failure if self.wrapper.needs_rollback else None)

    # -- the wrapper's part --------------------------------------------------------------------------------------

    @property
    def has_unflushed(self) -> bool:
        """Whether the session has changes that no statement has written yet."""
        sync = self.sync
        return bool(sync.new or sync.deleted or sync.dirty)

    def flush(self) -> None:
        """Writes what the session has changed. In a greenlet."""
        if not self.sync._flushing and self.has_unflushed:
            self.sync.flush()

    def before(self, statement: str) -> None:
        """Called before each statement of the ORM."""
        self.flush()
        if self.sync.in_nested_transaction():
            self.sync.connection()  # a savepoint that SQLAlchemy has not sent yet would come after the statement
        if not self.stale and _writes(statement):
            self.stale = True

    def on_commit(self, hook: Hook, *, robust: bool) -> None:
        """Registers a hook among Django's."""
        self._require_task()
        self.wrapper.on_commit(hook, robust)

    def knows(self, sid: str) -> bool:
        """Whether this savepoint is the session's too; those set before there was a session are not."""
        return any(one.sid == sid for one in self._savepoints)

    def set_savepoint(self, sid: str) -> None:
        """Sets a savepoint. In a greenlet, as all that follows."""
        nested = self.sync.begin_nested()
        try:
            # SQLAlchemy sends SAVEPOINT with the next statement, which may not be one of the session's.
            connection = self.sync.connection()
        except BaseException:
            nested.rollback()
            raise
        self._savepoints.append(_Savepoint(sid, nested, connection.get_nested_transaction()._savepoint))

    def release(self, sid: str) -> None:
        """Releases a savepoint; one that was gone back to is left alone."""
        place = self._place(sid)
        nested = self._savepoints[place].nested
        if self._is_open(nested):
            nested.commit()
        del self._savepoints[place:]

    def roll_back_to(self, sid: str) -> None:
        """Goes back to a savepoint, innermost first; it stays set, so that one can do so again."""
        place = self._place(sid)
        savepoint = self._savepoints[place]
        if self._is_open(savepoint.nested):
            while (inner := self.sync.get_nested_transaction()) is not savepoint.nested:
                inner.rollback()
            inner.rollback()
        else:
            for later in reversed(self._savepoints[place + 1 :]):
                if self._is_open(later.nested):
                    self.roll_back_to(later.sid)
            connection = self.sync.connection()
            connection.dialect.do_rollback_to_savepoint(connection, savepoint.name)
            self.sync.expunge_all()  # which of its objects have lost their rows, it cannot tell a second time
        del self._savepoints[place + 1 :]

    def _place(self, sid: str) -> int:
        return next(place for place, one in enumerate(self._savepoints) if one.sid == sid)

    def _is_open(self, nested: SessionTransaction) -> bool:
        step = self.sync.get_nested_transaction()
        while step is not None and step is not nested:
            step = step.parent
        return step is not None

    # -- the end -------------------------------------------------------------------------------------------------

    def unseated(self) -> None:
        """Called when the connection leaves the seat: nothing of this may stay on it."""
        self._lent.sever()
        self._link.keeper = None

    def close(self) -> None:
        """Ends the session without a word to the server."""
        self.unseated()
        self.wrapper.shared = None
        self.session.end_block("atomic()")
        try:
            self.sync.close()
        except SQLAlchemyError as err:  # another task is amid a statement of its
            log.warning("%r: a session could not be closed (%s)", self.wrapper.alias, type(err).__name__)
        self._savepoints.clear()
        self._begun.clear()
        self.sync = None  # else each block would leave a cycle to the collector
        del self.session


@functools.lru_cache(maxsize=1024)
def _writes(statement: str) -> bool:
    return kind_of_text(statement) is Kind.WRITE
