"""``python -m projects``: each project in its environment, and a report of all of them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .environments import ROOT, NoEnvironment, Project, interpreter_of, projects

_SECONDS = 900
_LINE = "{:<10} {:>8} {:>7} {:>8} {:>10} {:>8} {:>7} {:>9} {:>12}"
_SHOWN = 20


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 where anything is missing or different, or a project could not be checked."""
    known = projects()
    parser = argparse.ArgumentParser(prog="python -m projects", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="PROJECT", help=f"of {', '.join(known)}; all of them by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"there is no project {', '.join(unknown)}: {', '.join(known)}")
    reports: dict[str, dict[str, Any]] = {}
    failed = []
    for name in options.names or known:
        try:
            reports[name] = run(known[name], interpreter_of(known[name]))
        except (NoEnvironment, NotChecked) as err:
            failed.append(f"{name}: {err}")
    print(as_text(reports))
    print(*failed, sep="\n", end="\n" * bool(failed))
    if options.json is not None:
        options.json.write_text(json.dumps(reports, indent=1) + "\n")
    return int(bool(failed) or any(each["missing"] or each["differences"] for each in reports.values()))


class NotChecked(Exception):
    """A project's worker ended without a report."""


def run(project: Project, interpreter: Path) -> dict[str, Any]:
    """Checks one project with the Python of its environment.

    - **errors**: ``NotChecked`` with the last that the worker said.
    """
    with tempfile.TemporaryDirectory(prefix=f"asyncdb-{project.name}-") as folder:
        found = Path(folder, "found.json")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "ASYNC_DB"))},
            "DJANGO_SETTINGS_MODULE": project.settings,
            "PROJECT_DATABASE": str(Path(folder, "project.sqlite3")),
            "PYTHONPATH": str(ROOT),
        }
        command = [str(interpreter), "-m", "projects.worker", str(found)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired as err:
            raise NotChecked(f"not ready within {_SECONDS} s") from err
        if done.returncode or not found.exists():
            raise NotChecked("its worker failed:\n" + "\n".join(done.stderr.splitlines()[-15:]))
        report: dict[str, Any] = json.loads(found.read_text())
        return report


def as_text(reports: dict[str, dict[str, Any]]) -> str:
    """A table of the figures, and what is missing, different or empty."""
    head = ("project", "Django", "models", "columns", "relations", "missing", "rows", "compared", "differences")
    lines = [_LINE.format(*head)]
    for name, each in reports.items():
        figures = [len(found) if isinstance(found := each[key], list) else found for key in ("missing", "differences")]
        numbers = [each[key] for key in ("django", "models", "columns", "relations")]
        lines.append(_LINE.format(name, *numbers, figures[0], each["rows"], each["compared"], figures[1]))
    for name, each in reports.items():
        said = [*each["missing"], *each["differences"]]
        said += [f"{label} has no rows: {reason}" for label, reason in each["empty"].items()]
        lines += [f"{name}: {line}" for line in said[:_SHOWN]]
        lines += [f"{name}: and {len(said) - _SHOWN} more"] * (len(said) > _SHOWN)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
