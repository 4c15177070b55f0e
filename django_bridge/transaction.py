"""``session``, ``with_session`` and ``atomic``: Django's words for an alias, asyncdb's blocks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, TypeVar, overload

from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model

from asyncdb import Session
from asyncdb.config import IsolationLevel
from asyncdb.errors import TransactionMisuse
from asyncdb.retry import run_in_attempts
from asyncdb.session import Unentered
from asyncdb.transaction import Lent, innermost

from .block import Block
from .connections import is_native
from .databases import BridgedDatabase, database
from .errors import DurableNested
from .scopes import enabled, left_to_django

__all__ = ["atomic", "retried", "session", "with_session"]

P = ParamSpec("P")
T = TypeVar("T")
_AsyncFunction = Callable[P, Awaitable[T]]


def session(
    using: str | None = None, *, model: type[Model] | None = None, for_write: bool = False, join: bool = False
) -> AbstractAsyncContextManager[Session]:
    """Opens a session on the pool of an alias; it leaves commit to you, as SQLAlchemy does.

    ``using`` names the alias; or ``model`` lets Django's database routers choose it, for reading or ``for_write``.
    Beneath sync code that is in a transaction (``async_to_sync`` inside ``transaction.atomic``) ``join`` takes part in
    that: ``commit()`` then ends a savepoint. In tests it does so too.

    - **errors**: a normal exit with uncommitted writes rolls back and raises ``UncommittedWrites``; ``JoinRefused``
      beneath such sync code without ``join``; ``ConfigurationError`` for a wrong alias or setting; ``NoEventLoop``
      outside asyncio.
    """
    return database(alias_of(using, model, for_write=for_write)).session(join=join)


@overload
def with_session(function: Callable[..., Awaitable[T]], /) -> Callable[..., Awaitable[T]]: ...
@overload
def with_session(
    using: str | None = None, /, *, model: type[Model] | None = None, for_write: bool = False
) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]: ...
def with_session(
    using: str | Callable[..., Awaitable[Any]] | None = None,
    /,
    *,
    model: type[Model] | None = None,
    for_write: bool = False,
) -> Any:
    """Decorates an async view or method: it gets a session as its keyword ``db``.

    ::

        @with_session
        async def book(request, pk, *, db): ...

    - **errors**: ``TypeError`` where it decorates a function that is not ``async def`` or takes no ``db``;
      at the call those of :func:`session`.
    """
    if callable(using):
        return _with_session(using)
    if using is not None and model is not None:
        _refuse_both()
    return functools.partial(_with_session, using=using, model=model, for_write=for_write)


def _with_session(
    function: Callable[..., Awaitable[T]],
    *,
    using: str | None = None,
    model: type[Model] | None = None,
    for_write: bool = False,
) -> Callable[..., Awaitable[T]]:
    _require_async(function, "with_session")
    if not _takes_db(function, any_keyword=True):
        raise TypeError(f"with_session: {_name(function)} takes no 'db': add it as a keyword (*, db)")

    @functools.wraps(function)
    async def view(*args: Any, **kwargs: Any) -> T:
        async with session(using, model=model, for_write=for_write) as db:
            return await function(*args, db=db, **kwargs)

    view.gives_db = True  # type: ignore[attr-defined]  # atomic() refuses to give another one
    return view


@overload
def atomic(using: Callable[P, Awaitable[T]], /) -> Callable[P, Awaitable[T]]: ...
@overload
def atomic(
    using: str | None = None,
    *,
    model: type[Model] | None = None,
    isolation: IsolationLevel | None = None,
    read_only: bool = False,
    savepoint: bool = True,
    durable: bool = False,
    join: bool = False,
) -> Atomic: ...
def atomic(
    using: str | Callable[..., Awaitable[Any]] | None = None,
    *,
    model: type[Model] | None = None,
    isolation: IsolationLevel | None = None,
    read_only: bool = False,
    savepoint: bool = True,
    durable: bool = False,
    join: bool = False,
) -> Any:
    """Runs one transaction: committed at a normal exit, rolled back by an exception.

    ::

        async with atomic() as db: ...

        @atomic("other", isolation="SERIALIZABLE")
        async def shelve(request, pk, *, db): ...

    Inside another ``atomic`` of the same task and alias it is a savepoint. A decorated function that has a
    parameter named ``db`` gets the session. ``using`` names the alias; or ``model`` lets Django's database routers
    choose it each time, as for a write: a block on another alias is a transaction of its own. Beneath sync code that is
    in a transaction ``join`` makes it a savepoint of that, as it always is in tests.

    - **errors**: ``JoinRefused`` beneath such sync code without ``join``; ``TypeError`` where it decorates what is not
      ``async def``; in the block those of ``Database.atomic``, after which nothing is committed.
    """
    make = functools.partial(
        Atomic,
        model=model,
        isolation=isolation,
        read_only=read_only,
        savepoint=savepoint,
        durable=durable,
        join=join,
    )
    return make(None)(using) if callable(using) else make(using)


class Atomic(Unentered):
    """What :func:`atomic` returns: a context manager for one use, and a decorator for any number."""

    def __init__(
        self,
        using: str | None,
        *,
        model: type[Model] | None,
        isolation: IsolationLevel | None,
        read_only: bool,
        savepoint: bool,
        durable: bool,
        join: bool,
    ) -> None:
        if using is not None and model is not None:
            _refuse_both()
        self._using = using
        self._model = model
        self._join = join
        self._options: dict[str, Any] = {
            "isolation": isolation,
            "read_only": read_only,
            "savepoint": savepoint,
            "durable": durable,
        }
        self._entered: AbstractAsyncContextManager[Session] | None = None
        self.of_request = False

    def _block(self) -> AbstractAsyncContextManager[Session]:
        """A block of Django's own where the ORM is: on the task's scope, or in Django's thread."""
        alias = alias_of(self._using, self._model, for_write=True) or DEFAULT_DB_ALIAS
        found = database(alias)
        if enabled() and not left_to_django():
            outer = innermost(found.engine)
            if is_native(alias):
                if outer is not None and not isinstance(outer, Lent):
                    raise TransactionMisuse(
                        f"the ORM is no part of the transaction that database().atomic() began on {alias!r}: let "
                        "django_bridge.atomic() begin it"
                    )
                return Block(found, alias, **self._options)
        return found.atomic_with_the_orm(**self._options, join=self._join)

    async def __aenter__(self) -> Session:
        if self._entered is not None:
            raise RuntimeError("this atomic() block is open already: call atomic() once for each block")
        block = self._block()
        if isinstance(block, Block):
            block.of_request = self.of_request
        self._entered = block
        try:
            return await block.__aenter__()
        except BaseException:
            self._entered = None
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        block, self._entered = self._entered, None
        assert block is not None, "left without having been entered"
        return await block.__aexit__(kind, error, traceback)

    def __enter__(self) -> NoReturn:
        raise TypeError(
            "django_bridge.atomic() is async: use 'async with'; for sync code django.db.transaction.atomic()"
        )

    def __exit__(self, *_: object) -> None:
        """Never reached: ``__enter__`` refuses."""

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        _require_async(function, "atomic")
        if getattr(function, "gives_db", False):
            raise TypeError(
                f"atomic: {_name(function)} has a session of its own, which is not part of the block: remove "
                "with_session, for atomic gives its session to a parameter named db",
            )
        takes_db = _takes_db(function)

        @functools.wraps(function)
        async def in_transaction(*args: P.args, **kwargs: P.kwargs) -> T:
            async with self._block() as db:
                if takes_db:
                    kwargs["db"] = db
                return await function(*args, **kwargs)

        return in_transaction


