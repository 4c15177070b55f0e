"""The benchmarks in their quick form, in a process of its own: Django is configured for good there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path as FilePath

import pytest

from benchmarks.checks import ResultsDiffer, check_same_results
from benchmarks.paths.base import Path
from benchmarks.workloads import PointRead

pytestmark = [pytest.mark.acceptance]
_ROOT = FilePath(__file__).parents[2]


@pytest.mark.families("mariadb", "postgresql")
@pytest.mark.verify
def test_every_path_of_the_benchmarks_gives_identical_results(family, tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--family", family, "--json", str(figures)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDEVMODE"}  # several times slower
    done = subprocess.run(command, check=False, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads(figures.read_text())
    assert all(requests > 0 for requests in run["compared"].values())
    assert {each["path"] for each in run["measured"]} == set(run["configurations"])
    assert run["trips"]["our-session"] == {"W1": 1, "W2": 1, "W3": 1, "W4": 5}
    assert run["trips"]["django-native"]["W5"] == 5
    assert any("5 round trips" in verdict["text"] and verdict["met"] for verdict in run["promises"])
    assert all(each["connects"] == 0 for each in run["measured"] if each["path"] != "django")


async def test_a_path_with_another_result_is_found_out():
    class Right(Path):
        name = "right"

        def __init__(self):
            """Nowhere."""

        async def point(self, key):
            return (key, "Momo")

    class Wrong(Right):
        name = "wrong"

        async def point(self, key):
            return (str(key), "Momo")

    with pytest.raises(ResultsDiffer, match=r"right gives .* wrong gives"):
        await check_same_results(None, [Right(), Wrong()], PointRead(seed=1))
