"""A few apps of Django's own test suite, as Django is and on the loop; ``make conformance`` runs them all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow]


@pytest.mark.families("mariadb", "postgresql", "sqlite")
def test_djangos_own_tests_pass_on_the_loop(family: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "conformance", "--short", "--families", family, "--results", str(tmp_path)]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
