"""One ``atomic`` block: Django's own ``Atomic``, entered and left for async code, and a session in it.

Read in Django 5.2 and 6.1 (``db/transaction.py``: ``Atomic``).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext, suppress
from functools import partial
from types import TracebackType
from typing import Any

from django.db import transaction

from asyncdb import Database, Session
from asyncdb.config import IsolationLevel
from asyncdb.drivers.physical import TransactionOptions
from asyncdb.errors import TransactionMisuse, TransactionPoisoned
from asyncdb.listening import unheard
from asyncdb.session import Unentered
from asyncdb.transaction import Lent, lend, take_back

from .errors import DurableNested
from .ground import Ground, InScope
from .shared import SharedTransaction

__all__ = ["Block"]

log = logging.getLogger("django_bridge.transaction")


class Block(Unentered, AbstractAsyncContextManager[Session]):
    """``async with`` over one block; see :func:`django_bridge.atomic`."""

    _ground: Ground
    _shared: SharedTransaction
    _lent: Lent
    _outermost = _in_a_test = False
    committed = False
    """Whether its transaction is committed; its hooks may still run."""
    of_request = False
    """Whether it is Django's, for a request (``ATOMIC_REQUESTS``): a view that answers an error that it caught may."""
    _brought_session = False
    """Whether the session was made by this block, and ends with it."""

    def __init__(
        self,
        database: Database,
        alias: str,
        find_ground: Callable[[], Awaitable[Ground]] | None = None,
        *,
        isolation: IsolationLevel | None,
        read_only: bool,
        savepoint: bool,
        durable: bool,
    ) -> None:
        """``find_ground`` tells where it stands when it is entered; by default in the scope of the task."""
        database.require_isolation(isolation)
        self._database = database
        self._alias = alias
        self._find_ground = find_ground
        self._options = TransactionOptions(isolation=isolation, read_only=read_only, eager=True)
        self._atomic: Any = transaction.Atomic(alias, savepoint, durable)

    # -- entering ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Session:
        ground = InScope(self._database, self._alias) if self._find_ground is None else await self._find_ground()
        self._ground = ground
        self._loop = asyncio.get_running_loop()
        self._wrapper = ground.wrapper
        try:
            await ground.run(self._enter)
        except BaseException:
            await ground.leave()
            raise
        nest = partial(Block, self._database, self._alias, self._find_ground)
        self._lent = Lent(self._database.engine, self._shared.session, ground.require_task, nest)
        lend(self._lent)
        return self._shared.session

    def _enter(self) -> None:
        wrapper, atomic = self._wrapper, self._atomic
        self._refuse_what_nested_blocks_cannot()
        self._outermost = not wrapper.in_atomic_block or bool(
            getattr(wrapper.atomic_blocks[-1], "_from_testcase", False)
        )
        self._in_a_test = bool(wrapper.atomic_blocks)
        with self._told():
            self._ground.begin(atomic, self._options)
        if (shared := wrapper.shared) is None:
            try:
                shared = SharedTransaction(wrapper, self._ground.link(), self._ground.engine, self._ground.require_task)
                self._ground.shares(shared)
            except BaseException as err:
                atomic.__exit__(type(err), err, err.__traceback__)
                raise
            self._brought_session = True
        self._shared = shared

    def _told(self) -> AbstractContextManager[None]:
        """BEGIN and COMMIT are nobody's query, as they are of a session, nor what stands for them in a test."""
        return unheard() if self._outermost else nullcontext()

    def _refuse_what_nested_blocks_cannot(self) -> None:
        wrapper, options = self._wrapper, self._options
        if not wrapper.in_atomic_block and wrapper.get_autocommit():
            return
        if self._atomic.durable and wrapper.atomic_blocks and not wrapper.atomic_blocks[-1]._from_testcase:
            raise DurableNested(f"atomic(durable=True) on {self._alias!r} cannot be nested within another atomic block")
        if options.isolation is not None or options.read_only:
            raise TransactionMisuse(
                f"isolation and read_only belong to the outermost atomic() on {self._alias!r}: a savepoint has none",
            )

    # -- leaving -------------------------------------------------------------------------------------------------

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, GeneratorExit) and asyncio._get_running_loop() is not self._loop:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._collected)
            return
        take_back(self._lent)
        try:
            if self._atomic not in self._wrapper.atomic_blocks:
                if error is None:
                    raise self._wrong_order()
                return
            self._require_task()
            self._ground.cut_short()
            await self._ground.run(self._leave, error)
            self.committed = error is None and self.can_be_repeated
            if hooks := self._wrapper.hooks_due():
                await self._ground.over()
            for hook, robust in hooks:
                await self._run_hook(hook, robust=robust)
        finally:
            await self._ground.leave()

    def _collected(self) -> None:
        """Gives up a block whose coroutine the garbage collector has ended, in whatever thread."""
        take_back(self._lent)
        if self._atomic in self._wrapper.atomic_blocks:
            self._ground.abandon(self._shared)

    @property
    def can_be_repeated(self) -> bool:
        """Whether it is a transaction of its own, so that a failed attempt leaves nothing; in a test it is not."""
        return self._outermost and not self._in_a_test

    def _require_task(self) -> None:
        """Where another task leaves the block, as of a generator that was collected unfinished, nobody else will."""
        try:
            self._ground.require_task()
        except BaseException:
            if self._atomic in self._wrapper.atomic_blocks[1:]:
                self._shared.failed("a nested block was left in another task")
            elif self._atomic in self._wrapper.atomic_blocks:
                self._ground.abandon(self._shared)
            raise

    def _leave(self, given: BaseException | None) -> None:
        wrapper = self._wrapper
        error = given
        try:
            if error is None:
                error = self._reason_against()
            if wrapper.atomic_blocks[-1] is not self._atomic:
                error = given or self._wrong_order()  # a thread of a cancelled owner leaves its own blocks open
                while wrapper.atomic_blocks[-1] is not self._atomic:
                    wrapper.atomic_blocks[-1].__exit__(type(error), error, None)
            wrapper.hooks_wait = self._brought_session
            asked = wrapper.rollback_asked
            with self._told():
                self._atomic.__exit__(None if error is None else type(error), error, None)
            if asked and wrapper.needs_rollback:
                wrapper.rollback_asked = True  # a block without a savepoint has passed it on
        except BaseException:
            if not wrapper.in_atomic_block:
                wrapper.run_on_commit = []
            raise
        finally:
            wrapper.hooks_wait = False
            if self._brought_session:
                self._shared.close()
        if error is not None and error is not given:
            raise error

    def _reason_against(self) -> BaseException | None:
        """Why the block fails although it ended normally."""
        shared, wrapper = self._shared, self._wrapper
        if (lost := shared.lost) is not None:
            return TransactionPoisoned(f"the transaction on {self._alias!r} was rolled back: {lost}")
        if wrapper.closed_in_transaction:
            return TransactionPoisoned(f"the transaction on {self._alias!r} was rolled back: its connection was closed")
        if wrapper.needs_rollback:
            # Django's own block ends well here, also where its user does not know that nothing of it was saved.
            quiet = wrapper.rollback_asked or self.of_request
            return None if quiet else self._rolled_back_for_a_caught_error()
        if wrapper.failed_on_server:
            return TransactionPoisoned(
                f"the transaction on {self._alias!r} was rolled back: a statement in it failed, after which the "
                "server commits nothing (an atomic() block around what may fail keeps the rest)"
            )
        try:
            shared.flush()
        except BaseException as err:  # given to Django's Atomic, which knows errors of its own alone
            return err
        return None

    def _rolled_back_for_a_caught_error(self) -> TransactionPoisoned:
        error = TransactionPoisoned(
            f"the transaction on {self._alias!r} was rolled back: an error of the ORM in it was caught inside of the "
            "block (an atomic() block around what may fail keeps the rest; transaction.set_rollback(True) ends the "
            "block without this error)"
        )
        error.__cause__ = self._wrapper.rollback_exc
        return error

    def _wrong_order(self) -> TransactionMisuse:
        return TransactionMisuse(
            f"atomic() blocks on {self._alias!r} were left in the wrong order: innermost first; they are rolled back"
        )

    async def _run_hook(self, hook: Any, *, robust: bool) -> None:
        """Runs a hook without a connection: a sync one in a greenlet, so that it may ask for one."""
        try:
            outcome = hook() if inspect.iscoroutinefunction(hook) else await self._ground.run(hook)
            if inspect.isawaitable(outcome):
                await outcome
        except Exception:
            if not robust:
                raise
            log.exception("error in an on_commit hook (%s)", getattr(hook, "__qualname__", type(hook).__name__))
