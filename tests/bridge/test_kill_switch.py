"""``ASYNC_DB_MODE=threads`` and ``"mode": "threads"``: the same project through Django's own threads."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest, HttpResponse
from sqlalchemy import text

from asyncdb.errors import ConfigurationError
from django_bridge import conf, database, hooks, run_django, scope, session

from .hops import counted
from .site import SCOPED, get, site

ROOT = Path(__file__).parents[2]
OPTIONS = ["-q", "-rfEp", "-p", "no:cacheprovider", "-o", "strict_config=false"]
WARNING = ["-W", "ignore::pytest.PytestConfigWarning"]


def outcomes(families: str, **environment: str) -> tuple[Counter[str], list[str], str]:
    """Runs this suite: how many tests ended how, which did not pass, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/bridge", f"--ignore={__file__}", *OPTIONS, *WARNING],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FAMILIES": families, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    words = [line.split(" ")[:2] for line in done.stdout.splitlines()]
    found = [(how, name) for how, name, *_ in (word for word in words if len(word) == 2)]
    ended = [(how, name) for how, name in found if how in {"PASSED", "FAILED", "ERROR"} and "::" in name]
    return Counter(how for how, _ in ended), [name for how, name in ended if how != "PASSED"], done.stdout[-4000:]


@pytest.mark.verify  # which runs it on the servers too
@pytest.mark.timeout(600)
@pytest.mark.families("sqlite")
@pytest.mark.native_only("it starts the other mode itself")
def test_the_suite_of_the_bridge_passes_in_threads(family: str) -> None:
    """All but what is marked ``native_only``, each with its reason."""
    ended, others, printed = outcomes(family, ASYNC_DB_MODE="threads")
    assert not others, "\n".join([*others, printed])
    assert ended["PASSED"] > 200, printed


@pytest.mark.native_only("it starts processes itself")
def test_threads_are_really_used_there(tmp_path: Path) -> None:
    code = (
        "import os, asyncio, threading; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.bridge.settings';"
        "import django; django.setup();"
        "from django.db.models import query; from asgiref.sync import sync_to_async;"
        "from django_bridge import run_django, hooks;"
        "hooks.install();"
        "where = asyncio.run(run_django(threading.get_ident));"
        "print(query.sync_to_async is sync_to_async, where == threading.get_ident())"
    )
    for mode, expected in {"threads": "True False", "native": "False True", "": "False True"}.items():
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "ASYNC_DB_MODE": mode},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.strip() == expected, (mode, done.stderr)


