"""The pytest plugin in a project of its own, as pytest loads it there."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.lean import LEAN

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
INSTALLED = any(one.name == "django_bridge" for one in entry_points(group="pytest11"))
SETTINGS = """
SECRET_KEY = "only for the tests"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_bridge"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "books", "TEST": {"NAME": "test_books"}}}
USE_TZ = True
"""
IMPORTS = """
import pytest
from sqlalchemy import text
from django.contrib.contenttypes.models import ContentType
from django_bridge import atomic, session
from django_bridge.errors import QueryBudgetExceeded

INSERT = text("INSERT INTO django_content_type (app_label, model) VALUES ('a', 'b')")

async def both(secret="x"):
    async with session() as db:
        await db.execute(text("SELECT 1 WHERE :value = 'x'"), {"value": secret})
    await ContentType.objects.filter(model=secret).aexists()
"""


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(tests, *arguments)``: a project with these tests, whose pytest runs in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    monkeypatch.delenv("ASYNC_DB_MODE", raising=False)
    pytester.makepyfile(project_settings=SETTINGS)

    def run_in(tests: str, *arguments: str, asyncio_mode: str | None = "auto") -> pytest.RunResult:
        ini = ["[pytest]", "DJANGO_SETTINGS_MODULE = project_settings", "filterwarnings = error"]
        if asyncio_mode is None:
            arguments += ("-p", "no:asyncio")
        else:
            ini += [f"asyncio_mode = {asyncio_mode}", "asyncio_default_fixture_loop_scope = function"]
        pytester.makeini("\n".join(ini))
        pytester.makepyfile(IMPORTS + tests)
        # In the order of the file, whatever shuffles tests here: what is printed is read line by line.
        return pytester.runpytest_subprocess(*LEAN, *plugin(), *arguments, timeout=60)

    return run_in


def plugin() -> list[str]:
    """The entry point needs an installed package; from a plain folder the plugin is named."""
    return [] if INSTALLED else ["-p", "django_bridge.pytest_plugin"]


WRITES = """
@pytest.fixture
def nothing_stays(transactional_db):
    yield
    assert ContentType.objects.filter(app_label="a").count() == 0

async def test_it(nothing_stays, async_session):
    await async_session.execute(INSERT)
    assert len(list(await async_session.scalars(text("SELECT id FROM django_content_type WHERE app_label='a'")))) == 1
    # here
"""


def test_what_the_session_wrote_is_rolled_back_without_an_error(run: Run) -> None:
    run(WRITES).assert_outcomes(passed=1)


def test_what_somebody_committed_on_it_would_be_seen(run: Run) -> None:
    """The other side of the test before: the project's fixture looks before the tables are emptied."""
    run(WRITES.replace("# here", "await async_session.commit()")).assert_outcomes(passed=1, errors=1)


def test_the_session_works_in_strict_mode_too(run: Run) -> None:
    marked = WRITES.replace("async def", "@pytest.mark.asyncio\nasync def")
    run(marked, asyncio_mode="strict").assert_outcomes(passed=1)


def test_anyio_runs_the_session_as_well(run: Run) -> None:
    pytest.importorskip("anyio")
    anyio = WRITES.replace("async def", "@pytest.mark.anyio\nasync def")
    anyio += "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    run(anyio, "-p", "anyio", asyncio_mode=None).assert_outcomes(passed=1)


def test_without_a_runner_the_session_says_what_is_missing(run: Run) -> None:
    result = run("def test_it(async_session): pass", "-p", "no:anyio", asyncio_mode=None)
    result.stdout.fnmatch_lines(["*async_session: install pytest-asyncio*"])


