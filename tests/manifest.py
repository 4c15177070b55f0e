"""Each case of a folder of tests is listed in its ``manifest/``, a file a kind, and is there to be run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.lean import LEAN

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = frozenset({"mariadb", "postgresql", "sqlite", "mysql"})

# Where the run's families are not chosen all are named: a run that names none collects of MySQL the contract alone.
CHOSEN = (set(re.split(r"[\s,]+", os.environ.get("FAMILIES", ""))) - {""}) or FAMILIES


def _of_chosen_families(case: str) -> bool:
    names = set(re.split(r"[\[\]-]", case.partition("[")[2])) & FAMILIES
    return names <= CHOSEN


def _listed(folder: Path) -> set[str]:
    cases: set[str] = set()
    for listing in folder.joinpath("manifest").glob("*.txt"):
        found = [line.strip() for line in listing.read_text().splitlines() if line.strip()]
        assert folder.joinpath(f"test_{listing.stem}.py").is_file(), (
            f"{listing.name} lists cases of a file that is gone"
        )
        assert len(found) == len(set(found)), f"{listing.name} lists a case twice"
        cases |= {f"test_{listing.stem}.py::{case}" for case in found}
    return cases


def require_each_case_listed_and_collected(folder: Path) -> None:
    """Compares what pytest collects in ``folder`` with what its manifest lists."""
    place = folder.relative_to(ROOT).as_posix()
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *LEAN,
            "--collect-only",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            str(folder),
        ],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            "FAMILIES": " ".join(sorted(CHOSEN)),
            "VERIFY": "1",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    collected = {line.partition(f"{place}/")[2] for line in ran.stdout.splitlines() if "::" in line}
    collected = {case for case in collected if not case.startswith("test_manifest.py")}
    wanted = {case for case in _listed(folder) if _of_chosen_families(case)}
    assert wanted - collected == set(), f"listed in {place}/manifest, and not collected"
    assert collected - wanted == set(), f"collected, and not listed in {place}/manifest"
