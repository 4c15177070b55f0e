"""Worker processes, so many at a time; one that dies is followed by another that goes on behind the test it died of."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .job import Job
from .records import KILLED, Record, Results

_ROOT = Path(__file__).resolve().parent.parent
_LIVES = 12


@dataclass(frozen=True)
class Done:
    """A job, and how it went."""

    job: Job
    seconds: float
    finished: bool
    """Whether all of its tests were run."""


def run_all(jobs: Iterable[Job], *, at_a_time: int, timeout: float, tell: Callable[[Done], None]) -> list[Done]:
    """Runs the jobs, each for at most ``timeout`` seconds; what they print is beside their results."""

    def run(job: Job) -> Done:
        done = _run(job, timeout)
        tell(done)
        return done

    with ThreadPoolExecutor(at_a_time) as pool:
        try:
            return list(pool.map(run, jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _stop()
            raise


def _run(job: Job, timeout: float) -> Done:
    began = time.monotonic()
    results = Results(job.results_file)
    job.results_file.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_LIVES):
        if results.read()[2]:
            break
        left = began + timeout - time.monotonic()
        ended = _process(job, left)
        _, running, finished = results.read()
        if finished or _stopped.is_set():
            break
        if running is None and not ended:
            break  # it died before, or after, all tests: the next one would as well
        if running is not None:
            results.add(Record(running, KILLED, note=f"the process ended: {job.results_file.with_suffix('.log')}"))
        if left <= 0:
            break
    return Done(job, time.monotonic() - began, results.read()[2])


_stopped = threading.Event()
_running: set[subprocess.Popen[bytes]] = set()


def _stop() -> None:
    """Ends every worker: the run was interrupted."""
    _stopped.set()
    for process in list(_running):
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With what its tests have started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _process(job: Job, timeout: float) -> bool:
    """Runs one worker; False if it failed by itself."""
    with job.results_file.with_suffix(".log").open("a") as log:
        process = start(job, "conformance.worker", log)
        _running.add(process)
        try:
            return process.wait(timeout=max(timeout, 0.0)) == 0
        except subprocess.TimeoutExpired:
            return True
        finally:
            _kill(process)
            process.wait()
            _running.discard(process)


def start(job: Job, module: str, log: IO[str]) -> subprocess.Popen[bytes]:
    """Starts a module that takes its job from its environment."""
    environment = {**os.environ, **job.as_environment()}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    # Django's tests are not run in it, and asyncio's part of it costs much.
    environment.pop("PYTHONDEVMODE", None)
    return subprocess.Popen(
        [sys.executable, "-m", module],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
