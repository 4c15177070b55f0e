"""``python -m conformance.worker``: one job, through the functions of Django's own ``runtests.py``."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .job import Job


@contextmanager
def runtests(job: Job) -> Iterator[Any]:
    """Gives the module, in the place where it finds everything, as if it were the program."""
    sys.path.insert(0, job.tests)
    os.chdir(job.tests)
    os.environ["DJANGO_SETTINGS_MODULE"] = "conformance.settings"
    with tempfile.TemporaryDirectory(prefix="django_") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        yield importlib.import_module("runtests")


def main() -> None:
    """Runs the tests of the job of this process."""
    job = Job.from_environment()
    with runtests(job) as module:
        module.django_tests(
            verbosity=1,
            interactive=False,
            failfast=False,
            keepdb=False,
            reverse=False,
            test_labels=list(job.labels),
            debug_sql=False,
            parallel=1,
            tags=None,
            exclude_tags=["selenium"],
            test_name_patterns=None,
            start_at=None,
            start_after=None,
            pdb=False,
            buffer=False,
            timing=False,
            shuffle=False,
        )


if __name__ == "__main__":
    main()
