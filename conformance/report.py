"""The comparison, to read and to compute with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .compare import App, Outcomes

_COLUMNS = ("tests", "failed", "errors", "skipped")


@dataclass
class Family:
    """One database family."""

    name: str
    apps: list[App]
    problems: list[str]
    """Of the run as a whole: what could not be run to its end, excuses that do not hold."""

    @property
    def all_problems(self) -> list[str]:
        """With those of the apps."""
        return [*self.problems, *(problem for app in self.apps for problem in app.problems)]

    @property
    def total(self) -> App:
        """All apps as one."""
        apps = self.apps
        return App(
            "all",
            _sum([app.stock for app in apps]),
            _sum([app.ours for app in apps]),
            sum(app.sent for app in apps),
            sum(app.native for app in apps),
            [difference for app in apps for difference in app.differences],
        )


def _sum(outcomes: Sequence[Outcomes]) -> Outcomes:
    return Outcomes(*(sum(getattr(each, name) for each in outcomes) for name in _COLUMNS))


def as_text(versions: str, families: Sequence[Family]) -> str:
    """Returns a table for each family, then the differences, then what is wrong."""
    lines = [f"Django's own tests on {versions}"]
    for family in families:
        width = max([len(app.name) for app in family.apps] + [len(family.name)])
        lines += [
            "",
            f"{family.name:<{width}}{'stock':>32}{'ours':>32}  {'statements':>10} {'async':>8} {'share':>7} excused",
            f"{'':<{width}}" + "".join(f"{name:>8}" for name in (*_COLUMNS, *_COLUMNS)),
        ]
        lines += [_row(app, width) for app in (*family.apps, family.total)]
    for family in families:
        excused = sum(difference.excuse is not None for difference in family.total.differences)
        lines += ["", f"{family.name}: {len(family.apps)} apps, {family.total.stock.tests} tests, {excused} excused"]
        lines += [f"  {problem}" for problem in family.all_problems] or ["  nothing else differs"]
    return "\n".join(lines)


def _row(app: App, width: int) -> str:
    numbers = [getattr(way, name) for way in (app.stock, app.ours) for name in _COLUMNS]
    excused = sum(difference.excuse is not None for difference in app.differences)
    share = f"{app.share:.1%}" if app.sent else "-"
    return (
        f"{app.name:<{width}}"
        + "".join(f"{number or '.':>8}" for number in numbers)
        + f"  {app.sent:>10} {app.native:>8} {share:>7} {excused or '':>7}"
    )


def as_json(versions: str, families: Sequence[Family]) -> str:
    """Returns the same, with the tracebacks of what differs."""
    return json.dumps(
        {
            "versions": versions,
            "families": {
                family.name: {
                    "apps": {app.name: {**asdict(app), "share": app.share} for app in family.apps},
                    "problems": family.all_problems,
                }
                for family in families
            },
        },
        indent=1,
    )
