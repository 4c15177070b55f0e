"""``python -m conformance.worker``: one job, through the functions of Django's own ``runtests.py``."""

from __future__ import annotations

import os
import sys
import tempfile

from .job import Job


def main() -> None:
    job = Job.from_environment()
    sys.path.insert(0, job.tests)
    os.chdir(job.tests)
    os.environ["DJANGO_SETTINGS_MODULE"] = "conformance.settings"
    with tempfile.TemporaryDirectory(prefix="django_") as folder:
        # As runtests.py does where it is the program.
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        import runtests

        runtests.django_tests(
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
