"""``atomic``: a transaction as a block; inside another one, a savepoint.

::

    outermost block        BEGIN before the first statement ... COMMIT, then the hooks
      nested block         SAVEPOINT ... RELEASE, or ROLLBACK TO
      nested, savepoint=False   nothing; if it fails, the nearest savepoint takes the blame, or the whole block
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, AsyncSessionTransaction

from .config import IsolationLevel
from .drivers.physical import Owner, TransactionOptions, check_owner
from .errors import TransactionMisuse, TransactionOwnedByTask, TransactionPoisoned
from .session import Hook, Session, Unentered

log = logging.getLogger("asyncdb.transaction")


class AtomicSession(Session):
    """The session inside ``atomic``: the block commits it, nobody else."""

    block: _Block

    async def commit(self) -> NoReturn:
        raise TransactionMisuse("the atomic() block commits when it ends: remove commit(), or use session()")

    async def rollback(self) -> NoReturn:
        raise TransactionMisuse("raise an exception to roll back an atomic() block, or nest one and raise inside")

    async def close(self) -> NoReturn:
        raise TransactionMisuse("the atomic() block closes its session when it ends")

    async def reset(self) -> NoReturn:
        raise TransactionMisuse("reset() would roll the atomic() block back and go on: raise an exception instead")

    async def invalidate(self) -> NoReturn:
        raise TransactionMisuse("invalidate() would roll the atomic() block back and go on: raise an exception instead")

    def begin(self) -> NoReturn:
        raise TransactionMisuse("the atomic() block has begun its transaction: remove begin(), or nest an atomic()")

    def on_commit(self, hook: Hook, *, robust: bool = False) -> None:
        if not callable(hook):
            raise TypeError("on_commit() takes a function without arguments")
        innermost(self.block.key, self.block).hooks.append((hook, robust))


@dataclass(eq=False)
class _Block:
    key: object
    alias: str
    owner: Owner
    session: AtomicSession
    outer: _Block | None = None
    savepoint: AsyncSessionTransaction | None = None
    hooks: list[tuple[Hook, bool]] = field(default_factory=list)
    over: bool = False
    """Whether another task than its owner left it, in whose context it still stands."""
    committed: bool = False


@dataclass(eq=False)
class Lent:
    """A block whose transaction is somebody else's, who lends its session to what runs inside."""

    key: object
    session: Session
    admit: Callable[[], None]
    """Raises in a task that may not use it."""
    nest: Callable[..., AbstractAsyncContextManager[Session]]
    """Makes a block inside this one, from the options of :meth:`asyncdb.Database.atomic`."""
    outer: _Block | Lent | None = None
    over: bool = False


_blocks: ContextVar[Mapping[object, _Block | Lent]] = ContextVar("asyncdb_blocks", default=MappingProxyType({}))


def innermost(key: object, default: Any = None) -> Any:
    """The innermost open block of ``key`` (an engine) in this context, whoever owns it."""
    block = _blocks.get().get(key)
    while block is not None and block.over:
        block = block.outer
    return default if block is None else block


def lend(lent: Lent) -> None:
    """Makes ``lent`` the innermost block of this context."""
    lent.outer = innermost(lent.key)
    _blocks.set({**_blocks.get(), lent.key: lent})


def take_back(lent: Lent) -> None:
    """Ends a block that was lent; also from another context."""
    lent.over = True
    blocks = dict(_blocks.get())
    if blocks.get(lent.key) is lent:
        del blocks[lent.key]
        _blocks.set(blocks if lent.outer is None else {**blocks, lent.key: lent.outer})


def current_session(key: object) -> Session | None:
    """The session of the block that this task is in; None outside.

    - **errors**: ``TransactionOwnedByTask`` in a task that inherited the block of another.
    """
    block: _Block | Lent | None = innermost(key)
    if block is None:
        return None
    if isinstance(block, Lent):
        block.admit()
    else:
        check_owner(block.alias, block.owner)
    return block.session


