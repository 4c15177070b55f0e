"""Kind 9: what a user's own tests start joins them, is refused by name, or is forbidden; nothing goes beside them.

The project ``users_tests`` has tests as teams write them. Its ``plain`` ones pass without the bridge, and with it
unchanged; those of ``bridged`` go through each of the bridge's doors. Its real database is never made, so that nothing
can touch it: where it is asked for, there is an error, and for SQLite a file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lean import LEAN

PROJECT = Path(__file__).resolve().parent / "users_tests"
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 100.0
_OURS = ("COVERAGE", "DJANGO_SETTINGS_MODULE", "PYTEST", "PYTHONDEVMODE", "USERS_", "STOCK", "SYNC_MIDDLEWARE")


@dataclass(frozen=True)
class Ran:
    """One run of the project's tests: each with what went wrong, if anything did."""

    code: int
    output: str
    cases: dict[str, str | None]

    def require(self, part: str, *, at_least: int) -> None:
        """Fails unless all cases whose name has ``part`` passed, and so many were run."""
        mine = {name: problem for name, problem in self.cases.items() if part in name}
        failed = {name: problem for name, problem in mine.items() if problem is not None}
        if failed:
            pytest.fail("\n\n".join(f"{name}\n{problem}" for name, problem in failed.items())[:12_000], pytrace=False)
        assert len(mine) >= at_least, f"{sorted(mine)} of {part!r} were run alone:\n{self.output[-6000:]}"


def run(url: str, *arguments: str, report: Path | None = None, **environment: str) -> Ran:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env={
            **kept,
            "DJANGO_SETTINGS_MODULE": "users_settings",
            "USERS_DATABASE_URL": url,
            "PYTHONPATH": path,
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"{arguments} was killed after {SECONDS:g} s\n{output[-6000:]}", pytrace=False)
    cases = _cases(report) if report is not None and report.exists() else {}
    return Ran(process.returncode, output, cases)


def _cases(report: Path) -> dict[str, str | None]:
    cases: dict[str, str | None] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        problems = [
            f"{child.get('message')}\n{child.text}" for child in case if child.tag in ("failure", "error", "skipped")
        ]
        cases[f"{case.get('classname')}.{case.get('name')}"] = "\n".join(problems) or None
    return cases


