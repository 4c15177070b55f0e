"""The type checker's own word on the public signatures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def _mypy(path: Path, cache: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", f"--cache-dir={cache}", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    return done.stdout + done.stderr


@pytest.mark.typing
@pytest.mark.slow
def test_the_verbs_have_the_types_that_they_should(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    # The positive control: the checker does look.
    wrong.write_text(
        re.sub(
            r"into=BookOut\), list\[BookOut\]\)", "into=BookOut), list[int])", (HERE / "verbs.py").read_text(), count=1
        )
    )
    assert "Success: no issues found" in _mypy(HERE / "verbs.py", tmp_path / "cache")
    assert 'Expression is of type "list[BookOut]", not "list[int]"' in _mypy(wrong, tmp_path / "cache")
