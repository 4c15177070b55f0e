"""The Pythons of this machine: none is fetched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["NoPython", "newest"]

_NEWEST = 14
_PRINTS_VERSION = "import sys; print(*sys.version_info[:2])"


class NoPython(Exception):
    """No interpreter of this machine fits."""


def newest(at_least: str, below: str | None = None) -> Path:
    """Returns the newest Python from ``at_least`` on, ``below`` excluded; both as ``3.12``.

    - **errors**: ``NoPython``, which names those that are here.
    """
    found = sorted(_pythons())
    fitting = [path for version, path in found if version >= _version(at_least)]
    if below is not None:
        fitting = [path for version, path in found if _version(at_least) <= version < _version(below)]
    if not fitting:
        here = ", ".join(sorted({f"{major}.{minor}" for (major, minor), _ in found})) or "none"
        raise NoPython(f"Python {at_least} or newer{f' below {below}' if below else ''} is needed, and here is {here}")
    return fitting[-1]


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _pythons() -> Iterator[tuple[tuple[int, int], Path]]:
    """Each that runs: a shim of pyenv's for a version that is not chosen does not."""
    for place in {path.resolve(): path for path in _places()}.values():
        done = subprocess.run([place, "-c", _PRINTS_VERSION], capture_output=True, text=True, check=False, timeout=30)
        if not done.returncode and re.fullmatch(r"3 \d+\s*", done.stdout):
            major, minor = done.stdout.split()
            yield (int(major), int(minor)), place


def _places() -> Iterator[Path]:
    yield Path(sys.executable).resolve()
    for minor in range(11, _NEWEST + 1):
        found = shutil.which(f"python3.{minor}")
        if found is not None:
            yield Path(found)
    for root in filter(None, (os.environ.get("PYENV_ROOT"), str(Path.home() / ".pyenv"))):
        yield from Path(root).glob("versions/3.*/bin/python3")
