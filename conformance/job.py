"""What one worker process has to do; it is told through its environment, for a password is in it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

Way = Literal["stock", "ours"]
WAYS: Sequence[Way] = ("stock", "ours")

VARIABLE = "CONFORMANCE_JOB"


@dataclass(frozen=True)
class Job:
    """Labels of Django's tests, to be run one way on one pair of databases."""

    family: str
    way: Way
    name: str
    """Of the group of labels."""
    labels: Sequence[str]
    tests: str
    """The folder of Django's tests."""
    results: str
    """The file that the results are appended to; the tests that have one there are left out."""
    test_timeout: float
    """Seconds for one test, or for what is between two."""
    databases: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def results_file(self) -> Path:
        """``results`` as a path."""
        return Path(self.results)

    def as_environment(self) -> dict[str, str]:
        """Returns the variables of the worker."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Self:
        """Returns the job of this worker."""
        return cls(**json.loads(os.environ[VARIABLE]))
