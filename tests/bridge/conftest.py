"""A Django project in which every test may say its own settings."""

from __future__ import annotations

import asyncio
import contextvars
import os
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.bridge.settings")
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402
from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import override_settings  # noqa: E402
from sqlalchemy import make_url  # noqa: E402

from asyncdb import registry  # noqa: E402
from asyncdb.testing import DatabaseServer  # noqa: E402
from django_bridge import database, run_django  # noqa: E402
from django_bridge.conf import process_mode  # noqa: E402

Project = Callable[..., None]


@pytest.fixture(autouse=True)
def _may_ask_the_database(django_db_blocker: Any) -> Iterator[None]:
    """Tests that are run by their file's name stand behind pytest-django's blocker, which stops every door."""
    with django_db_blocker.unblock():
        yield


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
def bridged_now(
    family: str, server_url: str, default: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """``bridged(async_db=…, OPTIONS=…)``: ``DATABASES["default"]`` is a fresh database of the family under test."""
    url = make_url(server_url)

    def use(**options: Any) -> None:
        place = {"HOST": url.host or "", "PORT": url.port or "", "USER": url.username or "", "NAME": url.database}
        default(
            "mysql" if family in {"mariadb", "mysql"} else family,
            **{"PASSWORD": url.password or "", **place, **options},
        )
        # Django's own connections go there too: those of plain threads, and all of them with ASYNC_DB_MODE=threads.
        monkeypatch.setitem(vars(connections), "settings", connections.configure_settings(settings.DATABASES))

    forget_connections()
    use()
    yield use
    # This thread has one outside of its loops where somebody has taken the ``repr`` of a queryset there, as asyncio's
    # Runner does of a fixture's result when it asks for the handler of SIGINT.
    forget_connections()


@pytest.fixture
async def bridged(bridged_now: Callable[..., None], django_db_blocker: Any) -> AsyncIterator[Callable[..., None]]:
    """The same for async tests, which may ask the database, and whose pools and connections are closed afterwards."""
    with django_db_blocker.unblock():
        await _forget_connections()
        try:
            yield bridged_now
        finally:
            await registry.close_all()
            await _forget_connections()


async def _forget_connections() -> None:
    await sync_to_async(forget_connections)()
    forget_connections()


def forget_connections() -> None:
    """Closes Django's own connections of this thread, and lets it make new ones."""
    for alias in connections:
        if hasattr(connections._connections, alias):
            with suppress(Exception):
                connections[alias].close()
            del connections[alias]


@pytest.fixture
async def migrated(bridged: Any, django_db_blocker: Any) -> AsyncIterator[Any]:
    with django_db_blocker.unblock():
        await run_django(call_command, "migrate", "contenttypes", verbosity=0, interactive=False)
        yield bridged


# The ORM on the loop, and Django's own connections beside it, on the same fresh database


class Shop:
    """A project with tables: ``models`` are those of ``tests.bridge.shelf``."""

    def __init__(self, family: str, models: Any, configure: Callable[..., None]) -> None:
        self.family = family
        self.models = models
        self.configure = configure
        self.on_server = family != "sqlite"

    async def create(self, *models: Any) -> None:
        """Creates the tables of these models, on the loop, in no scope but its own: SQLite's is dirty afterwards."""

        await asyncio.create_task(run_django(self.create_now, *models), context=contextvars.Context())

    @staticmethod
    def create_now(*models: Any) -> None:
        """Creates the tables of these models."""
        with connections["default"].schema_editor() as editor:
            for model in models:
                editor.create_model(model)

    @staticmethod
    def checked_out(alias: str = "default") -> int:
        """Connections that the pool misses now."""
        return database(alias).stats().checked_out

    @staticmethod
    def in_plain_thread(function: Callable[..., Any], *args: Any) -> Any:
        """Calls ``function`` in a thread that knows of no scope, on Django's own connection, and waits for it."""

        def call() -> Any:
            try:
                return function(*args)
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as threads:
            return threads.submit(contextvars.Context().run, call).result(30)


@pytest.fixture
async def shop(
    family: str,
    bridged: Callable[..., None],
    project: Project,
    django_db_blocker: Any,
) -> AsyncIterator[Shop]:
    """A fresh database without tables, which the bridge and Django's own connections reach; nothing kept afterwards."""
    from django.contrib.contenttypes.models import ContentType

    project(
        INSTALLED_APPS=[*settings.INSTALLED_APPS, "django.contrib.sessions", "tests.bridge.shelf"],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    )
    ContentType.objects.clear_cache()
    with django_db_blocker.unblock():
        made = Shop(family, apps.get_app_config("shelf").models_module, bridged)
        yield made
        if process_mode() == "native":
            assert made.checked_out() == 0, "the test kept a connection"


@pytest.fixture
def sync_shop(
    family: str,
    bridged_now: Callable[..., None],
    project: Project,
    django_db_blocker: Any,
) -> Iterator[Shop]:
    """The same for sync tests: the tables of ``tests.bridge.joining`` are there, made on Django's own connections."""
    from tests.bridge.joining import TABLES

    project(INSTALLED_APPS=[*settings.INSTALLED_APPS, "tests.bridge.shelf"])
    made = Shop(family, apps.get_app_config("shelf").models_module, bridged_now)
    with django_db_blocker.unblock():
        made.in_plain_thread(made.create_now, *(getattr(made.models, name) for name in TABLES))
        forget_connections()
        try:
            yield made
            for wrapper in connections.all(initialized_only=True):
                assert not wrapper.atomic_blocks, "the test left a block open"
                assert not wrapper.execute_wrappers, "the test left an execute wrapper"
        finally:
            forget_connections()


# The kill switch


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "native_only(reason): tests nativeness itself; not with ASYNC_DB_MODE=threads")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if process_mode() == "native":
        return
    left_out = [item for item in items if (marker := item.get_closest_marker("native_only")) and marker.args[0]]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
