"""One project on one database: a worker process in its environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncdb.testing import DatabaseServer

from .environments import ROOT, Project
from .job import Job
from .report import Result

__all__ = ["run"]

_WORKER = ("-m", "projects.worker")
_ENGINES = {"mariadb": "mysql", "mysql": "mysql", "postgresql": "postgresql", "sqlite": "sqlite3"}


def run(
    project: Project,
    family: str,
    interpreter: Path,
    server: DatabaseServer | None,
    *,
    rows: int,
    seed: int,
    timeout: float,
    log: Path,
    worker: Sequence[str] = _WORKER,
) -> Result:
    """Runs ``worker``, the interpreter's arguments, for at most ``timeout`` seconds; what it prints is in ``log``."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="projects_") as folder:
        job = Job(
            project=project.name,
            family=family,
            folder=folder,
            report=str(Path(folder) / "report.json"),
            rows=rows,
            seed=seed,
            databases={"default": _database(project, family, server, folder)},
        )
        failure = _run([str(interpreter), *worker], job, timeout, log)
        findings = {} if failure else json.loads(Path(job.report).read_text())
    return Result(
        project=project.name,
        version=project.version,
        family=family,
        seconds=round(time.monotonic() - began, 1),
        findings=findings,
        failure=failure,
        excused=project.excused,
    )


def _database(project: Project, family: str, server: DatabaseServer | None, folder: str) -> dict[str, Any]:
    engine = f"django.db.backends.{_ENGINES[family]}"
    if server is None:
        return {"ENGINE": engine, "NAME": str(Path(folder) / "db.sqlite3")}
    name = f"projects_{project.name}"
    server.create_database(name)
    place = {"HOST": server.host, "PORT": server.port, "USER": server.user, "PASSWORD": server.password}
    return {"ENGINE": engine, "NAME": name, **place}


def _run(command: Sequence[str], job: Job, timeout: float, log: Path) -> str:
    """Returns why there is no report."""
    environment = {**os.environ, **job.as_environment(), "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDEVMODE", None)  # the projects' own warnings are no concern of this
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as printed:
        process = subprocess.Popen(
            command,
            cwd=job.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"it did not end within {timeout:g} s: {log}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code or not Path(job.report).exists():
        last = (log.read_text().strip().splitlines() or [""])[-1]
        return f"it ended with {code}: {last[:300]}: {log}"
    return ""
