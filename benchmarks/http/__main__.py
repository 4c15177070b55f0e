"""``python -m benchmarks.http``: see ``--help``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from asyncdb.testing import DatabaseServer, MariaDBServer, PostgreSQLServer, PrivateServer
from asyncdb.testing.ports import free_port

from ..machine import describe_machine
from ..serving import takes_connections
from .client import load
from .site import SIDES, VIEWS

ROOT = Path(__file__).resolve().parents[2]
KINDS: dict[str, type[PrivateServer]] = {"mariadb": MariaDBServer, "postgresql": PostgreSQLServer}
_TICK = os.sysconf("SC_CLK_TCK")


def environment(server: DatabaseServer, side: str) -> dict[str, str]:
    place = {"HOST": server.host, "PORT": server.port, "USER": server.user, "PASSWORD": server.password}
    said = {"side": side, "database": {"ENGINE": f"django.db.backends.{server.family}", "NAME": "bench", **place}}
    return {**os.environ, "HTTP_BENCH": json.dumps(said), "PYTHONPATH": str(ROOT)}


@contextmanager
def served(server: DatabaseServer, side: str) -> Iterator[tuple[int, int]]:
    """A uvicorn of one process; its port and its number."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "benchmarks.http.site:application", "--port", str(port)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, "--log-level", "warning", "--no-access-log"],
            env=environment(server, side), cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            asyncio.run(takes_connections(process, port))
            yield port, process.pid
        except BaseException:
            log.seek(0)
            print(log.read()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fill(server: DatabaseServer) -> None:
    code = (
        "from benchmarks.http.site import application, ROWS; application();"
        "from django.core.management import call_command; call_command('migrate', verbosity=0);"
        "from django.contrib.contenttypes.models import ContentType as T; T.objects.all().delete();"
        "T.objects.bulk_create([T(pk=n, app_label='bench', model=f'model{n}') for n in range(1, ROWS + 1)])"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(server, "stock"), cwd=ROOT, check=True, timeout=120)


def cpu(pid: int) -> float:
    """Seconds of processor time of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def measure(server: DatabaseServer, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One slice of each side in turn, in another order each round."""
    slices: list[dict[str, Any]] = []
    with ExitStack() as stack:
        sides = {side: stack.enter_context(served(server, side)) for side in SIDES}
        for clients in options.clients:
            for number, view in enumerate(VIEWS):
                for round_ in range(options.rounds + 1):  # the first warms up
                    order = list(SIDES)
                    for side in order[round_ % len(order) :] + order[: round_ % len(order)]:
                        port, pid = sides[side]
                        before = cpu(pid)
                        found = asyncio.run(load(port, f"/{number}/", clients=clients, seconds=options.seconds))
                        if round_:
                            slices.append({
                                "clients": clients, "view": view, "side": side, "round": round_,
                                "per_second": found.answered / found.seconds,
                                "cpu_ms": (cpu(pid) - before) / found.answered * 1000,
                            })  # fmt: skip
    return slices


def report(family: str, slices: list[dict[str, Any]]) -> None:
    def values(figure: str, **of: Any) -> list[float]:
        return [one[figure] for one in slices if all(one[name] == value for name, value in of.items())]

    print(f"{family}; requests per second, and the server process's CPU for each; by stock, the median [quartiles]")
    for clients in sorted({one["clients"] for one in slices}):
        for view in VIEWS:
            print(f"\n{view}, {clients} clients")
            stock = values("per_second", clients=clients, view=view, side="stock")
            for side in SIDES:
                rates = values("per_second", clients=clients, view=view, side=side)
                spent = values("cpu_ms", clients=clients, view=view, side=side)
                ratios = [rate / other for rate, other in zip(rates, stock, strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
                print(
                    f"  {side:<26}{statistics.median(rates):8.0f} /s {statistics.median(spent):8.2f} ms"
                    f"   {middle:5.2f} [{low:.2f} to {high:.2f}]"
                )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--family", choices=KINDS, default="mariadb")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=5, help="slices of each side (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a slice (2)")
    parser.add_argument("--json", metavar="FILE", help="write the figures of every slice")
    options = parser.parse_args()
    for name, value in describe_machine().items():
        print(f"{name + ':':<11}{value}")
    with KINDS[options.family]() as server:
        server.create_database("bench")
        fill(server)
        slices = measure(server, options)
    report(options.family, slices)
    if options.json:
        Path(options.json).write_text(json.dumps(slices))


if __name__ == "__main__":
    main()
