"""``python -m projects``: each project in its environment, on each of its databases, and a report of all of them."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from conformance.families import FAMILIES, server_of

from .environments import ROOT, NoEnvironment, Project, interpreter_of, projects
from .interpreters import NoPython
from .report import Result, as_json, as_text
from .running import run

_CACHE = ROOT / ".projects"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m projects", description="Whether the models of real projects map, and read as Django reads them."
    )
    parser.add_argument("names", nargs="*", metavar="PROJECT", help=f"of {', '.join(projects())} (all)")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES, help="of those a project runs on")
    parser.add_argument("--rows", type=int, default=4, help="rows for each model (4)")
    parser.add_argument("--seed", type=int, default=5, help="of the values in them (5)")
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds for a project on a database (1200)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings")
    parser.add_argument("--environments", type=Path, metavar="FOLDER", default=_CACHE, help="where they are kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(projects()):
        parser.error(f"no project {' '.join(sorted(unknown))}: there are {' '.join(projects())}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns what the program exits with: 1 if anything is missing, differs, or could not be looked at."""
    options = _parse(arguments)
    chosen = [project for name, project in projects().items() if name in (options.names or projects())]
    results: list[Result] = []
    ready: list[tuple[Project, Path]] = []
    for project in chosen:
        try:
            ready.append((project, interpreter_of(project, options.environments)))
        except NoPython as err:
            print(f"{project.name} is left out: {err}", file=sys.stderr, flush=True)
        except NoEnvironment as err:
            results.append(Result(project.name, project.version, "", 0.0, failure=str(err)))
    for family in options.families:
        here = [(project, interpreter) for project, interpreter in ready if family in project.families]
        if here:
            results += _on(family, here, options)
    print(as_text(results))
    if options.json is not None:
        options.json.write_text(as_json(results) + "\n")
    return 1 if not results or any(each.problems for each in results) else 0


def _on(family: str, here: Sequence[tuple[Project, Path]], options: argparse.Namespace) -> list[Result]:
    results = []
    with server_of(family) as server:
        for project, interpreter in here:
            result = run(
                project,
                family,
                interpreter,
                server,
                rows=options.rows,
                seed=options.seed,
                timeout=options.timeout,
                log=options.environments / "logs" / f"{project.name}-{family}.log",
            )
            told = f"{project.name} on {family}: {len(result.problems)} problems in {result.seconds:.0f} s"
            print(told, file=sys.stderr, flush=True)
            results.append(result)
    return results


if __name__ == "__main__":
    # As an interrupt from the keyboard: the servers and the worker are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
