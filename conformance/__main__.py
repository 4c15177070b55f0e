"""``python -m conformance``: runs both ways, compares, and fails for what is not excused."""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import platform
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import django

from asyncdb.testing import DatabaseServer

from .compare import compare, unfit
from .excuses import Excuse, excuses, of_family, without_a_test
from .families import FAMILIES, databases, server_of
from .job import WAYS, Job
from .records import Record, Results
from .report import Family, as_json, as_text
from .selection import ALL, SHORT, Groups, only
from .sources import tests_of_installed_django
from .workers import Done, run_all, start

_ROOT = Path(__file__).resolve().parent.parent
_CACHE = _ROOT / ".conformance"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m conformance", description="Django's own test suite, as it is and on the event loop."
    )
    parser.add_argument("labels", nargs="*", help="apps, groups of apps.toml, or single tests (all apps)")
    parser.add_argument("--short", action="store_true", help="the short selection of apps.toml")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="one way is only run, and not compared")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--resume", action="store_true", help="go on where a run of this code was interrupted")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for a group of apps (1800)")
    parser.add_argument("--test-timeout", type=float, default=120.0, help="seconds for one test (120)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table and every difference")
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER", default=_CACHE / "results", help="where they are kept"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns what the program exits with: 1 if anything differs that may not."""
    options = _parse(arguments)
    groups: Groups = SHORT if options.short else ALL
    if options.labels:
        groups = only(groups, options.labels)
    tests = tests_of_installed_django(_CACHE)
    known = excuses()
    families = [_family(name, groups, tests, known, options) for name in options.families]
    versions = f"Django {django.__version__}, Python {platform.python_version()}"
    if len(options.ways) < len(WAYS):
        return 0
    print(as_text(versions, families))
    if options.json is not None:
        options.json.write_text(as_json(versions, families) + "\n")
    return 1 if any(family.all_problems for family in families) else 0


def _family(name: str, groups: Groups, tests: Path, known: Sequence[Excuse], options: argparse.Namespace) -> Family:
    """Runs the groups on a server of the family, in both ways."""
    results = options.results / django.__version__ / name
    with server_of(name) as server:
        jobs = [
            _job(name, way, group, labels, tests, results, server, options.test_timeout)
            for group, labels in groups.items()
            for way in options.ways
        ]
        for job in jobs:
            _forget(job, but_its_own=options.resume)
        done = run_all(jobs, at_a_time=options.jobs, timeout=options.timeout, tell=_tell)
        if len(options.ways) < len(WAYS):
            return Family(name, [], [])
        records = {way: [each for job in jobs if job.way == way for each in _records(job)] for way in WAYS}
        problems = [
            f"{each.job.way} {each.job.name} did not end: {each.job.results_file.with_suffix('.log')}"
            for each in done
            if not each.finished
        ]
        run = {record.test for record in records["stock"]}
        excused = {test: excuse for test, excuse in of_family(known, name).items() if test in run}
        problems += _unfounded(jobs[0], excused)
        chosen = {label for labels in groups.values() for label in labels} if options.labels or options.short else None
        problems += without_a_test(of_family(known, name), run, chosen)
        problems += unfit(records["stock"])
        return Family(name, compare(records["stock"], records["ours"], excused), problems)


def _job(
    family: str,
    way: str,
    group: str,
    labels: Sequence[str],
    tests: Path,
    results: Path,
    server: DatabaseServer | None,
    test_timeout: float,
) -> Job:
    # Other labels, or other code, is another file: --resume would take it for done.
    kept = f"{group}-{_digest(json.dumps(list(labels)).encode())}-{_code(way)}.jsonl"
    return Job(
        family=family,
        way="ours" if way == "ours" else "stock",
        name=group,
        labels=labels,
        tests=str(tests),
        results=str(results / way / kept),
        test_timeout=test_timeout,
        databases=databases(family, server, f"{way}_{group}"),
    )


_PACKAGES = {"stock": ("conformance",), "ours": ("asyncdb", "conformance", "django_bridge")}


@functools.cache
def _code(way: str) -> str:
    """What the results of a way of running depend on, beside Django."""
    files = sorted(file for package in _PACKAGES[way] for file in (_ROOT / package).rglob("*.py"))
    return _digest(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))


def _digest(of: bytes) -> str:
    return hashlib.sha256(of).hexdigest()[:8]


def _forget(job: Job, *, but_its_own: bool) -> None:
    """Removes what is left of earlier runs of a job, and of other code."""
    name = job.results_file.stem
    for file in job.results_file.parent.glob(f"{name.rsplit('-', 1)[0]}-*"):
        if not (but_its_own and file.stem == name):
            file.unlink()


def _records(job: Job) -> list[Record]:
    return Results(job.results_file).read()[0]


def _tell(done: Done) -> None:
    records = _records(done.job)
    bad = sum(record.outcome not in ("passed", "skipped") for record in records)
    print(
        f"{time.strftime('%H:%M:%S')} {done.job.family} {done.job.way:<5} {done.job.name}: {len(records)} tests in "
        f"{done.seconds:.0f} s, {bad} failed" + ("" if done.finished else ", NOT FINISHED"),
        file=sys.stderr,
        flush=True,
    )


def _unfounded(job: Job, excused: dict[str, Excuse]) -> list[str]:
    """The excuses that the tests' own source does not bear out."""
    if not excused:
        return []
    apps = sorted({test.split(".", 1)[0] for test in excused})
    verdict = job.results_file.with_name("verification.json")
    reading = Job(
        family=job.family,
        way="stock",
        name="verification",
        labels=apps,
        tests=job.tests,
        results=str(verdict),
        test_timeout=job.test_timeout,
        databases=job.databases,
    )
    verdict.unlink(missing_ok=True)
    with verdict.with_suffix(".log").open("w") as log:
        code = start(reading, "conformance.verification", log).wait(timeout=120.0)
    if code or not verdict.exists():
        return [f"the excuses could not be verified: {verdict.with_suffix('.log')}"]
    wrong = json.loads(verdict.read_text())
    return [f"{test} is excused, but {why}" for test, why in sorted(wrong.items()) if test in excused]


if __name__ == "__main__":
    # As an interrupt from the keyboard: the servers and the workers are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
