"""``Session``: SQLAlchemy's ``AsyncSession`` with typed verbs, and with a memory for writes nobody committed.

Read in SQLAlchemy 2.1.9 (``ext/asyncio/session.py``: ``AsyncSession.execute``; ``ext/asyncio/result.py``:
``_ensure_sync_result``; ``orm/session.py``: ``Session._autobegin_t``, which every use of a session comes to that may
send something or keeps an object for it).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.ext.asyncio.result import _ensure_sync_result
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.util import immutabledict

from .drivers.bounds import ends_the_same_again
from .drivers.physical import Begun, PhysicalConnection, TransactionOptions, physical
from .drivers.statements import compiles_to_plain_read
from .engine import pool_of
from .errors import AsyncDBError, TransactionMisuse, UncommittedWrites
from .greenlets import spawned
from .paging import Paging

_CONNECTION, _SEVERAL = "asyncdb.connection", "asyncdb.several_connections"
_OPTIONS, _SPOILED, _ENDING = "asyncdb.options", "asyncdb.spoiled", "asyncdb.ending"
_OVER, _STREAMS = "asyncdb.over", "asyncdb.streams"

_OF_THE_BLOCK = (
    "an atomic() block is open here and session() is not part of it: use the block's own session "
    "(async with atomic() as db, or a parameter named db)"
)

_AFTER_ITS_BLOCK = (
    "open another one (async with session()). The body of a streaming response runs after the view has returned: use "
    "database().stream() there, or open the session inside the generator"
)

_BUFFERED: Final = immutabledict({"prebuffer_rows": True})

T = TypeVar("T")
Hook = Callable[[], Awaitable[Any] | Any]


class SyncSession(OrmSession):
    """The sync half, which notes the physical connection of its transaction.

    The first statement of a transaction is sent once more, on another connection, where the first one broke and it is
    certain that nothing was done: BEGIN was lost, or the reply to a plain ``select()`` that no transaction surrounds.
    """

    if not TYPE_CHECKING:  # their overloads are SQLAlchemy's

        def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
            return self._once_more(super().execute, statement, params, options)

        def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any:
            return self._once_more(super().scalar, statement, params, options)

        def scalars(self, statement: Any, params: Any = None, **options: Any) -> Any:
            return self._once_more(super().scalars, statement, params, options)

        def _autobegin_t(self, *args: Any, **options: Any) -> Any:
            if self._transaction is None:
                self.require_open()
            return super()._autobegin_t(*args, **options)

    def require_open(self) -> None:
        """Raises where the block of this session is over: it would take a connection that nobody gives back."""
        if (reason := self.info.get(_OVER)) is not None:
            raise TransactionMisuse(reason)

    def _once_more(self, send: Callable[..., T], statement: Any, params: Any, options: dict[str, Any]) -> T:
        engine = self.bind
        if self.in_transaction() or not isinstance(engine, Engine) or self.identity_map or self.new:
            return send(statement, params, **options)  # it is not the first, or a roll-back would cost objects
        try:
            return send(statement, params, **options)
        except DBAPIError as err:
            if cast("Any", engine.pool).closed or not self._did_nothing(statement, err, engine.dialect):
                raise
        self.rollback()  # of which no server knows
        cast("Any", engine.pool).counts.retried += 1
        return send(statement, params, **options)

    def _did_nothing(self, statement: Any, error: DBAPIError, dialect: Dialect) -> bool:
        link: PhysicalConnection | None = self.info.get(_CONNECTION)
        if (
            link is None
            or isinstance(error, AsyncDBError)
            or not error.connection_invalidated
            or ends_the_same_again(error.orig)
            or link.begun is Begun.SENT
            or link.borrowed
            or link.left is not None
            or self.info.get(_SEVERAL)
        ):
            return False
        if getattr(error.orig, "nothing_was_sent", False):
            return True
        return link.config.retry_lost_reads and compiles_to_plain_read(statement, dialect)


@event.listens_for(SyncSession, "after_begin")
def _note_connection(session: OrmSession, transaction: Any, connection: Any) -> None:
    link = physical(connection.connection)
    if session.info.setdefault(_CONNECTION, link) is not link:
        session.info[_SEVERAL] = True  # somebody bound a statement to another engine
    if _OPTIONS in session.info:
        link.options = options = session.info[_OPTIONS]
        if link.begun is Begun.SENT and (options.isolation is not None or options.read_only):
            raise TransactionMisuse(
                f"a listener of the engine on {link.config.alias!r} (begin, checkout) has sent a statement before "
                "isolation or read_only could be said: let it listen to the session's after_begin instead",
            )
        link.may_commit = session.info.get(_ENDING, False)
    if _SPOILED in session.info:
        link.spoiled = session.info[_SPOILED]


@event.listens_for(SyncSession, "after_transaction_end")
def _forget_connection(session: OrmSession, transaction: Any) -> None:
    if transaction.parent is None:
        session.info.pop(_CONNECTION, None)
        session.info.pop(_SEVERAL, None)


class Session(Paging, AsyncSession):  # type: ignore[misc]  # stream() can be awaited, and is the same then
    """An ``AsyncSession`` on the pool, with the verbs of :class:`asyncdb.fetching.Fetching`
    and :class:`asyncdb.paging.Paging`.

    It takes its connection at the first statement and gives it back at commit, roll-back or close. Commit is its
    user's. Objects stay loaded after a commit (``expire_on_commit=False``), since loading them again would need an
    ``await`` that attribute access does not have.
    """

    sync_session_class = SyncSession
    shares_streams = True
    """Whether the connection of a stream has other users, before whose next statement it ends one that was left."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        transaction: TransactionOptions | None = None,
        connection: AsyncConnection | None = None,
        **options: Any,
    ) -> None:
        super().__init__(connection or engine, **{"expire_on_commit": False} | options)
        self.engine = engine
        if transaction is not None:
            self.sync_session.info[_OPTIONS] = transaction

    if not TYPE_CHECKING:  # its overloads are SQLAlchemy's

        async def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
            # SQLAlchemy's own, but in a greenlet that is used again: to make one costs a sixth of a short statement.
            given = options.get("execution_options")
            options["execution_options"] = immutabledict(given).union(_BUFFERED) if given else _BUFFERED
            result = await spawned(self.sync_session.execute, (statement, params), options)
            return await _ensure_sync_result(result, self.execute)

        # After the block these would do nothing, or raise for another reason.

        async def flush(self, *args: Any, **options: Any) -> None:
            self.require_open()
            await super().flush(*args, **options)

        async def refresh(self, *args: Any, **options: Any) -> None:
            self.require_open()
            await super().refresh(*args, **options)

        async def delete(self, instance: object) -> None:
            self.require_open()
            await super().delete(instance)

        async def run_sync(self, *args: Any, **options: Any) -> Any:
            self.require_open()
            return await super().run_sync(*args, **options)

    @property
    def _alias(self) -> str:
        return pool_of(self.engine).config.alias

    def _session_for_statement(self) -> AbstractAsyncContextManager[AsyncSession]:
        return contextlib.nullcontext(self)

    def require_open(self) -> None:
        """Raises where the block of this session is over."""
        cast("SyncSession", self.sync_session).require_open()

    @property
    def open_streams(self) -> set[Any]:
        """Keeps the streams of this session until they are closed."""
        streams: set[Any] = self.sync_session.info.setdefault(_STREAMS, set())
        return streams

    def link_of_stream(self) -> PhysicalConnection | None:
        """The connection that a stream of this session has just begun on."""
        link: PhysicalConnection | None = self.sync_session.info.get(_CONNECTION)
        return link

    @property
    def has_uncommitted_writes(self) -> bool:
        """Whether closing now would lose something: objects not flushed, or statements not committed."""
        sync = self.sync_session
        if sync.new or sync.deleted or any(sync.is_modified(item) for item in sync.dirty):
            return True
        link: PhysicalConnection | None = sync.info.get(_CONNECTION)
        return link is not None and link.wrote

    def on_commit(self, hook: Hook, *, robust: bool = False) -> None:
        """Runs ``hook`` after the commit of the ``atomic`` block that this session belongs to.

        A coroutine function is awaited. A hook of a savepoint that was rolled back never runs. ``robust`` logs an
        error of the hook and goes on, as in Django.

        - **errors**: ``TransactionMisuse`` outside of ``atomic``, where nobody but you knows when the commit is.
        """
        raise TransactionMisuse("on_commit() needs an atomic() block: a plain session is committed by its user")

    def begin_to_end(self) -> None:
        """Says that the commit that comes is the block's own."""
        info = self.sync_session.info
        info[_ENDING] = True
        if (link := info.get(_CONNECTION)) is not None:
            link.may_commit = True

    @property
    def spoiled(self) -> str | None:
        """Why this transaction cannot be committed any more, if that is so."""
        reason: str | None = self.sync_session.info.get(_SPOILED)
        return reason

    async def close(self) -> None:
        """Rolls back what is not committed, gives the connection back, and forgets every object.

        - **cancel**: the connection is given back, or dropped if its state is not known.
        """
        link: PhysicalConnection | None = self.sync_session.info.get(_CONNECTION)
        if link is not None and link.is_elsewhere:
            return  # the collector ends this block's coroutine; it finds the connection as well, and tells its loop
        if self.closes_without_a_word:
            self.sync_session.close()
        else:
            await super().close()

    @property
    def closes_without_a_word(self) -> bool:
        """Whether closing waits for nothing, so that it needs no greenlet of its own."""
        sync, pool = self.sync_session, pool_of(self.engine)
        if not sync.in_transaction():
            return True
        if sync.in_nested_transaction() or sync.info.get(_SEVERAL) or not pool.checks_in_silently:
            return False
        link: PhysicalConnection | None = sync.info.get(_CONNECTION)
        return link is None or link.nothing_to_end

    def end_block(self, block: str) -> None:
        """Refuses whatever is asked from now on, for ``block`` is over: nobody would end what it begins."""
        self.sync_session.info[_OVER] = f"the {block} block of this session is over: {_AFTER_ITS_BLOCK}"

    def spoil(self, reason: str | None) -> None:
        """Forbids further statements and the commit of this transaction for ``reason``; None allows them again."""
        info = self.sync_session.info
        info[_SPOILED] = reason
        if (link := info.get(_CONNECTION)) is not None:
            link.spoiled = reason


class Unentered:
    """Mixin of what gives a session when it is entered: used as one before, it says what is missing."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Session, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise AttributeError(
            f"{name!r} belongs to a session, and this is the block that gives one when it is entered: "
            f"async with session() as db, and in it db.{name} (the same with atomic())",
            name=name,
        )


class SessionBlock(Unentered, AbstractAsyncContextManager[Session]):
    """``async with`` over one session; see :meth:`asyncdb.Database.session`."""

    __slots__ = ("_alias", "_entered", "_remedy", "_session")

    def __init__(self, session: Session, alias: str, *, inside_atomic: bool) -> None:
        self._session = session
        self._alias = alias
        self._remedy = _OF_THE_BLOCK if inside_atomic else "await session.commit(), or use atomic()"
        self._entered = False

    async def __aenter__(self) -> Session:
        if self._entered:
            raise TransactionMisuse("this session() block was entered already: call session() anew for each block")
        self._entered = True
        return self._session

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            lost = exc is None and self._session.has_uncommitted_writes
        finally:
            self._session.end_block("session()")
            await self._session.close()
        if lost:
            raise UncommittedWrites(
                f"the session on {self._alias!r} wrote and ended without a commit, so it was rolled back: "
                f"{self._remedy}",
            )
