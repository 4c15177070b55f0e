"""drift: a hooked function of Django that differs from the one that was read is named, and no other is."""

from __future__ import annotations

import functools
import importlib
import json
import linecache
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType
from typing import Any

import asgiref
import django
import pytest
from django.db.models import QuerySet, base, query
from django.db.models.query_utils import DeferredAttribute
from django.dispatch import dispatcher
from django.test import SimpleTestCase

from django_bridge import drift, lazy

ENGINES = ("mysql", "postgresql", "sqlite3")


@pytest.fixture(autouse=True)
def _every_backend(project: Any) -> None:
    """The hooks of all backends whose drivers are installed are looked at."""
    project(DATABASES={"default": {}, **{name: {"ENGINE": f"django.db.backends.{name}"} for name in ENGINES}})


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of drift.json that the test may write."""
    copy = tmp_path / "drift.json"
    shutil.copyfile(drift.TABLE, copy)
    monkeypatch.setattr(drift, "TABLE", copy)
    return copy


def functions(table: Path) -> Any:
    return json.loads(table.read_text())["Django {}.{}".format(*django.VERSION)]["functions"]


def test_no_function_of_the_installed_django_has_drifted() -> None:
    assert drift.changed() == []


def test_asgirefs_thread_for_all_loops_is_the_executor_that_was_read() -> None:
    """``ExecutorByThread`` stands in its place; which function asks it, ``SyncToAsync.__call__`` above tells."""
    from asgiref.sync import SyncToAsync

    installed = SyncToAsync.single_thread_executor
    asgirefs = getattr(installed, "_asgirefs", installed)
    assert (type(asgirefs), asgirefs._max_workers) == (ThreadPoolExecutor, 1)


def test_drift_is_not_seen_in_what_lazy_loading_puts_in_place() -> None:
    before = bool(lazy._replaced)
    lazy.install()
    try:
        assert drift.changed() == []
    finally:
        if not before:
            lazy.uninstall()


def test_drift_is_not_seen_in_what_forbids_the_database_in_tests() -> None:
    class Tests(SimpleTestCase):
        """Without a database."""

    Tests.setUpClass()
    try:
        assert drift.changed() == []
    finally:
        Tests.doClassCleanups()


@pytest.mark.parametrize("engine", ENGINES)
def test_drift_of_every_backend_is_looked_for(engine: str) -> None:
    module = f"django.db.backends.{engine}.base"
    importlib.import_module(module)
    found, unknown = drift._found()
    assert module not in unknown
    assert any(name.startswith(f"{module}.DatabaseWrapper.") for name in found)


def test_drift_of_a_method_that_was_replaced_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def aget(self: Any) -> None:
        """Another one."""

    monkeypatch.setattr(QuerySet, "aget", aget)
    assert drift.changed() == ["django.db.models.query.QuerySet.aget"]


def test_drift_of_a_function_that_was_replaced_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.utils import asyncio

    def async_unsafe(message: Any) -> Any:
        return message

    monkeypatch.setattr(asyncio, "async_unsafe", async_unsafe)
    assert drift.changed() == ["django.utils.asyncio.async_unsafe"]


def test_drift_is_not_seen_in_a_wrapper_that_leads_to_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    original = dispatcher.Signal.send

    @functools.wraps(original)
    def traced(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    monkeypatch.setattr(dispatcher.Signal, "send", traced)
    assert drift.changed() == []


@pytest.mark.parametrize(
    ("function", "inside", "named"),
    [
        (base.Model.asave, 1, "django.db.models.base.Model.asave"),
        (DeferredAttribute._check_parent_chain, -2, "django.db.models.query_utils.DeferredAttribute.__get__"),
    ],
)
def test_drift_of_a_source_that_reads_otherwise_is_named(
    function: Any, inside: int, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = function.__code__
    lines = list(linecache.getlines(code.co_filename))
    lines[code.co_firstlineno - 1 + inside] = lines[code.co_firstlineno - 1 + inside].rstrip() + "  # changed\n"
    size, time, _, path = linecache.cache[code.co_filename]  # type: ignore[misc]
    monkeypatch.setitem(linecache.cache, code.co_filename, (size, time, lines, path))
    assert drift.changed() == [named]


def test_drift_of_a_function_inside_a_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db.models.fields import related_descriptors

    source = related_descriptors.__file__
    lines = [
        line.replace("sync_to_async(self.aclear)", "").replace("self.clear)(bulk", "self.clear)(bulk ")
        for line in linecache.getlines(source)
    ]
    size, time, _, path = linecache.cache[source]  # type: ignore[misc]
    monkeypatch.setitem(linecache.cache, source, (size, time, lines, path))
    place = "django.db.models.fields.related_descriptors.create_reverse_many_to_one_manager.RelatedManager"
    assert drift.changed() == [f"{place}.aclear"]


def test_drift_names_a_function_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(query.QuerySet, "acount")
    assert drift.changed() == ["django.db.models.query.QuerySet.acount"]


def test_drift_names_a_new_caller_of_sync_to_async(monkeypatch: pytest.MonkeyPatch) -> None:
    async def anew(self: Any) -> Any:
        return await sync_to_async(self.get)()  # noqa: F821

    of_django = FunctionType(anew.__code__, vars(query), "anew")
    monkeypatch.setattr(QuerySet, "anew", of_django, raising=False)
    assert drift.changed() == ["django.db.models.query.QuerySet.anew"]


def test_drift_is_not_seen_in_a_method_that_a_package_adds_with_its_own_sync_to_async(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def anew(self: Any) -> Any:
        return await sync_to_async(self.get)()  # noqa: F821

    monkeypatch.setattr(QuerySet, "anew", anew, raising=False)
    assert drift.changed() == []


def test_drift_without_the_source_is_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(linecache.cache, base.__file__, (0, None, [], base.__file__))
    assert drift.changed() == [
        f"django.db.models.base.Model.{name}" for name in ("adelete", "arefresh_from_db", "asave")
    ]


def test_drift_of_a_django_line_that_was_never_read_names_every_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django, "__version__", "6.2")
    names = drift.changed()
    assert "django.db.models.query.QuerySet.aget" in names
    assert not any(name.startswith("asgiref.") for name in names)


def test_drift_of_an_asgiref_that_was_never_read_is_judged_by_those_that_were(
    monkeypatch: pytest.MonkeyPatch, table: Path
) -> None:
    monkeypatch.setattr(asgiref, "__version__", "3.99.0")
    assert drift.changed() == []
    table.write_text(table.read_text().replace('"asgiref.sync.SyncToAsync.thread_handler"', '"asgiref.sync.other"'))
    assert drift.changed() == ["asgiref.sync.SyncToAsync.thread_handler", "asgiref.sync.other"]


def test_drift_that_was_read_is_accepted_and_with_keep_the_old_as_well(
    monkeypatch: pytest.MonkeyPatch, table: Path
) -> None:
    name = "django.db.models.query.QuerySet.aget"
    before = functions(table)

    async def aget(self: Any) -> Any:
        return await sync_to_async(self.get)()  # noqa: F821

    with monkeypatch.context() as patched:
        patched.setattr(QuerySet, "aget", FunctionType(aget.__code__, vars(query), "aget"))
        assert drift.changed() == [name]
        drift.read_again(keep=True)
        assert drift.changed() == []
    assert drift.changed() == []
    after = functions(table)
    assert set(before[name]) < set(after.pop(name))
    assert after == {other: digests for other, digests in before.items() if other != name}
    drift.read_again()
    assert functions(table) == before


def test_drift_reads_only_the_lines_that_are_installed(table: Path) -> None:
    before = table.read_text()
    drift.read_again()
    assert table.read_text() == before


def test_drift_of_a_backend_that_is_not_in_use_is_nobodys(
    project: Any, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = functions(table)
    project(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3"}})
    monkeypatch.delitem(sys.modules, "django.db.backends.mysql.base", raising=False)
    assert drift.changed() == []
    drift.read_again()
    assert "django.db.backends.mysql.base.CursorWrapper.execute" in before
    assert functions(table) == before
