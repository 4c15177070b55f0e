"""A few apps of Django's own test suite, as Django is and on the loop; ``make conformance`` runs them all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]


def _conformance(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "conformance", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.families("mariadb", "postgresql", "sqlite")
@pytest.mark.verify("sqlite", "postgresql")
def test_djangos_own_tests_pass_on_the_loop(family: str, tmp_path: Path) -> None:
    ended = _conformance("--short", "--families", family, "--results", tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_group_that_does_not_come_to_its_end_fails_the_run(tmp_path: Path) -> None:
    ended = _conformance("str", "--families", "sqlite", "--timeout", "0", "--results", tmp_path)

    assert ended.returncode == 1
    assert "ours models did not end" in ended.stdout
