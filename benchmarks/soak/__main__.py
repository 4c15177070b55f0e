"""``python -m benchmarks.soak [seconds] [family …] [threads]``, by default 600.

A storm of half of them on MariaDB and another one on PostgreSQL (``storm.py``); then mixed load with faults in one
process, half of them on both together (``mixed.py``). Exit status 1 when anything was not as it must be.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys

from asyncdb.testing import MariaDBServer, PostgreSQLServer

from .storm import Outcome, Storm

THREADS = "threads"
"""Among the arguments: sync code of the storms is on the pool of threads."""


def report(family: str, seconds: float, outcome: Outcome) -> None:
    print(f"storm on {family}: {seconds:g} s, {sum(outcome.done.values())} done")
    for title, counted in (("done", outcome.done), ("errors", outcome.errors)):
        print(f"  {title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counted.items())))
    print(f"  {outcome.figures}")
    for problem in outcome.problems:
        print(f"  PROBLEM: {problem}")


def main(seconds: float, families: list[str], *, thread_pool: bool) -> int:
    failed = False
    for family, kind in (("mariadb", MariaDBServer), ("postgresql", PostgreSQLServer)):
        if family in families:
            with kind() as server:
                server.create_database("storm")
                storm = Storm(server, "storm", seconds=seconds / 2, thread_pool=thread_pool)
                outcome = asyncio.run(storm.run())
            report(family, seconds / 2, outcome)
            failed = failed or bool(outcome.problems)
    mixed = subprocess.run([sys.executable, "-m", "benchmarks.soak.mixed", str(seconds / 2)], check=False)
    return int(failed or mixed.returncode != 0)


if __name__ == "__main__":
    given = sys.argv[1:]
    numbers = [word for word in given if word.replace(".", "").isdigit()]
    families = [word for word in given if word not in {*numbers, THREADS}] or ["mariadb", "postgresql"]
    sys.exit(main(float(numbers[0]) if numbers else 600.0, families, thread_pool=THREADS in given))
