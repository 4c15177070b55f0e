"""``python -m conformance.verification``: a worker that reads the source of each excused test, and runs none."""

from __future__ import annotations

import json
from pathlib import Path

from .evidence import why_not
from .excuses import excuses
from .job import Job
from .worker import runtests


def main() -> None:
    """Writes ``{test: what is wrong with its excuse}`` for the excuses that do not hold."""
    job = Job.from_environment()
    with runtests(job) as module:
        module.setup_run_tests(0, None, None, list(job.labels))
        wrong = {}
        for excuse in excuses():
            if excuse.test.split(".", 1)[0] in job.labels:
                complaint = why_not(excuse.test, excuse.reason, Path(job.tests))
                if complaint is not None:
                    wrong[excuse.test] = complaint
    job.results_file.write_text(json.dumps(wrong))


if __name__ == "__main__":
    main()
