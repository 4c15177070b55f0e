"""The settings of a worker: Django's own for its tests, on the job's databases."""

from __future__ import annotations

from test_sqlite import *  # noqa: F403  # it is in the folder of Django's tests

from conformance.job import Job

DATABASES = Job.from_environment().databases
TEST_RUNNER = f"conformance.runner.{Job.from_environment().way.capitalize()}Runner"
