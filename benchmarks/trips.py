"""Round trips of a request, counted at a proxy, one request at a time, in a pass of its own."""

from __future__ import annotations

from dataclasses import replace

from asyncdb.testing import Proxy

from .paths.base import Path, Place
from .workloads import Workload

_WARM_UP = 12
"""More than psycopg's prepare_threshold, so that what is counted is what goes on."""
_REQUESTS = 10


async def count_trips(path: type[Path], workloads: list[Workload], place: Place) -> dict[str, float]:
    """Round trips per request, for each workload by name."""
    trips = {}
    with Proxy(place.host, place.port) as proxy:
        subject = path(replace(place, port=proxy.port, pool_size=1))
        await subject.open()
        try:
            for workload in workloads:
                request = getattr(subject, workload.method)
                with subject.in_place():
                    for number in range(_WARM_UP):
                        await request(*workload.arguments(number))
                    proxy.reset()
                    for number in range(_REQUESTS):
                        await request(*workload.arguments(number))
                trips[workload.name] = proxy.round_trips / _REQUESTS
        finally:
            await subject.close()
    return trips
