"""A Django project in which every test may say its own settings."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.bridge.settings")
django.setup()

from django.test import override_settings

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
