"""What is promised of the figures, and whether they keep it. A further promise is one more line in ``PROMISES``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from .harness import Measured


@dataclass(frozen=True)
class Promise:
    """That ``ours`` costs no more CPU than ``rival``, in every workload that both have."""

    text: str
    ours: str
    rival: str


@dataclass(frozen=True)
class Verdict:
    text: str
    ratios: Mapping[str, tuple[float, float, float]]
    """Of CPU, by workload: ours by the rival's in the same round; median, lower and upper quartile."""
    met: bool


PROMISES = (
    Promise("a session on our pool costs no more CPU than a stock AsyncSession", "our-session", "session"),
    Promise("... nor than one without pre-ping", "our-session", "session-no-ping"),
)


def judge(promise: Promise, measured: list[Measured]) -> Verdict | None:
    """None if the run has not got the figures."""
    found = {(each.workload, each.path): each for each in measured}
    ratios = {}
    for (workload, path), ours in found.items():
        rival = found.get((workload, promise.rival))
        if path == promise.ours and rival is not None:
            ratios[workload] = ratio(ours, rival)
    return Verdict(promise.text, ratios, all(median <= 1 for median, _, _ in ratios.values())) if ratios else None


def ratio(of: Measured, to: Measured) -> tuple[float, float, float]:
    """CPU by CPU of the same round: median, lower and upper quartile."""
    pairs = [one / other for one, other in zip(of.cpu_us, to.cpu_us, strict=True)]
    lower, median, upper = statistics.quantiles(pairs, n=4, method="inclusive") if len(pairs) > 1 else pairs * 3
    return median, lower, upper
