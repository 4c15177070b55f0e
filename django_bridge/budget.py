"""``query_budget``: how many queries a block may send, through either ORM.

Sessions tell ``asyncdb.listening`` of their statements. Django's cursors do so as long as a budget is open somewhere in
the process: until then nothing of Django's is replaced, and afterwards nothing is any more.

Read in Django 5.2 and 6.1 (``db/backends/utils.py``: ``CursorWrapper._execute_with_wrappers``, by which every statement
goes that Django logs; ``debug_transaction``, which logs the others: BEGIN, COMMIT and ROLLBACK of the outermost block;
``db/backends/base/base.py``: ``connect``, and ``temporary_connection``, on which Django asks the server who it is).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Self

from django.conf import settings
from django.db.backends.base import base
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.utils.connection import ConnectionDoesNotExist

from asyncdb.listening import hear, listeners, stop_hearing, tell, unheard

from .errors import QueryBudgetExceeded

__all__ = ["Statement", "query_budget"]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement that was sent, without its parameters."""

    orm: str
    """``Django`` or ``SQLAlchemy``, whichever sent it."""
    alias: str
    sql: str

    def __str__(self) -> str:
        return f"{self.orm}, {self.alias!r}: {' '.join(self.sql.split())}"


class query_budget:  # noqa: N801  (a context manager, named as a noun)
    """Allows a block so many queries of both ORMs together; for ``async with``, and ``with`` in sync code.

    ::

        async with query_budget(3) as spent:
            ...
        print(spent.statements)

    It counts the statements of this context: of its child tasks and of the threads that ``sync_to_async`` starts as
    well, not of threads that copy no context. Of Django's ORM it counts what ``assertNumQueries`` counts: SAVEPOINT,
    and BEGIN and COMMIT of ``transaction.atomic()``, too. Of a session, and of ``django_bridge.atomic()``, it counts
    each statement and SAVEPOINT, but not BEGIN and COMMIT. A server-side cursor is one query, ``executemany`` too.
    What makes a new connection ready is nobody's query.

    ``using`` counts one alias alone. ``exactly`` allows no fewer either. ``info`` stands in the message.

    - **errors**: ``QueryBudgetExceeded``, an ``AssertionError``, at the normal end of the block, with the SQL of all
      that was sent, and no parameters; an exception out of the block passes unchanged. ``ValueError`` for a negative
      number, ``ConnectionDoesNotExist`` for an unknown alias.
    - **cancel**: it waits for nothing.
    """

    def __init__(
        self, number: int, *, using: str | None = None, exactly: bool = False, info: str | None = None
    ) -> None:
        if number < 0:
            raise ValueError(f"query_budget({number}): no block sends fewer queries than none")
        if using is not None and using not in settings.DATABASES:
            raise ConnectionDoesNotExist(f"query_budget(using={using!r}): DATABASES has no such alias")
        self.number = number
        self.using = using
        self._exactly = exactly
        self._info = info
        self._sent: list[Statement] = []
        self._over = False
        self._token: Any = None

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What was sent so far, in the order in which it was asked for."""
        return tuple(self._sent)

    def __len__(self) -> int:
        return len(self._sent)

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("this query_budget() was entered before: make another one")
        _put()
        self._token = hear(self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over = True  # a task that outlives the block has the listener still
        stop_hearing(self._token)
        _take_away()
        sent = self._sent
        if kind is None and (len(sent) > self.number or (self._exactly and len(sent) < self.number)):
            raise QueryBudgetExceeded(self._message(sent))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.__exit__(kind)

    def _hear(self, sender: str, alias: str, sql: str) -> None:
        if not self._over and (self.using is None or alias == self.using):
            self._sent.append(Statement(sender, alias, sql))

    def _message(self, sent: list[Statement]) -> str:
        aliases = "all aliases" if self.using is None else repr(self.using)
        allowed = f"{'exactly' if self._exactly else 'at most'} {self.number} expected"
        lines = [f"{len(sent)} {'query' if len(sent) == 1 else 'queries'} on {aliases}, {allowed}"]
        if len(sent) > self.number:
            lines[0] += ": load more with each (select_related, selectinload), or allow more"
        if self._info:
            lines.append(self._info)
        lines += [f"{number}. {statement}" for number, statement in enumerate(sent, 1)]
        return "\n".join(lines)


# -- Django's cursors, as long as a budget is open ---------------------------------------------------------------------


class _Replacement:
    """One function of Django's that is replaced, and put back where nobody has put a third one over it."""

    def __init__(self, place: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._place = place
        self._name = name
        self._make = make
        self._theirs: Any = None
        self._ours: Any = None

    def put(self) -> None:
        if self._ours is None:
            self._theirs = vars(self._place)[self._name]
            self._ours = functools.wraps(self._theirs)(self._make(self._theirs))
            setattr(self._place, self._name, self._ours)

    def take_away(self) -> None:
        if vars(self._place)[self._name] is self._ours:
            setattr(self._place, self._name, self._theirs)
            self._ours = None


def _telling_execution(theirs: Callable[..., Any]) -> Callable[..., Any]:
    def execute(cursor: CursorWrapper, sql: Any, *args: Any, **kwargs: Any) -> Any:
        if listeners():
            tell("Django", cursor.db.alias, _text(sql))
        return theirs(cursor, sql, *args, **kwargs)

    return execute


def _telling_transaction(theirs: Callable[..., AbstractContextManager[None]]) -> Callable[..., Any]:
    def debug_transaction(connection: BaseDatabaseWrapper, sql: str) -> AbstractContextManager[None]:
        tell("Django", connection.alias, sql)
        return theirs(connection, sql)

    return debug_transaction


def _silent(theirs: Callable[..., Any]) -> Callable[..., Any]:
    def connect(connection: BaseDatabaseWrapper) -> Any:
        with unheard():
            return theirs(connection)

    return connect


def _silent_block(theirs: Callable[..., AbstractContextManager[Any]]) -> Callable[..., Any]:
    @contextmanager
    def temporary_connection(connection: BaseDatabaseWrapper) -> Iterator[Any]:
        with unheard(), theirs(connection) as cursor:
            yield cursor

    return temporary_connection


_replacements = (
    _Replacement(CursorWrapper, "_execute_with_wrappers", _telling_execution),
    _Replacement(base, "debug_transaction", _telling_transaction),
    _Replacement(BaseDatabaseWrapper, "connect", _silent),
    _Replacement(BaseDatabaseWrapper, "temporary_connection", _silent_block),
)
_turn = threading.Lock()
_open = 0


def _put() -> None:
    global _open  # noqa: PLW0603  (one count for the process)
    with _turn:
        _open += 1
        for one in _replacements:
            one.put()


def _take_away() -> None:
    global _open  # noqa: PLW0603  (as above)
    with _turn:
        _open -= 1
        if not _open:
            for one in _replacements:
                one.take_away()


def _text(sql: Any) -> str:
    """The statement as text; of one composed with psycopg the values that are written into it are left out."""
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes | bytearray):
        return sql.decode(errors="replace")
    if isinstance(sql, Iterable):
        return "".join(map(_text, sql))
    if type(sql).__name__ == "Literal":
        return "%s"
    return str(sql.as_string(None)) if hasattr(sql, "as_string") else type(sql).__name__
