"""``excused.toml``: the tests that may differ, each for one of four reasons."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import django

MUST_RAISE = "asserts that the ORM must raise on the loop"
OWN_LOOP = "starts its own event loop inside a running one"
MOCKS_CONNECT = "mocks the driver's connect"
REFUSES = "asserts that ATOMIC_REQUESTS refuses async views"
REASONS = (MUST_RAISE, OWN_LOOP, MOCKS_CONNECT, REFUSES)

_FILE = Path(__file__).with_name("excused.toml")


class WrongExcuse(Exception):
    """``excused.toml`` says what it may not."""


@dataclass(frozen=True)
class Excuse:
    """One test that may differ."""

    test: str
    reason: str
    families: Sequence[str] | None
    """None: on every family."""


def excuses(path: Path = _FILE) -> list[Excuse]:
    """Returns the excuses that hold for the installed Django.

    - **errors**: ``WrongExcuse``.
    """
    found: dict[str, Excuse] = {}
    for entry in tomllib.loads(path.read_text()).get("excused", []):
        if others := entry.keys() - {"reason", "tests", "families", "django"}:
            raise WrongExcuse(f"{path.name}: unknown keys {sorted(others)}")
        if entry["reason"] not in REASONS:
            raise WrongExcuse(f"{path.name}: {entry['reason']!r} is no reason; the reasons are {', '.join(REASONS)}")
        if "django" in entry and f"{django.VERSION[0]}.{django.VERSION[1]}" not in entry["django"]:
            continue
        for test in entry["tests"]:
            if test in found:
                raise WrongExcuse(f"{path.name}: {test} is there twice")
            found[test] = Excuse(test, entry["reason"], entry.get("families"))
    return list(found.values())


def of_family(known: Sequence[Excuse], family: str) -> dict[str, Excuse]:
    """Returns those that hold on ``family``, by test."""
    return {excuse.test: excuse for excuse in known if excuse.families is None or family in excuse.families}


def without_a_test(excused: Collection[str], run: Collection[str], apps: Collection[str] | None = None) -> list[str]:
    """Says which excuses are for a test that was not run, though all of its app was; ``apps`` None: all apps were."""
    return [
        f"{test} is excused, and there is no such test"
        for test in sorted(excused)
        if test not in run and (apps is None or test.split(".", 1)[0] in apps)
    ]
