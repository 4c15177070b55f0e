"""A Django project in which every test may say its own settings."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.bridge.settings")
django.setup()

from django.test import override_settings  # noqa: E402
from sqlalchemy import make_url  # noqa: E402

from asyncdb import registry  # noqa: E402

Project = Callable[..., None]

ENGINES = {
    "mysql": "django.db.backends.mysql",
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}


@pytest.fixture
def project() -> Iterator[Project]:
    """``project(DATABASES=…, ASYNC_DB=…)``: these settings until the test ends."""
    with ExitStack() as overridden:

        def use(**settings: Any) -> None:
            with warnings.catch_warnings():
                # Django warns because its own connections keep the old DATABASES; ours follow.
                warnings.filterwarnings("ignore", message="Overriding setting DATABASES")
                overridden.enter_context(override_settings(**settings))

        yield use


@pytest.fixture
def default(project: Project) -> Callable[..., None]:
    """``default("mysql", OPTIONS=…)``: one database of that family, and nothing else."""

    def use(family: str, *, async_db: dict[str, Any] | None = None, **database: Any) -> None:
        engine = database.pop("ENGINE", ENGINES[family])
        settings = {"DATABASES": {"default": {"ENGINE": engine, "NAME": "books", **database}}}
        project(**settings, **({} if async_db is None else {"ASYNC_DB": {"default": async_db}}))

    return use


@pytest.fixture
def bridged_now(family: str, server_url: str, default: Callable[..., None]) -> Callable[..., None]:
    """``bridged(async_db=…, OPTIONS=…)``: ``DATABASES["default"]`` is a fresh database of the family under test."""
    url = make_url(server_url)

    def use(**settings: Any) -> None:
        place = {"HOST": url.host or "", "PORT": url.port or "", "USER": url.username or "", "NAME": url.database}
        default(
            "mysql" if family in {"mariadb", "mysql"} else family,
            **{"PASSWORD": url.password or "", **place, **settings},
        )

    use()
    return use


@pytest.fixture
async def bridged(bridged_now: Callable[..., None]) -> AsyncIterator[Callable[..., None]]:
    """The same for async tests, whose pools are closed afterwards."""
    yield bridged_now
    await registry.close_all()