@pytest.mark.parametrize("wrong", ["thread", "off", "NATIVE", "1", " threads"])
def test_a_wrong_mode_of_the_process_is_an_error_that_names_the_right_ones(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNC_DB_MODE", wrong)
    with pytest.raises(ConfigurationError) as caught:
        conf.process_mode()
    for word in ("ASYNC_DB_MODE", repr(wrong), "native", "threads"):
        assert word in str(caught.value)


def test_a_wrong_mode_ends_the_start_of_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import django; django.setup()"],
        cwd=ROOT,
        env={**os.environ, "ASYNC_DB_MODE": "sometimes", "DJANGO_SETTINGS_MODULE": "tests.bridge.settings"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "ASYNC_DB_MODE must be one of" in done.stderr
    assert "'sometimes'" in done.stderr


@pytest.mark.parametrize("wrong", ["thread", "", None, True, 1, ["threads"]])
def test_a_wrong_mode_of_an_alias_is_an_error_that_names_the_right_ones(
    wrong: Any, default: Any, tmp_path: Path
) -> None:
    default("sqlite", NAME=tmp_path / "a", async_db={"mode": wrong})
    with pytest.raises(ConfigurationError) as caught:
        conf.bridge_for("default")
    for word in ("ASYNC_DB['default']['mode']", "'native'", "'threads'"):
        assert word in str(caught.value)


# One alias


@pytest.fixture
async def rows(shop: Any) -> Any:
    """The table of an alias that stays in threads."""
    await shop.create(shop.models.Row, shop.models.Named)
    shop.configure(async_db={"mode": "threads"})
    return shop.models.Row.objects


@pytest.mark.native_only("it tells the two modes apart")
async def test_an_alias_in_threads_goes_to_threads_and_takes_nothing_of_the_pool(shop: Any, rows: Any) -> None:
    async with scope():
        with counted() as hops:
            await rows.acreate(number=1)
            assert await rows.acount() == 1
        assert hops
        assert shop.checked_out() == 0
    assert shop.in_plain_thread(rows.count) == 1
    assert database().stats().idle == 0


async def test_an_alias_in_threads_behaves_as_under_django(shop: Any, rows: Any) -> None:
    named = shop.models.Named.objects

    def work() -> int:
        with transaction.atomic():
            rows.create(number=1)
            transaction.set_rollback(True)
        with transaction.atomic():
            rows.create(number=2)
        with connection.cursor() as cursor:
            cursor.execute("SELECT number FROM shelf_row")
            assert [tuple(row) for row in cursor.fetchall()] == [(2,)]
        return int(rows.count())

    for inside in (False, True):
        async with scope() if inside else asyncio.timeout(60):
            assert await run_django(work) == 1
            assert [row.number async for row in rows.aiterator()] == [2]
            assert await sync_to_async(rows.count)() == 1
            await rows.all().adelete()
    await named.acreate(name="a")
    with pytest.raises(IntegrityError):
        await named.acreate(name="a")


async def test_commands_and_schema_editing_reach_an_alias_in_threads(shop: Any) -> None:
    shop.configure(async_db={"mode": "threads"})
    await run_django(call_command, "migrate", "contenttypes", verbosity=0)
    await shop.create(shop.models.Row)
    assert await shop.models.Row.objects.acount() == 0


async def test_sessions_of_an_alias_in_threads_are_still_the_pools(shop: Any, rows: Any) -> None:
    await rows.acreate(number=1)
    async with session() as db:
        assert await db.fetch_val(text("SELECT COUNT(*) FROM shelf_row"), into=int) == 1
    assert shop.checked_out() == 0


async def test_requests_of_an_alias_in_threads(shop: Any, rows: Any, project: Any) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        rows.create(number=1)
        return HttpResponse(str(rows.count()))

    async def async_view(request: HttpRequest) -> HttpResponse:
        await rows.acreate(number=1)
        return HttpResponse(str(await rows.acount()))

    site(project=project, middleware=[SCOPED], view=view, other=async_view)
    assert await get("/view") == (200, b"1")
    assert await get("/other") == (200, b"2")


@pytest.mark.native_only("it tells the two modes apart")
async def test_the_other_alias_stays_native(shop: Any, project: Any, tmp_path: Path) -> None:
    from django.conf import settings
    from django.db import connections

    other = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "other.sqlite3")}
    project(
        DATABASES={"default": dict(settings.DATABASES["default"]), "other": other},
        ASYNC_DB={"other": {"mode": "threads"}},
    )
    vars(connections)["settings"] = connections.configure_settings(settings.DATABASES)
    await shop.create(shop.models.Row)
    rows = shop.models.Row.objects

    def create() -> None:
        with connections["other"].schema_editor() as editor:
            editor.create_model(shop.models.Row)

    await sync_to_async(create)()
    async with scope():
        with counted() as hops:
            await rows.acreate(number=1)
        assert hops == []
        with counted() as hops:
            await rows.using("other").acreate(number=2)
        assert hops
        assert [row.number async for row in rows.all()] == [1]
        assert [row.number async for row in rows.using("other")] == [2]

    def both() -> tuple[int, int]:
        with transaction.atomic(), transaction.atomic(using="other"):
            rows.create(number=3)
            rows.using("other").create(number=4)
            transaction.set_rollback(True)
        return rows.count(), rows.using("other").count()

    assert await run_django(both) == (1, 2)
    await sync_to_async(connections.close_all)()


@pytest.mark.native_only("nothing is installed there")
async def test_uninstalling_and_installing_again_leaves_the_orm_as_it_was(shop: Any) -> None:
    await shop.create(shop.models.Row)
    for _ in range(3):
        hooks.uninstall()
        with counted() as hops:
            await shop.models.Row.objects.acount()
        assert hops
        hooks.install()
        with counted() as hops:
            await shop.models.Row.objects.acount()
        assert hops == []


async def test_auth_works_in_either_mode(shop: Any) -> None:
    from django.contrib.auth.models import Group, Permission
    from django.contrib.contenttypes.models import ContentType

    await shop.create(ContentType, Permission, Group, User)
    user = await User.objects.acreate_user("a", password="b")
    assert await user.acheck_password("b")
    assert not await user.ahas_perm("x.y")
