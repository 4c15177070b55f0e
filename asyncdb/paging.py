"""Pages of a statement: by number with a total, and by keyset with cursors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Generic, TypeVar, TypeVarTuple, overload

from pydantic import computed_field
from sqlalchemy import Executable, Result, Row, Select, func, select
from sqlalchemy.exc import DataError, DBAPIError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import TypedReturnsRows

from .errors import InvalidCursor, PageError
from .fetching import Fetching, Params
from .keyset import Key, Place, beyond, keys_of, read_cursor, require_order, write_cursor
from .rows import convert

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_KEY = "asyncdb_key_"


@dataclasses.dataclass(frozen=True)
class Page(Generic[T_co]):
    """One page by its number, counted from 1; pydantic serializes it with all that it says."""

    items: list[T_co]
    total: int
    """Rows of the whole statement, when the page was read."""
    page: int
    size: int
    """Rows a page; the last one may have fewer."""

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __bool__(self) -> bool:
        """An empty page is a page."""
        return True

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own order of the two
    @property
    def pages(self) -> int:
        """How many pages there are; 0 for a statement without rows."""
        return -(-self.total // self.size)

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def has_next(self) -> bool:
        """Whether there is a page after this one."""
        return self.page < self.pages

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def has_previous(self) -> bool:
        """Whether there is a page with rows before this one."""
        return self.page > 1 and self.pages > 0


@dataclasses.dataclass(frozen=True)
class KeysetPage(Generic[T_co]):
    """One page of a statement by keyset; pydantic serializes it with all that it says."""

    items: list[T_co]
    size: int
    next: str | None
    """The cursor of the page after this one; None at the end."""
    previous: str | None
    """The cursor of the page before this one; None at the beginning."""

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __bool__(self) -> bool:
        """An empty page is a page."""
        return True

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def has_next(self) -> bool:
        """Whether there is a page after this one."""
        return self.next is not None

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def has_previous(self) -> bool:
        """Whether there may be a page before this one."""
        return self.previous is not None


class Paging(Fetching):
    """Mixin with ``fetch_page`` and ``fetch_keyset``, beside the verbs of :class:`asyncdb.fetching.Fetching`."""

    @overload
    async def fetch_page(
        self, statement: Executable, params: Params = None, *, page: int = 1, size: int, into: type[dict[Any, Any]]
    ) -> Page[dict[str, Any]]: ...
    @overload
    async def fetch_page(
        self, statement: Executable, params: Params = None, *, page: int = 1, size: int, into: type[T]
    ) -> Page[T]: ...
    @overload
    async def fetch_page(  # type: ignore[overload-overlap]  # typed columns come before untyped ones
        self, statement: TypedReturnsRows[*Ts], params: Params = None, *, page: int = 1, size: int, into: None = None
    ) -> Page[Row[*Ts]]: ...
    @overload
    async def fetch_page(
        self, statement: Executable, params: Params = None, *, page: int = 1, size: int, into: None = None
    ) -> Page[Row[Any]]: ...
    async def fetch_page(
        self, statement: Any, params: Params = None, *, page: int = 1, size: int, into: Any = None
    ) -> Any:
        """Returns the page with that number, of ``size`` rows, and how many rows there are in all.

        Two statements in one transaction: the count, and the rows by LIMIT and OFFSET, for which the server reads all
        that comes before. A page past the end is empty. Rows that come or go between two calls shift the pages;
        :meth:`fetch_keyset` has neither fault.

        - **shape**: ``into`` as in :meth:`fetch_all`;
        - **errors**: ``PageError`` for a number or size below 1, for a statement without ORDER BY or with a LIMIT of
          its own; else as :meth:`fetch_all`.
        """
        _require_size(size)
        if page < 1:
            raise PageError(f"pages are counted from 1, and {page} was asked for")
        require_order(statement)
        # As a column of a subquery DISTINCT and GROUP BY count right, and what else is selected is not computed.
        counted = select(func.count()).select_from(statement.order_by(None).subquery())
        async with self._session_for_statement() as session:
            total = (await session.execute(counted, params)).scalar_one()
            # Not even asked for where there is nothing: OFFSET would read all rows to find none.
            rows = (
                (await session.execute(statement.limit(size).offset((page - 1) * size), params)).all()
                if (page - 1) * size < total
                else []
            )
        return Page(_items(rows, into, self._alias), total, page, size)

    @overload
    async def fetch_keyset(
        self,
        statement: Executable,
        params: Params = None,
        *,
        cursor: str | None = None,
        size: int,
        into: type[dict[Any, Any]],
    ) -> KeysetPage[dict[str, Any]]: ...
    @overload
    async def fetch_keyset(
        self, statement: Executable, params: Params = None, *, cursor: str | None = None, size: int, into: type[T]
    ) -> KeysetPage[T]: ...
    @overload
    async def fetch_keyset(  # type: ignore[overload-overlap]  # typed columns come before untyped ones
        self,
        statement: TypedReturnsRows[*Ts],
        params: Params = None,
        *,
        cursor: str | None = None,
        size: int,
        into: None = None,
    ) -> KeysetPage[Row[*Ts]]: ...
    @overload
    async def fetch_keyset(
        self, statement: Executable, params: Params = None, *, cursor: str | None = None, size: int, into: None = None
    ) -> KeysetPage[Row[Any]]: ...
    async def fetch_keyset(
        self, statement: Any, params: Params = None, *, cursor: str | None = None, size: int, into: Any = None
    ) -> Any:
        """Returns ``size`` rows from where ``cursor`` stands, and the cursors of the pages after and before.

        Without a cursor it is the first page. One statement, which an index on the order answers as fast for the last
        page as for the first; no row is lost or seen twice when others come or go. The order may mix ASC and DESC and
        hold NULLs, which come where the server has them or where ``nulls_first()`` and ``nulls_last()`` say, on every
        family. Its last keys must be unique: a primary key.

        A cursor is the values of the order's keys as text for a URL. It is no secret, and no proof: whoever has it can
        read them, and can make another.

        - **shape**: ``into`` as in :meth:`fetch_all`; the order is the statement's, also on the way back;
        - **errors**: ``InvalidCursor`` for what no page of this order gave; ``PageError`` for a size below 1, and for a
          statement that cannot be paged so: no order, rows alike in it, GROUP BY, a LIMIT of its own.
        """
        _require_size(size)
        async with self._session_for_statement() as session:
            dialect = session.get_bind().dialect
            keys = keys_of(statement, dialect)
            place = None if cursor is None else read_cursor(keys, cursor)
            backwards = place is not None and place.backwards
            paged = statement.add_columns(*(key.expression.label(f"{_KEY}{n}") for n, key in enumerate(keys)))
            paged = paged.order_by(None).order_by(
                *(by for key in keys for by in key.order(dialect, backwards=backwards))
            )
            if place is not None:
                paged = paged.where(beyond(keys, place))
            rows, places = await _read(session, paged.limit(size + 1), params, keys, from_outside=place is not None)
        _require_no_ties(keys, places)
        more = len(rows) > size
        rows, places = rows[:size], places[:size]
        if backwards:
            rows, places = rows[::-1], places[::-1]
        following, before = _around(places, place, more=more)
        return KeysetPage(
            _items(rows, into, self._alias),
            size,
            None if following is None else write_cursor(keys, following),
            None if before is None else write_cursor(keys, before),
        )


def _require_size(size: int) -> None:
    if size < 1:
        raise PageError(f"a page has at least 1 row, and {size} were asked for")


def _items(rows: Any, into: Any, alias: str) -> list[Any]:
    return list(rows) if into is None else convert(rows, into, alias)


async def _read(
    session: AsyncSession, statement: Select[Any], params: Params, keys: list[Key], *, from_outside: bool
) -> tuple[list[Row[Any]], list[tuple[Any, ...]]]:
    """The rows as the statement had them, and the keys of each."""
    try:
        result: Result[Any] = await session.execute(statement, params)
    except (StatementError, OverflowError) as error:
        if not from_outside or (isinstance(error, DBAPIError) and not isinstance(error, DataError)):
            raise
        raise InvalidCursor("the cursor has a value that its column cannot have") from error
    again = result.freeze()
    asked = len(again().keys()) - len(keys)
    rows = again().columns(*range(asked)).all()
    places = again().columns(*range(asked, asked + len(keys))).all()
    return list(rows), [tuple(row) for row in places]


def _require_no_ties(keys: list[Key], places: list[tuple[Any, ...]]) -> None:
    if any(first == second for first, second in pairwise(places)):
        raise PageError(
            "two rows are alike in the order: a join gives several rows for one primary key, so order by the primary "
            "key of the joined table as well",
        )


def _around(places: list[tuple[Any, ...]], start: Place | None, *, more: bool) -> tuple[Place | None, Place | None]:
    """Where the page after this one begins, and the page before."""
    backwards = start is not None and start.backwards
    if not places:
        # What was here is gone; the row that the cursor names, if it was not in this page, is on the other side.
        other = None if start is None else Place(start.values, backwards=not backwards, inclusive=not start.inclusive)
        return (other, None) if backwards else (None, other)
    following = Place(places[-1], backwards=False, inclusive=False) if more or backwards else None
    before = Place(places[0], backwards=True, inclusive=False) if (more if backwards else start is not None) else None
    return following, before
