"""The figures as a plain table, and as JSON."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from .harness import Measured
from .paths.base import Path
from .promises import judge, ratio
from .workloads import Workload

_LINE = "  {:<34} {:>6} {:>9} {:>7} {:>15} {:>9}"


@dataclass(frozen=True)
class Report:
    """All of a run."""

    header: Mapping[str, str]
    paths: list[type[Path]]
    workloads: list[Workload]
    compared: Mapping[str, int]
    """Requests whose results were found identical on every path, by workload."""
    trips: Mapping[str, Mapping[str, float]]
    """By path, by workload."""
    measured: list[Measured]

    def as_text(self) -> str:
        lines = [f"{key + ':':<10} {value}" for key, value in self.header.items()]
        for workload in self.workloads:
            lines += [
                "",
                f"{workload.name}  {workload.title}  ({self.compared[workload.name]} results identical on every path)",
            ]
            lines += [_LINE.format("path", "trips", "CPU us", "x first", "quartiles", "wall us")]
            lines += self._rows(workload)
        lines += ["", *self._promises(), "", "Configurations:"]
        lines += [f"  {path.name}: {path.config}" for path in self.paths]
        if any(path.connects_by_design for path in self.paths):
            lines += [
                "  (c) connects at each request, which is how it is run; no other path connected while it was measured"
            ]
        return "\n".join(lines)

    def _rows(self, workload: Workload) -> list[str]:
        of_workload = {each.path: each for each in self.measured if each.workload == workload.name}
        unit = next(iter(of_workload.values()))  # the first path that has it: the raw driver, where it can
        rows = []
        for path in self.paths:
            if (each := of_workload.get(path.name)) is None:
                continue
            median, lower, upper = ratio(each, unit)
            rows.append(
                _LINE.format(
                    path.title + (" (c)" if path.connects_by_design else ""),
                    f"{self.trips[path.name][workload.name]:g}",
                    f"{statistics.median(each.cpu_us):.0f}",
                    f"{median:.2f}",
                    f"{lower:.2f} to {upper:.2f}",
                    f"{statistics.median(each.wall_us):.0f}",
                )
            )
        return rows

    def _promises(self) -> list[str]:
        lines = []
        for verdict in judge(self.measured, self.trips):
            figures = ", ".join(f"{name} {_figure(*figure)}" for name, figure in verdict.figures.items())
            lines += [f"{'MET' if verdict.met else 'NOT MET'}: {verdict.text}", f"  {figures}"]
        return lines

    def as_json(self) -> str:
        return json.dumps(
            {
                "header": self.header,
                "configurations": {path.name: path.config for path in self.paths},
                "compared": self.compared,
                "trips": self.trips,
                "measured": [dataclasses.asdict(each) for each in self.measured],
                "promises": [dataclasses.asdict(verdict) for verdict in judge(self.measured, self.trips)],
            },
            indent=1,
        )


def _figure(middle: float, *quartiles: float) -> str:
    if not quartiles:
        return f"{middle:g} round trips"
    return f"{middle:.2f} [{' to '.join(f'{one:.2f}' for one in quartiles)}]"
