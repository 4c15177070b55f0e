"""What became of each test: a line of JSON as soon as it is known."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

PASSED = "passed"
SKIPPED = "skipped"
FAILED = "failed"
ERROR = "error"
KILLED = "killed"
"""The process did not come back from it."""

_END = "(end)"
_RUNNING = "(running)"


@dataclass(frozen=True)
class Record:
    """One test."""

    test: str
    outcome: str
    seconds: float = 0.0
    sent: int = 0
    """Statements that reached a driver during the test, and since the one before: its class's fixtures."""
    native: int = 0
    """Those of them that an async driver carried."""
    note: str = ""
    """The traceback, or the reason of a skip."""

    @property
    def app(self) -> str:
        """The app of Django's tests, ``setUpClass`` and modules that cannot be imported included."""
        name = self.test.removeprefix("unittest.loader._FailedTest.")
        if "(" in name:
            name = name.split("(", 1)[1]
        return name.split(".", 1)[0]


class Results:
    """The file of one job. A test that is begun is written down as well: if the process dies, it was that one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, test: str) -> None:
        """Writes down that ``test`` runs now."""
        self._write({"test": test, "outcome": _RUNNING})

    def add(self, record: Record) -> None:
        """Writes down what became of it."""
        self._write(asdict(record))

    def finish(self) -> None:
        """Writes down that every test of the job has been run."""
        self._write({"test": _END, "outcome": _END})

    def read(self) -> tuple[list[Record], str | None, bool]:
        """Returns the records, the test that was begun and has none, and whether the job is finished."""
        records: dict[str, Record] = {}
        running, finished = None, False
        for line in self._lines():
            read = Record(**json.loads(line))
            if read.outcome == _RUNNING:
                running = read.test
            elif read.outcome == _END:
                finished = True
            else:
                records[read.test] = _worse(records.get(read.test), read)
                running = None if running == read.test else running
        return list(records.values()), running, finished

    def _lines(self) -> Iterable[str]:
        if not self._path.exists():
            return []
        # A line without an end was cut off when its process was killed.
        return [line for line in self._path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def _write(self, line: dict[str, object]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


_BY_WEIGHT = (SKIPPED, PASSED, FAILED, ERROR, KILLED)


def _worse(first: Record | None, second: Record) -> Record:
    if first is None or _BY_WEIGHT.index(second.outcome) > _BY_WEIGHT.index(first.outcome):
        return second
    return first
