"""The findings of a run, for people and as JSON, and what makes it fail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Result", "as_json", "as_text"]

_SHOWN = 20


@dataclass(frozen=True)
class Result:
    """One project on one database."""

    project: str
    version: str
    family: str
    seconds: float
    findings: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    """Why there are no findings."""
    excused: Mapping[str, str] = field(default_factory=dict)
    """Models that need have no rows, and why."""

    @property
    def problems(self) -> list[str]:
        """What makes the run fail."""
        if self.failure:
            return [self.failure]
        empty: Mapping[str, str] = self.findings["empty"]
        return [
            *(f"missing: {each}" for each in self.findings["missing"]),
            *(f"differs: {each}" for each in self.findings["differences"]),
            *(f"no rows: {model}: {why}" for model, why in empty.items() if model not in self.excused),
            *(f"no table: {model}" for model in self.findings["without_table"] if model not in self.excused),
        ]


def as_json(results: Sequence[Result]) -> str:
    """Everything."""
    return json.dumps([{**vars(each), "problems": each.problems} for each in results], indent=1)


_HEADS = (
    "project|database|Django|models|columns|missing|relations|missing|rows|values|relation queries|related rows|differ"
)


def as_text(results: Sequence[Result]) -> str:
    """A table of figures, then what there is to say of each."""
    lines = [_HEADS.split("|"), *(_line(each) for each in results)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, *(said for each in results for said in _said(each))])


def _line(result: Result) -> list[str]:
    name = f"{result.project} {result.version}".strip()
    if result.failure:
        return [name, result.family, *["-"] * (_HEADS.count("|") - 1)]
    found = result.findings
    relations = sum(each.endswith(("relation", "of them")) for each in found["missing"])
    figures = (
        len(found["missing"]) - relations,
        found["relations"],
        relations,
        found["rows"],
        found["values"],
        found["queries"],
        found["related"],
        len(found["differences"]),
    )
    return [name, result.family, found["django"], str(found["models"]), str(found["columns"]), *map(str, figures)]


def _said(result: Result) -> list[str]:
    name = f"{result.project} on {result.family}"
    said = [f"{name}: {each}" for each in result.problems[:_SHOWN]]
    if len(result.problems) > _SHOWN:
        said.append(f"{name}: and {len(result.problems) - _SHOWN} more problems")
    if result.failure:
        return said
    found = result.findings
    for what, names in (
        ("without rows, excused", sorted({*found["empty"], *found["without_table"]} & set(result.excused))),
        ("columns with NULL in every row", found["only_null"]),
        ("relations that lead nowhere from any row", found["unrelated"]),
    ):
        if names:
            said.append(f"{name}: {len(names)} {what}: {' '.join(names[:_SHOWN])}{' ...' * (len(names) > _SHOWN)}")
    return said