class Atomic(Unentered, AbstractAsyncContextManager[Session]):
    """One block; see :meth:`asyncdb.Database.atomic`."""

    def __init__(
        self,
        engine: AsyncEngine,
        alias: str,
        *,
        isolation: IsolationLevel | None,
        read_only: bool,
        savepoint: bool,
        durable: bool,
    ) -> None:
        self._engine = engine
        self._alias = alias
        self._options = TransactionOptions(isolation=isolation, read_only=read_only, eager=True)
        self._savepoint = savepoint
        self._durable = durable
        self._block: _Block | None = None
        self._inside: AbstractAsyncContextManager[Session] | None = None
        """The block inside of one that was lent, which this one stands for."""

    @property
    def committed(self) -> bool:
        """Whether its transaction is committed; its hooks may still run."""
        return self._block is not None and self._block.committed

    @property
    def can_be_repeated(self) -> bool:
        """Whether it is a transaction of its own, so that a failed attempt leaves nothing."""
        return self._block is not None and self._block.outer is None

    async def __aenter__(self) -> Session:
        if self._block is not None or self._inside is not None:
            raise TransactionMisuse("this atomic() block was entered already: call atomic() anew for each block")
        outer: _Block | Lent | None = innermost(self._engine)
        if isinstance(outer, Lent):
            self._inside = outer.nest(
                isolation=self._options.isolation,
                read_only=self._options.read_only,
                savepoint=self._savepoint,
                durable=self._durable,
            )
            return await self._inside.__aenter__()
        block = self._outermost() if outer is None else await self._nested(outer)
        self._block = block
        _blocks.set({**_blocks.get(), self._engine: block})
        return block.session

    def _outermost(self) -> _Block:
        owner = Owner(asyncio.current_task())
        options = dataclasses.replace(self._options, owner=owner)
        session = AtomicSession(self._engine, transaction=options, close_resets_only=False)
        session.block = _Block(self._engine, self._alias, owner, session)
        return session.block

    async def _nested(self, outer: _Block) -> _Block:
        check_owner(outer.alias, outer.owner)
        if self._durable:
            raise TransactionMisuse(f"atomic(durable=True) on {self._alias!r} cannot be nested within another atomic()")
        if self._options.isolation is not None or self._options.read_only:
            raise TransactionMisuse(
                f"isolation and read_only belong to the outermost atomic() on {self._alias!r}: a savepoint has none",
            )
        savepoint = None
        if self._savepoint:
            savepoint = await outer.session.begin_nested()
            # SQLAlchemy 2.1.9 sends SAVEPOINT with the session's next statement; one on its connection would precede it
            await outer.session.connection()
        return _Block(outer.key, outer.alias, outer.owner, outer.session, outer, savepoint)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._inside is not None:
            await self._inside.__aexit__(exc_type, exc, traceback)
            return
        block = self._block
        if block is not None and not block.over:
            try:
                check_owner(block.alias, block.owner)
            except TransactionOwnedByTask:
                await _abandon(block)
                raise
        if block is None or innermost(self._engine) is not block:
            raise TransactionMisuse(f"atomic() blocks on {self._alias!r} were left in the wrong order: innermost first")
        others = {key: other for key, other in _blocks.get().items() if key is not block.key}
        _blocks.set(others if block.outer is None else {**others, block.key: block.outer})
        if block.outer is None:
            await _end_outermost(block, failed=exc is not None)
        else:
            await _end_nested(block, block.outer, failed=exc is not None)


async def _abandon(block: _Block) -> None:
    """Ends a block that another task left, as of a generator that was collected unfinished: nobody else will."""
    block.over = True
    if block.outer is not None:
        block.session.spoil("a nested block was left in another task")
        return
    block.session.end_block("atomic()")
    try:
        await AsyncSession.invalidate(block.session)
        await Session.close(block.session)
    except SQLAlchemyError as err:  # its owner is in the middle of a statement
        log.warning("%r: a block left in another task could not be ended (%s)", block.alias, type(err).__name__)


async def _end_outermost(block: _Block, *, failed: bool) -> None:
    session = block.session
    try:
        if not failed and session.spoiled is not None:
            raise TransactionPoisoned(f"the transaction on {block.alias!r} was rolled back: {session.spoiled}")
        if not failed:
            session.begin_to_end()
            await AsyncSession.commit(session)
            block.committed = True
    finally:
        await _close(block)
    if not failed:
        for hook, robust in block.hooks:
            await _run(hook, robust=robust)


async def _close(block: _Block) -> None:
    """Rolls back what is not committed; an error here must not hide the one that is on its way."""
    block.session.end_block("atomic()")
    try:
        await Session.close(block.session)
    except SQLAlchemyError as err:
        log.warning("%r: roll-back failed (%s); the connection is dropped", block.alias, type(err).__name__)
        await AsyncSession.invalidate(block.session)


async def _end_nested(block: _Block, outer: _Block, *, failed: bool) -> None:
    session, savepoint = block.session, block.savepoint
    spoiled = session.spoiled
    if not failed and spoiled is None:
        if savepoint is not None:
            await _release(savepoint, session)
        outer.hooks += block.hooks
    elif savepoint is None:
        session.spoil(spoiled or "a nested block without a savepoint failed")
    else:
        await _back_to(savepoint, session)
        if not failed:
            raise TransactionPoisoned(f"a nested block on {block.alias!r} was rolled back to its savepoint: {spoiled}")


async def _release(savepoint: AsyncSessionTransaction, session: AtomicSession) -> None:
    try:
        await savepoint.commit()
    except Exception:  # of its flush, say, which left the savepoint to be gone back to
        await _back_to(savepoint, session)
        raise


async def _back_to(savepoint: AsyncSessionTransaction, session: AtomicSession) -> None:
    """Rolls back to a savepoint, which takes the blame for what was spoiled since."""
    session.spoil(None)
    try:
        await savepoint.rollback()
    except SQLAlchemyError:
        session.spoil("its savepoint could not be rolled back")


async def _run(hook: Hook, *, robust: bool) -> None:
    try:
        outcome = hook()
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:
        if not robust:
            raise
        log.exception("error in an on_commit hook (%s)", getattr(hook, "__qualname__", type(hook).__name__))
