"""An excuse is believed only if the test's own source bears it out."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from conformance.evidence import why_not
from conformance.excuses import MOCKS_CONNECT, MUST_RAISE, OWN_LOOP, REFUSES, WrongExcuse, excuses, without_a_test

SOURCE = '''
import asyncio
import unittest
from unittest import mock


class Base(unittest.TestCase):
    def run_it(self, coroutine):
        return asyncio.run(coroutine)

    def fake(self):
        return mock.patch.object(self, "connect")


class Tests(Base):
    def test_raises(self):
        with self.assertRaisesMessage(SynchronousOnlyOperation, "no"):
            list(Book.objects.all())

    async def test_refuses(self):
        msg = "You cannot use ATOMIC_REQUESTS with async views."
        with self.assertRaisesMessage(RuntimeError, msg):
            await self.async_client.get("/async_regular/")

    def test_mentions(self):
        """SynchronousOnlyOperation, asyncio.run(), mock.patch("connect")"""
        error = SynchronousOnlyOperation

    def test_runs(self):
        self.run_it(None)

    def test_patches(self):
        with self.fake():
            helper()

    @mock.patch("django.db.backends.base.base.BaseDatabaseWrapper.connect")
    def test_is_patched(self, patched):
        pass

    def test_patches_another(self):
        with mock.patch("django.db.connections.close_all"):
            pass


def helper():
    asyncio.new_event_loop()
'''


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "suite_of_evidence.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "suite_of_evidence", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("test_raises", MUST_RAISE),
        ("test_runs", OWN_LOOP),
        ("test_patches", OWN_LOOP),
        ("test_patches", MOCKS_CONNECT),
        ("test_is_patched", MOCKS_CONNECT),
        ("test_refuses", REFUSES),
    ],
)
def test_a_reason_is_found_in_the_test_and_in_what_it_calls(suite: Path, method: str, reason: str) -> None:
    assert why_not(f"suite_of_evidence.Tests.{method}", reason, suite) is None


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("test_mentions", MUST_RAISE),
        ("test_mentions", OWN_LOOP),
        ("test_mentions", MOCKS_CONNECT),
        ("test_raises", OWN_LOOP),
        ("test_runs", MOCKS_CONNECT),
        ("test_patches_another", MOCKS_CONNECT),
        ("test_raises", REFUSES),
    ],
)
def test_a_reason_that_the_source_does_not_show_is_refused(suite: Path, method: str, reason: str) -> None:
    assert why_not(f"suite_of_evidence.Tests.{method}", reason, suite) == f"nothing in its source {reason}"


@pytest.mark.parametrize("name", ["Tests.test_gone", "Gone.test_raises"])
def test_an_excuse_for_a_test_that_is_gone_is_refused(suite: Path, name: str) -> None:
    assert why_not(f"suite_of_evidence.{name}", OWN_LOOP, suite) == "there is no such test"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('[[excused]]\nreason = "it is slow"\ntests = ["a.B.c"]', "'it is slow' is no reason"),
        (f'[[excused]]\nreason = "{OWN_LOOP}"\ntests = ["a.B.c", "a.B.c"]', "a.B.c is there twice"),
        (f'[[excused]]\nreason = "{OWN_LOOP}"\nbecause = "x"\ntests = ["a.B.c"]', "unknown keys"),
    ],
)
def test_a_file_of_excuses_takes_three_reasons_and_no_others(tmp_path: Path, written: str, said: str) -> None:
    path = tmp_path / "excused.toml"
    path.write_text(dedent(written))

    with pytest.raises(WrongExcuse, match=said):
        excuses(path)


def test_an_excuse_whose_test_was_not_among_all_that_were_run_is_a_problem() -> None:
    gone = ["app.tests.Tests.test_gone is excused, and there is no such test"]

    assert without_a_test(["app.tests.Tests.test_gone", "app.tests.Tests.test_it"], {"app.tests.Tests.test_it"}) == gone
    assert without_a_test(["app.tests.Tests.test_gone"], set(), {"app"}) == gone
    assert without_a_test(["app.tests.Tests.test_gone"], set(), {"other"}) == []
