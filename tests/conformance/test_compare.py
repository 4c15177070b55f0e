"""What makes the comparison of Django's own tests fail."""

from __future__ import annotations

import pytest

from conformance.compare import compare, unfit
from conformance.excuses import OWN_LOOP, Excuse
from conformance.records import ERROR, FAILED, KILLED, PASSED, SKIPPED, Record

TEST = "app.tests.Tests.test_it"
EXCUSED = {TEST: Excuse(TEST, OWN_LOOP, None)}


def _problems(stock: Record, *ours: Record, excused: dict[str, Excuse] | None = None) -> list[str]:
    (app,) = compare([stock], ours, excused or {})
    return app.problems


def _native(outcome: str = PASSED, *, sent: int = 100, native: int = 100) -> Record:
    return Record(TEST, outcome, sent=sent, native=native)


STOCK = _native(native=0)


def test_nothing_is_said_of_a_test_that_passes_both_ways() -> None:
    assert _problems(STOCK, _native()) == []


@pytest.mark.parametrize("outcome", [FAILED, ERROR, KILLED, SKIPPED])
def test_a_test_that_passes_stock_alone_is_a_problem(outcome: str) -> None:
    assert _problems(STOCK, _native(outcome)) == [f"{TEST} passes stock and is {outcome} on the loop"]


def test_a_test_that_was_not_run_is_a_problem() -> None:
    assert f"{TEST} passes stock and is missing on the loop" in _problems(STOCK)


def test_a_test_whose_class_failed_is_told_with_the_error_of_its_class() -> None:
    (app,) = compare([STOCK], [Record("setUpClass (app.tests.Tests)", ERROR, note="no table")], {})

    assert app.differences[0].outcome == ERROR
    assert "no table" in app.differences[0].note


def test_an_excused_test_may_fail_and_its_statements_are_not_counted() -> None:
    assert _problems(STOCK, _native(ERROR, native=0), excused=EXCUSED) == []


def test_an_excuse_that_is_not_needed_is_a_problem() -> None:
    assert _problems(STOCK, _native(), excused=EXCUSED) == [f"{TEST} is excused and passes"]


def test_a_test_that_fails_stock_may_do_as_it_likes() -> None:
    assert _problems(_native(FAILED), _native()) == []


def test_a_skip_that_is_not_taken_is_a_problem() -> None:
    assert _problems(_native(SKIPPED), _native()) == [f"{TEST} is skipped stock and passed on the loop"]


def test_a_test_that_is_run_on_the_loop_alone_is_a_problem() -> None:
    other = Record("app.tests.Tests.test_other", PASSED)

    assert _problems(STOCK, _native(), other) == ["app.tests.Tests.test_other is run on the loop alone"]


def test_statements_that_go_another_way_are_a_problem() -> None:
    assert _problems(STOCK, _native(native=95)) == []
    assert _problems(STOCK, _native(native=94)) == ["app: 94 of 100 statements went through the async driver (94.0%)"]


def test_a_stock_run_in_which_much_fails_is_a_problem() -> None:
    passed = [Record(f"app.tests.Tests.test_{number}", PASSED) for number in range(1000)]
    failed = [Record(f"app.tests.Tests.test_bad_{number}", ERROR) for number in range(11)]

    assert unfit(passed + failed[:10]) == []
    assert unfit(passed + failed) == ["11 of 1011 tests fail stock, and are compared with nothing: is the server up?"]