def by_pytest(url: str, tmp_path: Path, *arguments: str, **environment: str) -> Ran:
    report = tmp_path / "report.xml"
    options = [*LEAN, "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    return run(url, "-m", "pytest", *options, *arguments, report=report, **environment)


# The whole of a project's tests, in a process for each family: PostgreSQL's and SQLite's say what MariaDB's would.
pytestmark = pytest.mark.verify("mariadb")


@pytest.fixture(scope="module")
def runs() -> dict[tuple[str, ...], Ran]:
    return {}


@pytest.fixture
def url(family: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a database that is not there: the tests' own has ``test`` in its name."""
    if family == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('users')}/real.sqlite3"
    server: Any = request.getfixturevalue("server")
    address: str = server.url("users_real")
    return address


@pytest.fixture
def ran(family: str, url: str, runs: dict[tuple[str, ...], Ran], tmp_path: Path, request: Any) -> Ran:
    """All of the project's tests on the family under test, in one process for all of the tests here."""
    if (family,) not in runs:
        runs[family,] = by_pytest(url, tmp_path)
        _require_untouched(family, url, request)
    return runs[family,]


def _require_untouched(family: str, url: str, request: Any) -> None:
    if family == "sqlite":
        assert not Path(url.removeprefix("sqlite:///")).exists(), "the real database was touched"
        return
    server: Any = request.getfixturevalue("server")
    listing = "SELECT datname FROM pg_database" if family == "postgresql" else "SHOW DATABASES"
    left = [name for (name,) in server.execute(listing) if name and name.endswith("users_real")]
    assert left == [], "the real database was made, or the tests' one could not be dropped"


def test_the_whole_of_the_projects_tests_pass_with_the_bridge(ran: Ran) -> None:
    ran.require("", at_least=100)
    assert ran.code == 0, ran.output[-6000:]


def test_a_task_with_an_empty_context_joins_a_test_case_by_every_door(ran: Ran) -> None:
    ran.require("test_cases.JoinsTest", at_least=8)
    ran.require("test_cases.BothAliasesTest", at_least=1)


def test_it_joins_a_test_of_pytest_djangos_db(ran: Ran) -> None:
    ran.require("test_pytests.test_a_task_with_an_empty_context_joins_by_every_door", at_least=1)
    ran.require("test_pytests.test_tasks_at_once_lose_nothing", at_least=1)
    ran.require("test_pytests.test_what_it_wrote_is_gone_again", at_least=1)
    ran.require("test_pytests.test_the_session_of_the_fixture", at_least=1)


def test_consumers_and_djangos_application_join_by_channels_communicators(ran: Ran) -> None:
    ran.require("test_communicators.CommunicatorTest", at_least=5)
    ran.require("test_consumers.ConsumerTest", at_least=3)
    ran.require("test_pytests.test_a_consumer_joins", at_least=2)
    ran.require("test_pytests.test_djangos_application_joins", at_least=2)


def test_a_loop_on_the_tests_own_thread_joins(ran: Ran) -> None:
    ran.require("test_a_loop_on_the_tests_own_thread_joins", at_least=2)


def test_an_event_loop_in_another_thread_is_refused_by_every_door(ran: Ran) -> None:
    ran.require("test_cases.RefusedTest", at_least=3)
    ran.require("test_pytests.test_an_event_loop_in_another_thread_is_refused", at_least=6)
    ran.require("test_pytests.test_so_is_one_in_an_executor_of_the_loop", at_least=1)


def test_every_door_is_stopped_without_the_mark(ran: Ran) -> None:
    ran.require("_without_the_mark", at_least=50)


def test_every_door_is_stopped_in_a_simple_test_case_and_for_aliases_left_out(ran: Ran) -> None:
    ran.require("ForbiddenTest", at_least=2)
    ran.require("OfOneAlias", at_least=3)


def test_in_tests_that_commit_nothing_joins_and_everything_works(ran: Ran) -> None:
    ran.require("Committed", at_least=6)
    ran.require("CommittedOnThePoolTest", at_least=2)
    ran.require("test_pytests.test_each_door_commits", at_least=1)


def test_a_task_that_outlives_tests_is_in_each_as_that_is(ran: Ran) -> None:
    ran.require("TestOneLoop", at_least=6)


@pytest.mark.verify("mariadb", "postgresql", "mysql")
def test_the_plain_tests_pass_without_the_bridge_too(family: str, url: str, tmp_path: Path) -> None:
    stock = by_pytest(url, tmp_path, "plain", STOCK="1")
    assert stock.code == 0, stock.output[-6000:]
    stock.require("CommunicatorTest", at_least=5)


def test_djangos_runner_says_the_same_on_a_database_in_memory() -> None:
    by_django = run("sqlite://", "manage.py", "test", "--noinput", "bridged.test_cases")
    assert by_django.code == 0, by_django.output[-6000:]
    assert "Ran 21 tests" in by_django.output


def test_requests_beneath_sync_middleware_join_too(tmp_path: Path) -> None:
    ran = by_pytest(
        f"sqlite:///{tmp_path}/real.sqlite3",
        tmp_path,
        "-k",
        "djangos_application_joins",
        "bridged",
        SYNC_MIDDLEWARE="1",
    )
    assert ran.code == 0, ran.output[-6000:]
    ran.require("djangos_application", at_least=3)


@pytest.mark.verify
def test_the_whole_of_them_pass_with_pytest_on_a_database_in_memory(tmp_path: Path) -> None:
    ran = by_pytest("sqlite://", tmp_path)
    assert ran.code == 0, ran.output[-6000:]
