"""``sync_session``: a SQLAlchemy ``Session`` on Django's own connection and in its transaction, for sync code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import Model
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

from asyncdb.errors import TransactionMisuse, TransactionPoisoned
from asyncdb.greenlets import in_greenlet

from .conf import config_for
from .joined.dialects import engine_on, learn
from .joined.following import Following, FollowingSession
from .joined.link import Link
from .lent import LentConnection
from .loops import on_the_loop
from .transaction import alias_of

__all__ = ["sync_session"]

_engines: WeakKeyDictionary[Any, AsyncEngine] = WeakKeyDictionary()


class _DjangosSession(FollowingSession):
    """A session whose transaction is Django's."""

    def django_went_back(self) -> None:
        """A failed flush is over as well: what it wrote is undone."""
        connection: Any = self.bind
        if not self.is_active and not self.in_nested_transaction():
            Session.rollback(self)
            if not connection.in_transaction():
                connection.begin()
        super().django_went_back()

    def keep_savepoints(self) -> None:
        """Releases those that nobody ended: blocks of Django's, which would outlive the session."""
        while (nested := self.get_nested_transaction()) is not None:
            nested.commit()

    def commit(self) -> NoReturn:
        raise TransactionMisuse("Django's transaction.atomic() commits: remove commit(), or nest a begin_nested()")

    def rollback(self) -> NoReturn:
        raise TransactionMisuse("raise an exception to roll Django's transaction.atomic() back, or use begin_nested()")


@contextmanager
def sync_session(
    using: str | None = None, *, model: type[Model] | None = None, for_write: bool = False
) -> Iterator[Session]:
    """A ``Session`` for sync code (WSGI views, commands, Celery, the admin) on Django's own connection.

    Inside ``transaction.atomic()`` it takes part in that transaction, with any SQLAlchemy statement; outside, the block
    is one itself. Commit and close belong to Django; ``begin_nested()`` is a savepoint of Django's. It writes what it
    has changed before each statement of Django's ORM and at the end of the block, and reads anew what the ORM may have
    changed. Objects that a savepoint of Django's undid are not added again.

    - **errors**: ``TransactionMisuse`` for ``commit()`` and ``rollback()``; ``SynchronousOnlyOperation`` on the event
      loop, where :func:`session` and :func:`atomic` are for; the server's as ``sqlalchemy.exc.DBAPIError``, after which
      Django wants the block rolled back.
    """
    if on_the_loop() and not in_greenlet():
        raise SynchronousOnlyOperation(
            "sync_session() on the event loop would block it: use `async with session()` or `async with atomic()`, or "
            "run the whole function by `await run_django(function)`",
        )
    alias = alias_of(using, model, for_write=for_write) or DEFAULT_DB_ALIAS
    wrapper: Any = connections[alias]
    inside = wrapper.in_atomic_block
    with nullcontext() if inside else transaction.atomic(using=alias):
        link = Link(wrapper, config_for(alias))
        link.strict = True
        lent = LentConnection(link)
        connection = _connection(wrapper, link, lent)
        db = _DjangosSession(
            bind=connection, join_transaction_mode="rollback_only", close_resets_only=False, expire_on_commit=False
        )
        following = Following(db, link)
        following.begin()
        caught_before = wrapper.rollback_exc
        try:
            yield db
            if not inside and wrapper.needs_rollback and wrapper.rollback_exc is not caught_before:
                raise TransactionPoisoned(
                    f"the transaction on {alias!r} was rolled back: an error in it was caught inside of the block of "
                    "sync_session() (a transaction.atomic() around what may fail keeps the rest)"
                ) from wrapper.rollback_exc
            db.flush()
            db.keep_savepoints()
        finally:
            following.end()
            try:
                db.close()  # goes back to savepoints that are still open, each of them a block of Django's
            finally:
                lent.sever()


def _connection(wrapper: Any, link: Link, lent: LentConnection) -> Connection:
    engine = _engines.get(wrapper)
    if engine is None:
        engine = _engines[wrapper] = engine_on(wrapper, link.config, _no_pool)
    connection = Connection(engine.sync_engine, lent, _allow_revalidate=False)
    learn(engine, connection)
    if not connection.in_transaction():  # its first questions to a server begin one
        connection.begin()
    return connection


def _no_pool() -> NoReturn:
    raise TransactionMisuse("a session on Django's connection takes no other from a pool")
