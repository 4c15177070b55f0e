"""The type checker's own word on the public signatures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def _run(*command: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env={**os.environ, **environ},
    )
    return done.stdout + done.stderr


def _mypy(path: Path, cache: Path, *more: str, **environ: str) -> str:
    return _run("mypy", "--strict", "--warn-unused-ignores", f"--cache-dir={cache}", *more, str(path), **environ)


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


@pytest.mark.typing
@pytest.mark.slow
def test_mapped_classes_have_the_types_of_their_fields(tmp_path: Path) -> None:
    made = tmp_path / "made.py"
    command = ("django", "asyncdb_models", "--types", "shop", "auth", "contenttypes", "--output", str(made))
    told = _run(*command, DJANGO_SETTINGS_MODULE="tests.typing.settings")
    assert "written" in told, told
    right = tmp_path / "right.py"
    right.write_text(text := (HERE / "mapped_classes.py").read_text())
    wrong = tmp_path / "wrong.py"
    wrong.write_text(text.replace("assert_type(book.title, str)", "assert_type(book.title, int)"))
    options = ("--explicit-package-bases", str(made))
    assert "Success: no issues found in 2 source files" in _mypy(
        right, tmp_path / "cache", *options, MYPYPATH=str(tmp_path)
    )
    assert 'Expression is of type "str", not "int"' in _mypy(
        wrong, tmp_path / "cache", *options, MYPYPATH=str(tmp_path)
    )
    assert _run(*command, "--check", DJANGO_SETTINGS_MODULE="tests.typing.settings") == ""
    made.write_text(made.read_text().replace("pages: Mapped[int]", "pages: Mapped[str]"))
    assert "is out of date" in _run(*command, "--check", DJANGO_SETTINGS_MODULE="tests.typing.settings")
