"""The environment of each project, made by uv from what is published."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_CACHE = ROOT / ".projects"

# Beside the project: what the bridge stands on, as its pyproject.toml has it, and who fills the tables.
_PYTHONS = {"6.1": ("3.14", "3.13", "3.12"), "5.2": ("3.14", "3.13", "3.12", "3.11")}
_OURS = ("-r", "pyproject.toml", "--extra", "sqlite", "model-bakery>=1.20")


class NoEnvironment(Exception):
    """An environment could not be made."""


@dataclass(frozen=True)
class Project:
    """One project of ``projects.toml``."""

    name: str
    requirements: tuple[str, ...]
    django: tuple[str, ...]
    """The releases that it supports and that we do, the newest first."""

    @property
    def settings(self) -> str:
        """Its settings module."""
        return f"projects.settings.{self.name}"


def projects() -> dict[str, Project]:
    """All of them, in the order of the file."""
    given = tomllib.loads((Path(__file__).parent / "projects.toml").read_text())
    return {name: Project(name, tuple(one["requirements"]), tuple(one["django"])) for name, one in given.items()}


def interpreter_of(project: Project) -> Path:
    """The Python of the project's environment, which is made at the first call and when what it is made of changes.

    - **errors**: ``NoEnvironment`` with what uv said.
    """
    release, python = _release_and_python(project)
    wanted = (*project.requirements, f"django=={release}.*", *_OURS)
    place = _CACHE / project.name
    interpreter, stamp = place / "bin" / "python", place / "made-of"
    made_of = "\n".join((python, *wanted, (ROOT / "pyproject.toml").read_text()))
    if stamp.is_file() and stamp.read_text() == made_of:
        return interpreter
    print(f"{project.name}: installing {' '.join(wanted[: -len(_OURS)])}", flush=True)
    for arguments in (
        ("venv", "--quiet", "--clear", "--python", python, str(place)),
        ("pip", "install", "--quiet", "--python", str(interpreter), *wanted),
    ):
        done = _uv(*arguments)
        if done.returncode:
            said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise NoEnvironment(f"uv {arguments[0]} failed: is there a network? It said: {said}")
    stamp.write_text(made_of)
    return interpreter


def _release_and_python(project: Project) -> tuple[str, str]:
    for release in project.django:
        for minor in _PYTHONS[release]:
            if minor == f"{sys.version_info.major}.{sys.version_info.minor}":
                return release, sys.executable
            done = _uv("python", "find", "--quiet", "--system", minor)
            if not done.returncode:
                return release, done.stdout.strip()
        print(f"{project.name}: there is no Python {' or '.join(_PYTHONS[release])} here, which Django {release} needs")
    raise NoEnvironment(f"no Python here runs Django {' or '.join(project.django)}")


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("uv")
    command = [str(program) if program.exists() else "uv", *arguments, "--no-python-downloads"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