COUNTED = """
async def test_as_many(async_django_assert_num_queries, transactional_db):
    async with async_django_assert_num_queries(2) as spent:
        await both()
    assert [one.orm for one in spent.statements] == ["SQLAlchemy", "Django"]

async def test_no_more(async_django_assert_max_num_queries, transactional_db):
    async with async_django_assert_max_num_queries(3):
        await both()

async def test_of_one_alias(async_django_assert_num_queries, transactional_db):
    from django.db import connection
    async with async_django_assert_num_queries(1, connection=connection):
        await ContentType.objects.acount()
    with pytest.raises(ValueError, match="not both"):
        async_django_assert_num_queries(1, connection=connection, using="default")

def test_in_sync_code(async_django_assert_num_queries, db):
    with async_django_assert_num_queries(1, using="default"):
        ContentType.objects.count()
"""


def test_the_queries_of_both_orms_are_counted(run: Run) -> None:
    run(COUNTED).assert_outcomes(passed=4)


EXCEEDED = """
async def test_fewer(async_django_assert_num_queries, transactional_db):
    async with async_django_assert_num_queries(3):
        await both()

async def test_too_many(async_django_assert_max_num_queries, transactional_db):
    async with async_django_assert_max_num_queries(1, info="for one shelf"):
        await both("hid" + "den")
"""


def test_a_count_that_does_not_fit_fails_and_prints_the_sql_of_both_orms(run: Run) -> None:
    result = run(EXCEEDED)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E * 2 queries on 'default', exactly 3 expected",
            "E * 2 queries on 'default', at most 1 expected: *",
            "E * for one shelf",
            "E * 1. SQLAlchemy, 'default': SELECT 1 WHERE ? = 'x'",
            "E * 2. Django, 'default': SELECT %s*django_content_type*",
        ]
    )
    result.stdout.no_fnmatch_line("*hidden*")


UNITTEST = """
from django_bridge.test import TestCase, TransactionTestCase, query_budget

class Counts:
    def test_sync(self):
        with self.assertNumQueriesOfBoth(1):
            ContentType.objects.count()

    async def test_both(self):
        async with self.assertNumQueriesOfBoth(10) as spent:
            await both()
            async with session() as db:
                await db.execute(INSERT)
                await db.commit()
            async with atomic() as db:
                await db.execute(text("SELECT 1"))
                async with atomic():
                    await ContentType.objects.acount()
                    async with db.begin_nested():
                        await db.execute(text("SELECT 2"))
        self.assertEqual(
            [(one.orm, one.sql.split()[0]) for one in spent.statements],
            [("SQLAlchemy", "SELECT"), ("Django", "SELECT"), ("SQLAlchemy", "INSERT"), ("SQLAlchemy", "SELECT"),
             ("SQLAlchemy", "SAVEPOINT"), ("Django", "SELECT"),
             ("SQLAlchemy", "SAVEPOINT"), ("SQLAlchemy", "SELECT"), ("SQLAlchemy", "RELEASE"),
             ("SQLAlchemy", "RELEASE")],
        )

    async def test_too_many(self):
        with self.assertRaisesMessage(self.failureException, "2 queries on 'default', exactly 1 expected"):
            async with self.assertNumQueriesOfBoth(1):
                await both()

class Joined(Counts, TestCase):
    pass

class OnThePool(Counts, TransactionTestCase):
    pass
"""


def test_the_test_cases_count_the_same_in_a_joined_test_and_on_the_pool(run: Run) -> None:
    run(UNITTEST).assert_outcomes(passed=6)


def test_a_project_without_django_notices_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    pytester.makepyfile(
        "import sys\n\n\ndef test_nothing_is_imported():\n"
        "    assert 'django_bridge.pytest_plugin' in sys.modules\n"
        "    assert not {'django', 'sqlalchemy', 'asyncdb', 'asgiref'} & set(sys.modules)\n"
    )
    # Other plugins import what they like: pytest-randomly has factory_boy, which imports Django.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess(*LEAN, "-p", "django_bridge.pytest_plugin", "-W", "error", timeout=60)
    result.assert_outcomes(passed=1)


def test_the_plugin_is_an_entry_point() -> None:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert declared == {"pytest11": {"django_bridge": "django_bridge.pytest_plugin"}}