async def tx(bridged: Any, django_db_blocker: Any) -> AsyncIterator[Any]:
    """A database with the table of ``tests.bridge.shared``, to which nobody holds a connection afterwards."""
    from django_bridge import database
    from tests.bridge.shared import create_table

    with django_db_blocker.unblock():
        await create_table()
        yield bridged
        assert database().stats().checked_out == 0


# Two databases of one server


@pytest.fixture
def second_name(server: DatabaseServer | None, database_name: str, tmp_path: Path) -> Iterator[str]:
    """A second fresh database beside the test's own."""
    if server is None:
        yield str(tmp_path / "second.sqlite3")
        return
    name = f"{database_name}_second"
    server.create_database(name)
    try:
        yield name
    finally:
        server.drop_database(name)


@pytest.fixture
async def two(
    second_name: str, bridged: Any, project: Project, monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any
) -> AsyncIterator[Callable[..., None]]:
    """``two(other={"ATOMIC_REQUESTS": True}, ASYNC_DB=…)``: ``default`` and ``other``, two databases of one server.

    Both have the table of ``tests.bridge.shared``, and nobody holds a connection to either afterwards.
    """
    from tests.bridge.shared import create_table

    first = dict(settings.DATABASES["default"])

    def use(*, default: dict[str, Any] | None = None, other: dict[str, Any] | None = None, **more: Any) -> None:
        second = {**first, "NAME": second_name}
        project(DATABASES={"default": {**first, **(default or {})}, "other": {**second, **(other or {})}}, **more)
        monkeypatch.setitem(vars(connections), "settings", connections.configure_settings(settings.DATABASES))

    use()
    with django_db_blocker.unblock():
        for alias in ("default", "other"):
            await create_table(alias)
        yield use
        assert [database(alias).stats().checked_out for alias in ("default", "other")] == [0, 0]
