"""Both ways side by side, and what is wrong with the difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .excuses import Excuse
from .records import ERROR, FAILED, KILLED, PASSED, SKIPPED, Record

LEAST_SHARE = 0.95
MOST_FAILURES = 0.01
"""Of the tests as Django is; beyond, the server or the machine is at fault, and the comparison says nothing."""

_MISSING = "missing"


@dataclass(frozen=True)
class Difference:
    """A test that passes as Django is, and does not on the loop."""

    test: str
    outcome: str
    note: str
    excuse: str | None


@dataclass(frozen=True)
class Outcomes:
    """How the tests of one app ended, one way."""

    tests: int
    failed: int
    errors: int
    skipped: int

    @classmethod
    def of(cls, records: Sequence[Record]) -> Outcomes:
        """Counts them."""
        by = Counter(record.outcome for record in records)
        return cls(sum(by.values()), by[FAILED], by[ERROR] + by[KILLED], by[SKIPPED])


@dataclass
class App:
    """One app, both ways. Of tests that are excused no statement is counted, for they do not run to their end."""

    name: str
    stock: Outcomes
    ours: Outcomes
    sent: int
    """Statements as Django is."""
    native: int
    """Statements that an async driver carried, on the loop."""
    differences: list[Difference] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the statements that stock sends, those that an async driver carried on the loop."""
        return min(1.0, self.native / self.sent) if self.sent else 1.0


def compare(stock: Sequence[Record], ours: Sequence[Record], excused: Mapping[str, Excuse]) -> list[App]:
    """Compares the records of one family, app by app, and says what is wrong."""
    names = sorted({record.app for record in (*stock, *ours)})
    return [
        _compare(
            name,
            {record.test: record for record in stock if record.app == name},
            {record.test: record for record in ours if record.app == name},
            excused,
        )
        for name in names
    ]


def unfit(stock: Sequence[Record]) -> list[str]:
    """Says so if too many tests fail as Django is: whatever fails there is not compared."""
    fails = Outcomes.of(stock)
    bad = fails.failed + fails.errors
    if bad > max(MOST_FAILURES * fails.tests, 2):
        return [f"{bad} of {fails.tests} tests fail stock, and are compared with nothing: is the server up?"]
    return []


def _compare(name: str, stock: Mapping[str, Record], ours: Mapping[str, Record], excused: Mapping[str, Excuse]) -> App:
    counted = (stock.keys() | ours.keys()) - excused.keys()
    app = App(
        name,
        Outcomes.of(list(stock.values())),
        Outcomes.of(list(ours.values())),
        sent=sum(stock[test].sent for test in counted if test in stock),
        native=sum(ours[test].native for test in counted if test in ours),
    )
    for test, before in stock.items():
        after = ours.get(test) or _of_its_class(test, ours)
        if before.outcome == PASSED and after.outcome != PASSED:
            excuse = excused.get(test)
            app.differences.append(
                Difference(test, after.outcome, after.note, None if excuse is None else excuse.reason)
            )
            if excuse is None:
                app.problems.append(f"{test} passes stock and is {after.outcome} on the loop")
        elif before.outcome == SKIPPED and after.outcome != SKIPPED:
            app.problems.append(f"{test} is skipped stock and {after.outcome} on the loop")
        elif before.outcome == PASSED and test in excused:
            app.problems.append(f"{test} is excused and passes")
    app.problems += [f"{test} is run on the loop alone" for test in ours if test not in stock and "(" not in test]
    if app.share < LEAST_SHARE:
        app.problems.append(
            f"{name}: {app.native} of {app.sent} statements went through the async driver ({app.share:.1%})"
        )
    return app


def _of_its_class(test: str, records: Mapping[str, Record]) -> Record:
    """What is known of a test that was not run: the error of its class, if there was one."""
    owner = test.rsplit(".", 1)[0]
    for fixture in ("setUpClass", "tearDownClass"):
        if (record := records.get(f"{fixture} ({owner})")) is not None:
            return Record(test, record.outcome, note=f"{record.test}\n{record.note}")
    return Record(test, _MISSING)