class _Attempt(Atomic):
    """One attempt at a transaction of both ORMs."""

    _left: Any = None

    def __init__(self, using: str, *, isolation: IsolationLevel | None, read_only: bool) -> None:
        super().__init__(
            using, model=None, isolation=isolation, read_only=read_only, savepoint=True, durable=True, join=False
        )

    @property
    def committed(self) -> bool:
        """Whether its transaction is committed; its hooks may still run."""
        return bool(getattr(self._left, "committed", False))

    @property
    def can_be_repeated(self) -> bool:
        """Whether a failed attempt leaves nothing."""
        return bool(getattr(self._entered, "can_be_repeated", False))

    async def __aenter__(self) -> Session:
        try:
            return await super().__aenter__()
        except DurableNested as err:
            raise TransactionMisuse(
                f"retry() on {self._using!r} inside of another transaction: a conflict ends the whole of it, so retry "
                "that one instead",
            ) from err

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._left = self._entered
        return await super().__aexit__(kind, error, traceback)


BridgedDatabase.one_of_both = staticmethod(_Attempt)


@overload
def retried(function: Callable[..., Awaitable[T]], /) -> Callable[..., Awaitable[T]]: ...
@overload
def retried(
    using: str | None = None,
    /,
    *,
    model: type[Model] | None = None,
    attempts: int | None = None,
    isolation: IsolationLevel | None = None,
    read_only: bool = False,
) -> Callable[[Callable[..., Awaitable[T]]], Callable[..., Awaitable[T]]]: ...
def retried(
    using: str | Callable[..., Awaitable[Any]] | None = None,
    /,
    *,
    model: type[Model] | None = None,
    attempts: int | None = None,
    isolation: IsolationLevel | None = None,
    read_only: bool = False,
) -> Any:
    """Decorates an async function: each call is one transaction of both ORMs, tried again after a conflict.

    ::

        @retried
        async def transfer(source, target, amount, *, db): ...

    It is :func:`atomic`, and ``Database.retry`` says when it is tried again. In a test that is a transaction itself
    (``TestCase``) one attempt is made: a conflict there has ended the test's own transaction.

    - **errors**: ``TransactionMisuse`` inside another transaction; ``TypeError`` where it decorates what is not
      ``async def``; the server's of the last attempt.
    """

    def decorate(function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        _require_async(function, "retried")
        alias = using if isinstance(using, str) else None

        @functools.wraps(function)
        async def in_attempts(*args: Any, **kwargs: Any) -> T:
            return await run_in_attempts(
                database(alias_of(alias, model, for_write=True)),
                function,
                (args, kwargs),
                attempts=attempts,
                isolation=isolation,
                read_only=read_only,
            )

        return in_attempts

    return decorate(using) if callable(using) else decorate


def alias_of(using: str | None, model: type[Model] | None, *, for_write: bool) -> str | None:
    if model is None:
        return using
    if using is not None:
        _refuse_both()
    chosen: str = router.db_for_write(model) if for_write else router.db_for_read(model)
    return chosen


def _refuse_both() -> NoReturn:
    raise TypeError("give 'using' or 'model', not both: 'model' lets the database routers choose the alias")


def _name(function: Any) -> str:
    module, name = getattr(function, "__module__", "?"), getattr(function, "__qualname__", repr(function))
    return f"{module}.{name}"


def _require_async(function: Any, decorator: str) -> None:
    if isinstance(function, type):
        raise TypeError(f"{decorator}: {_name(function)} is a class: decorate its async methods (async def get)")
    if not callable(function):
        raise TypeError(f"{decorator}: {function!r} is neither an alias nor a function")
    if inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{decorator}: {_name(function)} is an async generator, which may never be finished: "
            f"open the block inside it (async with {decorator.removeprefix('with_')}())",
        )
    if not inspect.iscoroutinefunction(function):
        remedy = "use django.db.transaction.atomic there" if decorator == "atomic" else "use Django's ORM there"
        raise TypeError(f"{decorator}: {_name(function)} is a sync function: make it 'async def', or {remedy}")


def _takes_db(function: Callable[..., Any], *, any_keyword: bool = False) -> bool:
    parameters = inspect.signature(function).parameters
    if "db" in parameters:
        return parameters["db"].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any_keyword and any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
