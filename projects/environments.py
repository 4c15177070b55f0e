"""The environment of each project, made by uv from what is published."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_CACHE = ROOT / ".projects"
# Beside the project: what the bridge stands on, as its pyproject.toml has it, and who fills the tables.
_OURS = ("-r", "pyproject.toml", "--extra", "sqlite", "model-bakery>=1.20")


class NoEnvironment(Exception):
    """An environment could not be made."""


@dataclass(frozen=True)
class Project:
    """One project of ``projects.toml``."""

    name: str
    requirements: tuple[str, ...]
    python: str
    """The oldest that its Django runs on."""

    @property
    def settings(self) -> str:
        """Its settings module."""
        return f"projects.settings.{self.name}"


def projects() -> dict[str, Project]:
    """All of them, in the order of the file."""
    given = tomllib.loads((Path(__file__).parent / "projects.toml").read_text())
    return {name: Project(name, tuple(one["requirements"]), one["python"]) for name, one in given.items()}


def interpreter_of(project: Project) -> Path:
    """The Python of the project's environment, which is made at the first call and when the requirements change.

    - **errors**: ``NoEnvironment`` with what uv said.
    """
    place = _CACHE / project.name
    interpreter, stamp = place / "bin" / "python", place / "made-of"
    made_of = "\n".join((*project.requirements, *_OURS, (ROOT / "pyproject.toml").read_text()))
    if stamp.is_file() and stamp.read_text() == made_of:
        return interpreter
    print(f"{project.name}: installing {' '.join(project.requirements)}", flush=True)
    _uv("venv", "--quiet", "--clear", "--no-python-downloads", "--python", f">={project.python}", str(place))
    _uv("pip", "install", "--quiet", "--python", str(interpreter), *project.requirements, *_OURS)
    stamp.write_text(made_of)
    return interpreter


def _uv(*arguments: str) -> None:
    program = Path(sys.executable).with_name("uv")
    command = [str(program) if program.exists() else (shutil.which("uv") or "uv"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise NoEnvironment(f"uv {arguments[0]} failed: is there a network, and a Python that fits? It said: {said}")
