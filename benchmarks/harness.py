"""Short slices of every path in rotated order, in one process: CPU and wall time of each."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from .connects import Connects
from .paths.base import Path
from .workloads import Workload


class PeerConnected(Exception):
    """A pool opened a connection while it was measured."""


@dataclass(frozen=True)
class Effort:
    """How long and how wide to measure."""

    rounds: int
    slice_seconds: float
    """CPU time that a slice should take; fewer than ``2 * tasks`` requests it never has."""
    tasks: int


@dataclass
class Measured:
    """One path in one workload: a figure per slice, in the order of the rounds."""

    path: str
    workload: str
    requests: int
    """In one slice."""
    cpu_us: list[float] = field(default_factory=list)
    """CPU of this process per request, threads included, microseconds."""
    wall_us: list[float] = field(default_factory=list)
    """Wall time of the slice by its requests, microseconds: with ``tasks`` at a time it is not the time of one."""
    connects: int = 0


async def measure(workload: Workload, paths: Sequence[Path], connects: Connects, effort: Effort) -> list[Measured]:
    """Measures the paths side by side; each round begins with another one.

    The collector runs before each slice and stays on within: each pays for its own garbage and for nobody else's.

    - **errors**: ``PeerConnected`` if a path whose connections were all open opened one.
    """
    numbers = itertools.count()
    measured = {}
    fewest = 2 * effort.tasks
    for path in paths:
        with path.in_place():
            await _slice(path, workload, numbers, fewest, effort.tasks)  # compiles statements, fills caches
            cpu, _ = await _slice(path, workload, numbers, fewest, effort.tasks)
        requests = max(fewest, round(effort.slice_seconds / (cpu / fewest)))
        measured[path.name] = Measured(path.name, workload.name, requests)
    gc.collect()
    gc.freeze()
    try:
        for turn in range(effort.rounds):
            first = turn % len(paths)
            for path in (*paths[first:], *paths[:first]):
                result = measured[path.name]
                gc.collect()
                # The interpreter specialises code for the types that it meets, and has just met another path's.
                with path.in_place():
                    await _slice(path, workload, numbers, effort.tasks, effort.tasks)
                    await connects.since_last()
                    cpu, wall = await _slice(path, workload, numbers, result.requests, effort.tasks)
                    opened = await connects.since_last()
                if opened and not path.connects_by_design:
                    raise PeerConnected(
                        f"{workload.name}: {path.name} opened {opened} connections while it was measured"
                    )
                result.connects += opened
                result.cpu_us.append(cpu / result.requests * 1e6)
                result.wall_us.append(wall / result.requests * 1e6)
    finally:
        gc.unfreeze()
    return list(measured.values())


async def _slice(
    path: Path, workload: Workload, numbers: itertools.count[int], requests: int, tasks: int
) -> tuple[float, float]:
    """CPU and wall seconds of ``requests`` requests, ``tasks`` at a time."""
    arguments = iter([workload.arguments(next(numbers)) for _ in range(requests)])
    cpu, wall = time.process_time(), time.perf_counter()
    await path.serve(workload.method, arguments, tasks)
    return time.process_time() - cpu, time.perf_counter() - wall
