"""Django's test runner, that writes down what became of each test; and the same on an event loop."""

from __future__ import annotations

import asyncio
import faulthandler
import sys
import time
import traceback
import unittest
from typing import Any

from django.test.runner import DiscoverRunner
from django.test.utils import iter_test_cases  # type: ignore[attr-defined]  # the stubs leave it out

from .counting import Counter
from .job import Job
from .records import ERROR, FAILED, PASSED, SKIPPED, Record, Results
from .selection import TIMED

_KEPT = ("_test_serialized_contents", "mysql_is_mariadb")

_job = Job.from_environment()
_results = Results(_job.results_file)
_counter = Counter()


class Result(unittest.TextTestResult):
    """Hands every outcome on as soon as it is known, and ends the process if a test does not come back."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._began = 0.0
        self._outcome, self._note = PASSED, ""

    def startTestRun(self) -> None:
        super().startTestRun()
        _watch()

    def stopTestRun(self) -> None:
        super().stopTestRun()
        faulthandler.cancel_dump_traceback_later()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        _watch()
        _results.begin(test.id())
        self._began = time.perf_counter()
        self._outcome, self._note = PASSED, ""

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        _watch()
        seconds = round(time.perf_counter() - self._began, 4)
        _results.add(Record(test.id(), self._outcome, seconds, *_counter.take(), self._note))

    def _ended(self, test: unittest.TestCase, outcome: str, note: str) -> None:
        if not hasattr(test, "_testMethodName"):  # setUpClass and its like are no tests; nobody starts or stops them
            _results.add(Record(test.id(), outcome, note=note))
        elif outcome == ERROR or self._outcome in (PASSED, SKIPPED):
            self._outcome, self._note = outcome, note

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._ended(test, ERROR, _told(err))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._ended(test, FAILED, _told(err))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            failed = issubclass(err[0], test.failureException)
            self._ended(test, FAILED if failed else ERROR, f"{subtest}\n{_told(err)}")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        # A test one of whose subtests is skipped is passed by the rest.
        if not hasattr(test, "test_case"):
            self._ended(test, SKIPPED, reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._ended(test, FAILED, "an expected failure passed")


def _told(err: Any) -> str:
    return "".join(traceback.format_exception(*err))[-8000:]


def _watch() -> None:
    """The process prints where all threads are and ends, unless the next call comes in time."""
    faulthandler.dump_traceback_later(_job.test_timeout, exit=True, file=sys.__stderr__ or sys.stderr)


class StockRunner(DiscoverRunner):
    """Django's way."""

    def build_suite(self, *args: Any, **kwargs: Any) -> Any:
        suite = super().build_suite(*args, **kwargs)
        left_out = {record.test for record in _results.read()[0]}.union(TIMED)
        return self.test_suite([test for test in iter_test_cases(suite) if test.id() not in left_out])

    def get_resultclass(self) -> type[Result]:
        return Result

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        _counter.install(_job.family)
        result = self._run(suite)
        _results.finish()
        return result

    def _run(self, suite: Any) -> Any:
        return super().run_suite(suite)


class OursRunner(StockRunner):
    """All tests in one greenlet of one task, in one scope; only the databases are made and removed Django's way."""

    def _run(self, suite: Any) -> Any:
        from django.db import connections

        # What Django keeps on the wrapper that made the databases: rows of migrations, which tests want back, and what
        # it has asked of the server by then, which they replace. On the loop another wrapper would be found.
        kept = {
            each.alias: {name: vars(each)[name] for name in _KEPT if name in vars(each)} for each in connections.all()
        }
        return asyncio.run(self._on_the_loop(suite, kept))

    async def _on_the_loop(self, suite: Any, kept: dict[str, dict[str, Any]]) -> Any:
        from django.apps import AppConfig
        from django.db import connections

        from asyncdb import registry
        from django_bridge import run_django, scope

        # What a project gets by INSTALLED_APPS, without a change in what the tests see there.
        AppConfig.create("django_bridge").ready()

        def run() -> Any:
            for alias, values in kept.items():
                vars(connections[alias]).update(values)
            return super(OursRunner, self)._run(suite)

        try:
            async with scope():
                return await run_django(run)
        finally:
            await registry.close_all()
