"""The environment of each project, made by uv from what is published."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .interpreters import NoPython, newest

__all__ = ["ROOT", "NoEnvironment", "Project", "interpreter_of", "projects"]

ROOT = Path(__file__).resolve().parent.parent
# Beside the project: what the bridge stands on, as its pyproject.toml has it, and who fills the tables.
_OURS = ("-r", "pyproject.toml", "model-bakery>=1.20,<2")
_EXTRAS = {"sqlite": ("sqlite",), "postgresql": ("postgresql",), "mariadb": ("mysql",)}
_OLDEST = {"5.2": "3.11", "6.1": "3.12"}
# What Django's own backends want, and settings and migrations are run with.
_DRIVERS = {"sqlite": (), "postgresql": ("psycopg[binary]>=3.3,<4",), "mariadb": ("mysqlclient>=2.2.1",)}


class NoEnvironment(Exception):
    """An environment could not be made."""


@dataclass(frozen=True)
class Project:
    """One project of ``projects.toml``."""

    name: str
    requirements: tuple[str, ...]
    django: tuple[str, ...]
    """The releases that it supports and that the bridge does, the newest first."""
    families: tuple[str, ...]
    """The databases that it is run on."""
    excused: Mapping[str, str]
    """Models that need have no rows, and why."""

    @property
    def version(self) -> str:
        """Of the project, where it is none of Django's own."""
        return next(iter(self.requirements), "").partition("==")[2]

    def installed(self, django: str) -> tuple[str, ...]:
        """What uv is asked for."""
        extras = [f"--extra={extra}" for family in self.families for extra in _EXTRAS[family]]
        drivers = [driver for family in self.families for driver in _DRIVERS[family]]
        return (*self.requirements, f"django=={django}.*", *_OURS, *extras, *drivers)


def projects() -> dict[str, Project]:
    """All of them, in the order of the file."""
    given = tomllib.loads((Path(__file__).parent / "projects.toml").read_text())
    return {
        name: Project(
            name=name,
            requirements=tuple(one["requirements"]),
            django=tuple(one["django"]),
            families=tuple(one["families"]),
            excused=one.get("excused", {}),
        )
        for name, one in given.items()
    }


def interpreter_of(project: Project, folder: Path) -> Path:
    """The Python of the project's environment in ``folder``, made at the first call and when what it has changes.

    - **errors**: ``NoEnvironment`` with what uv said; ``NoPython``.
    """
    django, python = _django_and_python(project)
    installed = project.installed(django)
    place = folder / project.name
    interpreter, stamp = place / "bin" / "python", place / "made-of"
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    made_of = json.dumps([str(python), installed, ours["dependencies"], ours["optional-dependencies"]])
    if stamp.is_file() and stamp.read_text() == made_of:
        return interpreter
    print(f"{project.name}: installing {' '.join(project.requirements)} Django {django}", file=sys.stderr, flush=True)
    _uv("venv", "--quiet", "--clear", "--no-python-downloads", "--python", str(python), str(place))
    _uv("pip", "install", "--quiet", "--python", str(interpreter), *installed)
    stamp.write_text(made_of)
    return interpreter


def _django_and_python(project: Project) -> tuple[str, Path]:
    """The newest Django for which there is a Python here."""
    for django in project.django[:-1]:
        try:
            return django, newest(_OLDEST[django])
        except NoPython as err:
            print(f"{project.name} is not run on Django {django}: {err}", file=sys.stderr, flush=True)
    return project.django[-1], newest(_OLDEST[project.django[-1]])


def _uv(*arguments: str) -> None:
    program = Path(sys.executable).with_name("uv")
    command: Sequence[str] = [str(program) if program.exists() else (shutil.which("uv") or "uv"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise NoEnvironment(f"uv {arguments[0]} failed: is there a network, and a compiler? It said: {said}")
