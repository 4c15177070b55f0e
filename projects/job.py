"""What one worker process has to do; it is told through its environment, for a password is in it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Self

__all__ = ["Job"]

_VARIABLE = "PROJECTS_JOB"


@dataclass(frozen=True)
class Job:
    """One project, on one database."""

    project: str
    family: str
    folder: str
    """A folder of its own, for what the project writes."""
    report: str
    """The file that the findings are written to."""
    rows: int
    """How many rows each model is given."""
    seed: int
    """Of the values in them."""
    databases: dict[str, Any] = field(default_factory=dict, repr=False)

    def as_environment(self) -> dict[str, str]:
        """Returns the variables of the worker."""
        return {_VARIABLE: json.dumps(asdict(self)), "DJANGO_SETTINGS_MODULE": f"projects.settings.{self.project}"}

    @classmethod
    def from_environment(cls) -> Self:
        """Returns the job of this worker."""
        return cls(**json.loads(os.environ[_VARIABLE]))
