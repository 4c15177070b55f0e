"""The separate project, and how its tests are run as processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

from asyncdb.testing import DatabaseServer, MySQLServer, RunningMySQLServer
from tests.lean import LEAN

collect_ignore = ["project"]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = Path(__file__).resolve().parent / "project"
SECONDS = 110.0
"""For one run; a test of ours has 120."""
PLUGIN = "django_bridge.pytest_plugin"
_OURS = ("COVERAGE", "DJANGO_SETTINGS_MODULE", "PYTEST", "PYTHONDEVMODE", "SHOP_", "JOIN_TESTS")
"""What the environment says to the outer run and not to the inner one; development mode is several times slower."""


@dataclass(frozen=True)
class Ran:
    """How one run of the project's tests has ended."""

    command: str
    code: int
    output: str

    @property
    def tests(self) -> int:
        """How many tests were run."""
        if unittests := re.findall(r"^Ran (\d+) tests?", self.output, re.MULTILINE):
            return int(unittests[-1])
        return sum(int(number) for number in re.findall(r"(\d+) (?:passed|failed|errors?)\b", self._last_line))

    @property
    def failures(self) -> list[str]:
        """The names of the tests that failed."""
        unittests = re.findall(r"^(?:FAIL|ERROR): (\S+) \(([\w.]+)", self.output, re.MULTILINE)
        ours = re.findall(r"^(?:FAILED|ERROR) ([^\s(]\S*)", self.output, re.MULTILINE)
        return sorted({qualified for _, qualified in unittests} | set(ours))

    @property
    def _last_line(self) -> str:
        return self.output.rstrip().rpartition("\n")[2]

    def require_success(self, *, at_least: int) -> None:
        """Fails readably: what failed, the first report in full, and how it ended."""
        if self.code or self.failures:
            names = "\n  ".join(self.failures) or "(none by name)"
            pytest.fail(
                f"{self.command}\n  ended with {self.code}; failed:\n  {names}\n\n{self._report()}", pytrace=False
            )
        assert self.tests >= at_least, f"{self.command} ran {self.tests} tests only:\n{self._report()}"

    def _report(self) -> str:
        if len(self.output) < 12_000:
            return self.output
        return f"{self.output[:7_000]}\n   [...]\n{self.output[-5_000:]}"


@dataclass(frozen=True)
class Shop:
    """The project on one database."""

    url: str

    def test(self, *arguments: str, **environment: str) -> Ran:
        """``manage.py test``."""
        return self._run("manage.py", "test", "--noinput", *arguments, **environment)

    def pytest(self, *arguments: str, **environment: str) -> Ran:
        """pytest, with the plugin that an installed distribution announces by itself."""
        announced = any(point.value.startswith(PLUGIN) for point in entry_points(group="pytest11"))
        plugin = [] if announced or find_spec(PLUGIN) is None else ["-p", PLUGIN]
        return self._run("-m", "pytest", *LEAN, "-q", "-p", "no:cacheprovider", *plugin, *arguments, **environment)

    def _run(self, *arguments: str, **environment: str) -> Ran:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
        settings = {"DJANGO_SETTINGS_MODULE": "bookshop.settings", "SHOP_DATABASE_URL": self.url, "PYTHONPATH": path}
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env={**kept, **settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        said = " ".join([*(f"{name}={value}" for name, value in environment.items()), *arguments])
        try:
            output, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its workers as well
            output, _ = process.communicate()
            return Ran(said, 124, f"{output}\nkilled after {SECONDS:g} s")
        return Ran(said, process.returncode, output)


@pytest.fixture
def shop(family: str, server: DatabaseServer | None, server_url: str, tmp_path: Path) -> Iterator[Shop]:
    """The project on the family under test; it leaves no test database on the server."""
    url = server_url
    if isinstance(server, MySQLServer | RunningMySQLServer):  # without TLS a login has to know the server's key
        key = tmp_path / "server_key.pem"
        key.write_text(server.public_key())
        url += f"?server_public_key_path={quote(str(key))}"
    yield Shop(url)
    if server is None:
        return
    name = server_url.rpartition("/")[2]
    listing = "SHOW DATABASES" if family != "postgresql" else "SELECT datname FROM pg_database"
    left = [found for (found,) in server.execute(listing) if found and found.startswith(f"test_{name}")]
    for found in left:
        server.drop_database(found)
    assert left == [], "a run could not drop its databases: somebody was connected still"


@pytest.fixture
def in_memory(family: str) -> Shop:
    """The project on SQLite in memory; for tests of that family alone."""
    return Shop("sqlite://")
