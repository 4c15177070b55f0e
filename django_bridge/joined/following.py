"""A session that follows what Django's ORM does in the same transaction.

Django calls what stands in ``execute_wrappers`` around each of its statements, in the thread that sends it. There the
session writes what it has changed first, learns that the ORM wrote, and forgets what a roll-back undid.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, SessionTransaction

from asyncdb.drivers.statements import Kind, kind_of_text
from asyncdb.session import SyncSession

from .link import Link

__all__ = ["FollowingSession", "Following"]

_FOLLOWING = "django_bridge.following"


class FollowingSession(SyncSession):
    """The sync half of a session that follows."""

    def begin_nested(self) -> SessionTransaction:
        """Sets the savepoint now: SQLAlchemy would with its next statement, which one of Django's may precede."""
        nested = super().begin_nested()
        try:
            self.connection()
        except BaseException:
            nested.rollback()
            raise
        return nested

    def django_went_back(self) -> None:
        """Called when Django went back to a savepoint: what has lost its row learns so when it is read."""
        self.expire_all()

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        following: Following | None = self.info.get(_FOLLOWING)
        if following is not None and following.stale and (self.autoflush or not following.has_unflushed):
            following.flush()
            options["populate_existing"] = True
        return super().get(entity, ident, **options)


@event.listens_for(FollowingSession, "do_orm_execute")
def _refresh(state: ORMExecuteState) -> None:
    following: Following | None = state.session.info.get(_FOLLOWING)
    if following is None or not following.stale or not state.is_select or not state.is_orm_statement:
        return
    flushes = state.session.autoflush and state.execution_options.get("autoflush", True)
    if not state.is_column_load and (flushes or not following.has_unflushed):  # else changes would be overwritten
        state.update_execution_options(populate_existing=True)


class Following:
    """What ties a session to the statements on Django's connection."""

    stale = False
    """Whether the ORM has written, so that what the session has loaded may be out of date."""

    def __init__(self, sync: Any, link: Link) -> None:
        self._sync = sync
        self._link = link
        sync.info[_FOLLOWING] = self

    def begin(self) -> None:
        """From now on. In the thread that owns the connection, as all that follows."""
        self._link.wrapper.execute_wrappers.append(self)

    def end(self) -> None:
        wrappers = self._link.wrapper.execute_wrappers
        if self in wrappers:
            wrappers.remove(self)

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
        if self._link.speaking:
            return execute(sql, params, many, context)
        self.flush()
        kind, ended = _effect(sql if isinstance(sql, str) else "")
        if kind is Kind.WRITE:
            self.stale = True
        done = execute(sql, params, many, context)
        if ended:
            self._sync.django_went_back()
        return done

    @property
    def has_unflushed(self) -> bool:
        """Whether the session has changes that no statement has written yet."""
        sync = self._sync
        return bool(sync.new or sync.deleted or sync.dirty)

    def flush(self) -> None:
        """Writes what the session has changed."""
        if not self._sync._flushing and self.has_unflushed:
            self._sync.flush()


@functools.lru_cache(maxsize=1024)
def _effect(statement: str) -> tuple[Kind, bool]:
    """What a statement of Django's does, and whether it goes back to a savepoint."""
    return kind_of_text(statement), statement.lstrip()[:11].upper() == "ROLLBACK TO"
