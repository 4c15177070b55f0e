"""Every path must give the same results, or its time means nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from .data import ledger, reset_ledger
from .paths.base import Path
from .workloads import Workload

_REQUESTS = 12


class ResultsDiffer(Exception):
    """Two paths disagree about the same request."""


async def check_same_results(engine: AsyncEngine, paths: Sequence[Path], workload: Workload) -> int:
    """Compares each path with the first; returns how many requests were compared.

    - **errors**: ``ResultsDiffer`` with both results of the first request that differs.
    """
    expected: list[Any] = []
    for path in paths:
        with path.in_place():
            found = await _results(engine, path, workload)
        expected = expected or found
        for number, (theirs, its) in enumerate(zip(expected, found, strict=True)):
            if theirs != its:
                raise ResultsDiffer(
                    f"{workload.name}, result {number}: "
                    f"{paths[0].name} gives {repr(theirs)[:300]}, {path.name} gives {repr(its)[:300]}",
                )
    return _REQUESTS


async def _results(engine: AsyncEngine, path: Path, workload: Workload) -> list[Any]:
    request = getattr(path, workload.method)
    if not workload.rows_written:
        return [await request(*workload.arguments(number)) for number in range(_REQUESTS)]
    await reset_ledger(engine)
    for number in range(_REQUESTS):
        await request(*workload.arguments(number))
    written = await ledger(engine)
    due = workload.rows_written * _REQUESTS
    if len(written) != due:
        raise ResultsDiffer(f"{workload.name}: {path.name} left {len(written)} rows, not {due}")
    return written
