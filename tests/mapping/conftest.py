"""A project whose tables are made once for each family, and emptied after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.utils import ConnectionHandler
from django.test import override_settings

from asyncdb.testing import DatabaseServer
from tests.bridge.conftest import (  # noqa: F401  (fixtures)
    Shop,
    bridged,
    bridged_now,
    default,
    forget_connections,
    project,
)

APPS = ["django.contrib.postgres", "tests.mapping.shop"]
EMPTY = {
    "mysql": ("SET foreign_key_checks = 0", "SET foreign_key_checks = 1"),
    "postgresql": ("SELECT 1", "SELECT 1"),  # its keys are deferred
    "sqlite": ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"),
}

_installed = override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, *APPS])
with _installed:
    from tests.mapping.shop import models, postgres, relations, values
apps.clear_cache()


def at_once(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Runs async code on a loop and with pools of its own, in a sync test."""
    from tests.bridge.joining import on_its_own_loop

    return on_its_own_loop(work)


@pytest.fixture(scope="module", autouse=True)
def _installed_apps() -> Iterator[None]:
    # Not once for the folder: without an __init__.py that lasts for all tests there are.
    with _installed:
        yield
    apps.clear_cache()  # Django keeps what other models knew of these


class Databases:
    """The database of each family, with the tables in it."""

    def __init__(self, folder: Any) -> None:
        self._folder = folder
        self._names: dict[str, tuple[str, DatabaseServer | None]] = {}

    def name(self, family: str, server: DatabaseServer | None) -> str:
        if family not in self._names:
            name = str(self._folder / "mapping.sqlite3") if server is None else f"mapping_{family}"
            if server is not None:
                server.create_database(name)
                if family == "postgresql":
                    for extension in ("citext", "hstore"):
                        server.execute(f"CREATE EXTENSION {extension}", database=name)
            self._names[family] = name, server
        return self._names[family][0]

    def drop(self) -> None:
        for name, server in self._names.values():
            if server is not None:
                server.drop_database(name)


@pytest.fixture(scope="session")
def _databases(_servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    databases = Databases(tmp_path_factory.mktemp("mapping"))
    yield databases
    databases.drop()


@pytest.fixture
def database_name(family: str, server: DatabaseServer | None, _databases: Databases) -> str:
    """One database for all tests of a family; ``shop`` sees to it that nobody leaves anything."""
    return _databases.name(family, server)


class Warehouse(Shop):
    """The project of these tests: ``values``, ``relations`` and ``postgres`` are the modules of its models."""

    values = values
    relations = relations
    postgres = postgres


_made: set[str] = set()


def _tables(family: str) -> list[Any]:
    from django.contrib.contenttypes.models import ContentType

    made = [ContentType, *models.EVERYWHERE, *(models.POSTGRES if family == "postgresql" else [])]
    through = [field.remote_field.through for model in made for field in model._meta.local_many_to_many]
    return [*made, *(model for model in through if model._meta.auto_created)]


def _own_connection() -> Any:
    """Django's own connection to the database, beside the ones that the tests use."""
    return ConnectionHandler({"default": {**settings.DATABASES["default"]}})["default"]


def _make(family: str) -> None:
    if family in _made:
        return
    wrapper = _own_connection()
    try:
        with wrapper.schema_editor() as editor:
            for model in _tables(family):
                if not model._meta.auto_created:
                    editor.create_model(model)
    finally:
        wrapper.close()
    _made.add(family)


def _empty(family: str) -> None:
    wrapper = _own_connection()
    off, on = EMPTY[wrapper.vendor]
    try:
        with wrapper.cursor() as cursor:
            cursor.execute(off)
            wrapper.set_autocommit(False)  # one commit
            for model in _tables(family):
                cursor.execute(f"DELETE FROM {wrapper.ops.quote_name(model._meta.db_table)}")
            wrapper.commit()
            wrapper.set_autocommit(True)
            cursor.execute(on)
    finally:
        wrapper.close()


@pytest.fixture
async def shop(family: str, bridged: Callable[..., None], django_db_blocker: Any) -> AsyncIterator[Warehouse]:
    """The tables of all models, empty, which the bridge and Django's own connections reach."""
    with prepared(family, bridged, django_db_blocker) as made:
        yield made
        assert made.checked_out() == 0, "the test kept a connection"


@pytest.fixture
def sync_shop(family: str, bridged_now: Callable[..., None], django_db_blocker: Any) -> Iterator[Warehouse]:
    """The same for sync tests."""
    with prepared(family, bridged_now, django_db_blocker) as made:
        forget_connections()
        try:
            yield made
            for wrapper in connections.all(initialized_only=True):
                assert not wrapper.atomic_blocks, "the test left a block open"
        finally:
            forget_connections()


class prepared:  # noqa: N801  (a context manager)
    def __init__(self, family: str, configure: Callable[..., None], blocker: Any) -> None:
        self._family = family
        self._configure = configure
        self._blocker = blocker
        self._stack = ExitStack()

    def __enter__(self) -> Warehouse:
        from django.contrib.contenttypes.models import ContentType

        ContentType.objects.clear_cache()
        self._stack.enter_context(self._blocker.unblock())
        Shop.in_plain_thread(_make, self._family)
        self._stack.callback(Shop.in_plain_thread, _empty, self._family)
        return Warehouse(self._family, models, self._configure)

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)


# -- a value as it can be compared: with its type ----------------------------------------------------------------------


def exact(value: Any) -> Any:
    """A value with its type, the same for its parts; two of them are equal only if the types are."""
    if isinstance(value, list | tuple):
        return type(value).__name__, [exact(part) for part in value]
    if isinstance(value, dict):
        return type(value).__name__, {key: exact(part) for key, part in value.items()}
    if isinstance(value, memoryview):
        return "memoryview", bytes(value)
    if hasattr(value, "tzinfo"):
        return type(value).__name__, value, value.utcoffset(), str(value.tzinfo)
    if isinstance(value, float):
        return "float", repr(value)
    return type(value).__name__, value, str(value)


@pytest.fixture
def exactly() -> Callable[[Any], Any]:
    return exact


__all__ = ["at_once", "exact"]
