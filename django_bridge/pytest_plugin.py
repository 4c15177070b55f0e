"""The pytest plugin: async siblings of pytest-django's fixtures.

pytest loads it wherever the package is installed. Neither Django nor SQLAlchemy is imported before a fixture is asked
for, and nothing else needs to be installed until then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pytest

try:
    from pytest_asyncio import fixture as _asyncio_fixture
except ImportError:
    _asyncio_fixture = None  # type: ignore[assignment]  # the project does not use it

if TYPE_CHECKING:
    from asyncdb import Session

    from .budget import query_budget

_DB_OF_PYTEST_DJANGO = "_django_db_helper"
"""The fixture behind ``db`` and ``transactional_db`` (pytest-django 4.5 to 4.14, ``fixtures.py``)."""


# -- sessions ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def async_session(request: pytest.FixtureRequest) -> Session:
    """A session, as ``async with django_bridge.session()`` gives it, whose writes are rolled back after the test.

    For tests run by anyio on asyncio, or by pytest-asyncio. With pytest-django it brings the fixture ``db``, unless
    the test asks for ``transactional_db``.
    """
    plugins = request.config.pluginmanager
    if plugins.has_plugin("django"):
        request.getfixturevalue("db")
    if "anyio_backend" in request.fixturenames:
        session: Session = request.getfixturevalue("_async_session_of_anyio")
    elif _asyncio_fixture is not None and plugins.has_plugin("asyncio"):
        session = request.getfixturevalue("_async_session_of_pytest_asyncio")
    else:
        raise pytest.UsageError("async_session: install pytest-asyncio, or mark the test with pytest.mark.anyio")
    return session


@asynccontextmanager
async def _rolled_back() -> AsyncIterator[Session]:
    from . import session

    async with session() as db:
        try:
            yield db
        finally:
            await db.rollback()


@pytest.fixture
async def _async_session_of_anyio() -> AsyncIterator[Session]:
    async with _rolled_back() as db:
        yield db


if _asyncio_fixture is not None:

    @_asyncio_fixture
    async def _async_session_of_pytest_asyncio() -> AsyncIterator[Session]:
        async with _rolled_back() as db:
            yield db


# -- counting ----------------------------------------------------------------------------------------------------------


class AsyncDjangoAssertNumQueries(Protocol):
    """The type of ``async_django_assert_num_queries`` and ``async_django_assert_max_num_queries``."""

    def __call__(
        self, num: int, connection: Any = None, info: str | None = None, *, using: str | None = None
    ) -> query_budget:
        """``async with`` it, or ``with`` in sync code."""


def _assert_num_queries(
    num: int, connection: Any = None, info: str | None = None, *, using: str | None = None, exactly: bool
) -> query_budget:
    from django.db import DEFAULT_DB_ALIAS

    from . import query_budget

    if connection is not None and using is not None:
        raise ValueError("give either connection= or using=, not both")
    alias = using if connection is None else connection.alias
    return query_budget(num, using=alias or DEFAULT_DB_ALIAS, exactly=exactly, info=info)


@pytest.fixture
def async_django_assert_num_queries() -> AsyncDjangoAssertNumQueries:
    """Counts the queries of both ORMs in an ``async with`` block, which fails unless there are exactly as many."""
    return partial(_assert_num_queries, exactly=True)


@pytest.fixture
def async_django_assert_max_num_queries() -> AsyncDjangoAssertNumQueries:
    """Counts the queries of both ORMs in an ``async with`` block, which fails if there are more."""
    return partial(_assert_num_queries, exactly=False)


# -- lending the test's own connection ---------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Lends the connections on which pytest-django's ``db`` has begun a transaction to the loop of async tests.

    They have no sync caller beneath them whose connection they could join.
    """
    value = yield
    if fixturedef.argname == _DB_OF_PYTEST_DJANGO and _is_bridged():
        from django.db import connections

        from .lending import lent_to_the_loop

        lent = ExitStack()
        lent.enter_context(lent_to_the_loop(connections))
        fixturedef.addfinalizer(lent.close)
    return value


def _is_bridged() -> bool:
    from django.apps import apps

    return apps.is_installed(__package__ or "")
