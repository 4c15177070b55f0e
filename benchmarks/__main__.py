"""``python -m benchmarks``: starts a server of its own, compares, counts, measures, reports."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path as FilePath

from asyncdb.testing import MariaDBServer, PostgreSQLServer, PrivateServer

from .checks import ResultsDiffer, check_same_results
from .connects import MySQLConnects, PostgreSQLConnects
from .data import prepare
from .harness import Effort, Measured, PeerConnected, measure
from .machine import describe_machine
from .paths import PATHS
from .paths.base import Path, Place
from .paths.stock_engine import stock_engine
from .report import Report
from .trips import count_trips
from .workloads import WORKLOADS

_DATABASE = "benchmarks"
_QUICK = Effort(rounds=1, slice_seconds=0.01, tasks=8)
_FULL = Effort(rounds=30, slice_seconds=0.04, tasks=32)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="CPU and round trips of each path.")
    parser.add_argument("--family", choices=("mariadb", "postgresql"), default="mariadb")
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds: the results are compared, the times mean nothing"
    )
    parser.add_argument(
        "--paths", nargs="+", choices=[path.name for path in PATHS], help="these, besides the raw driver"
    )
    parser.add_argument("--workloads", nargs="+", choices=[each.name for each in WORKLOADS])
    parser.add_argument("--rounds", type=int, default=_FULL.rounds, help=f"slices of each path ({_FULL.rounds})")
    parser.add_argument("--tasks", type=int, default=_FULL.tasks, help=f"requests at a time ({_FULL.tasks})")
    parser.add_argument("--pool-size", type=int, default=10, help="connections of every pool (10, our default)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=FilePath, metavar="FILE", help="write the figures of every slice")
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace, server: PrivateServer) -> Report:
    """Runs everything on a server that has an empty database for it.

    - **errors**: ``ResultsDiffer``, ``PeerConnected``.
    """
    effort = _QUICK if options.quick else Effort(options.rounds, _FULL.slice_seconds, options.tasks)
    place = Place(server.family, server.host, server.port, server.user, server.password, _DATABASE, options.pool_size)
    of_family = [path for path in PATHS if server.family in path.families]
    chosen = [path for path in of_family if path is of_family[0] or options.paths is None or path.name in options.paths]
    workloads = [
        each(options.seed) for each in WORKLOADS if options.workloads is None or each.name in options.workloads
    ]
    connects = (MySQLConnects if server.family == "mysql" else PostgreSQLConnects)(place)

    administration = stock_engine(place)
    try:
        await prepare(administration, options.seed)
        trips = {
            path.name: await count_trips(path, [each for each in workloads if hasattr(path, each.method)], place)
            for path in chosen
        }
        paths = [path(place) for path in chosen]
        opened: list[Path] = []
        try:
            for path in paths:
                await path.open()
                opened.append(path)
            measured: list[Measured] = []
            compared = {}
            async with connects:
                for workload in workloads:
                    able = [path for path in paths if hasattr(path, workload.method)]
                    compared[workload.name] = await check_same_results(administration, able, workload)
                    measured += await measure(workload, able, connects, effort)
                version = await connects.server_version()
        finally:
            for path in opened:
                await path.close()
    finally:
        await administration.dispose()
    header = {
        **describe_machine(),
        "server": f"{version}, READ COMMITTED, private, on the same machine over TCP",
        "run": f"seed {options.seed}, {effort.tasks} tasks, pools of {place.pool_size}, {effort.rounds} slices of "
        f"{effort.slice_seconds:g} s of CPU of each path in rotated order"
        + (", QUICK: the times mean nothing" * options.quick),
    }
    return Report(header, chosen, workloads, compared, trips, measured)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    # Django's level on MySQL, and PostgreSQL's own: here everyone's, so that no path has to ask for it.
    level = {"transaction_isolation": "READ-COMMITTED"}
    with MariaDBServer(options=level) if options.family == "mariadb" else PostgreSQLServer() as server:
        server.create_database(_DATABASE)
        try:
            report = asyncio.run(run(options, server))
        except (ResultsDiffer, PeerConnected) as err:
            print(f"{type(err).__name__}: {err}", file=sys.stderr)
            return 1
    print(report.as_text())
    if options.json is not None:
        options.json.write_text(report.as_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
