"""What is promised of the figures, and whether they keep it. A further promise is one more line in ``PROMISES``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .harness import Measured


@dataclass(frozen=True)
class Promise:
    """That ``ours`` costs at most ``most`` times what ``rival`` costs, in every workload of ``only`` that both have."""

    text: str
    ours: str
    rival: str
    most: float = 1.0
    of: Literal["cpu_us", "wall_us"] = "cpu_us"
    only: frozenset[str] | None = None
    """None: all workloads."""


@dataclass(frozen=True)
class TripsPromise:
    """That a request of ``workload`` costs ``ours`` at most ``most`` round trips."""

    text: str
    ours: str
    workload: str
    most: int


@dataclass(frozen=True)
class Verdict:
    text: str
    figures: Mapping[str, tuple[float, ...]]
    """By workload: ours by the rival's in the same round, median, lower and upper quartile; or the round trips."""
    met: bool


PROMISES: tuple[Promise | TripsPromise, ...] = (
    Promise("a session on our pool costs no more CPU than a stock AsyncSession", "our-session", "session"),
    Promise("... nor than one without pre-ping", "our-session", "session-no-ping"),
    Promise(
        "native aget serves at least 4 times as many requests as stock aget: at most 0.25 of its wall time",
        "django-native",
        "django",
        most=0.25,
        of="wall_us",
        only=frozenset({"W1"}),
    ),
    Promise(
        "... at no more than 1.25 times the CPU of Django's sync get() on a connection that stays open",
        "django-native",
        "django-sync",
        most=1.25,
        only=frozenset({"W1"}),
    ),
    Promise(
        "a transaction of both ORMs costs no more than 1.3 times the CPU of the same in Django's sync ORM alone",
        "django-native",
        "django-sync",
        most=1.3,
        only=frozenset({"W5"}),
    ),
    Promise(
        "... where SQLAlchemy's statement is built once, as a module's constant",
        "django-native-built-once",
        "django-sync",
        most=1.3,
        only=frozenset({"W5"}),
    ),
    Promise(
        "rows into pydantic models through mapped() cost no more than 1.15 times the CPU of a hand-written table",
        "our-mapped",
        "our-verbs",
        most=1.15,
        only=frozenset({"W6"}),
    ),
    TripsPromise("... and 5 round trips", "django-native", "W5", most=5),
    Promise(
        "a checkout of a healthy, warm connection costs at most 1.1 times that of the stock pool",
        "our-pool",
        "pool",
        most=1.1,
        only=frozenset({"W7"}),
    ),
    TripsPromise("... and no round trip", "our-pool", "W7", most=0),
)


def judge(measured: list[Measured], trips: Mapping[str, Mapping[str, float]]) -> list[Verdict]:
    """The verdicts for which the run has got the figures."""
    verdicts = (
        _of_trips(promise, trips) if isinstance(promise, TripsPromise) else _of_time(promise, measured)
        for promise in PROMISES
    )
    return [verdict for verdict in verdicts if verdict is not None]


def _of_trips(promise: TripsPromise, trips: Mapping[str, Mapping[str, float]]) -> Verdict | None:
    count = trips.get(promise.ours, {}).get(promise.workload)
    return None if count is None else Verdict(promise.text, {promise.workload: (count,)}, count <= promise.most)


def _of_time(promise: Promise, measured: list[Measured]) -> Verdict | None:
    found = {(each.workload, each.path): each for each in measured}
    ratios = {}
    for (workload, path), ours in found.items():
        rival = found.get((workload, promise.rival))
        if path == promise.ours and rival is not None and (promise.only is None or workload in promise.only):
            ratios[workload] = ratio(ours, rival, promise.of)
    met = all(median <= promise.most for median, _, _ in ratios.values())
    return Verdict(promise.text, ratios, met) if ratios else None


def ratio(of: Measured, to: Measured, what: Literal["cpu_us", "wall_us"] = "cpu_us") -> tuple[float, float, float]:
    """CPU by CPU, or wall by wall, of the same round: median, lower and upper quartile."""
    pairs = [one / other for one, other in zip(getattr(of, what), getattr(to, what), strict=True)]
    lower, median, upper = statistics.quantiles(pairs, n=4, method="inclusive") if len(pairs) > 1 else pairs * 3
    return median, lower, upper
