"""The tests of the installed Django: they come in its source distribution alone."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django


class NoTests(Exception):
    """The source distribution could not be had."""


def tests_of_installed_django(cache: Path) -> Path:
    """Returns the folder of Django's tests, fetched into ``cache`` at the first call.

    - **errors**: ``NoTests`` with what pip said.
    """
    version = django.__version__
    kept = cache / f"django-{version}"
    tests = kept / "tests"
    if tests.is_dir():
        return tests
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as folder:
        place = Path(folder)
        with tarfile.open(_fetch(version, place)) as archive:
            # Without its django/: what is tested is the Django that is installed.
            members = [each for each in archive.getmembers() if not each.name.split("/", 1)[-1].startswith("django/")]
            archive.extractall(place / "unpacked", members, filter="data")
        (unpacked,) = (place / "unpacked").iterdir()
        unpacked.rename(kept)
    return tests


def _fetch(version: str, into: Path) -> Path:
    """The archive, checked by pip against the index's hash."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wanted = ["--no-binary", "django", f"django=={version}", "--dest", str(into)]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    found = list(into.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise NoTests(
            f"pip could not fetch the source distribution of Django {version}: is there a network, and pip in "
            f"{sys.prefix}? It said: " + " | ".join(said),
        )
    return found[0]
