"""A separate project whose tests are written as teams write them today passes with the bridge, unchanged.

In random order and in parallel, on each database. ``VERIFY=1``, as ``make verify`` has it, runs every lane, twice.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

DJANGO_ALONE = ("catalogue", "orders")
DJANGO_ALONE_BY_PYTEST = (*DJANGO_ALONE, "pytests/test_sync.py", "pytests/test_async.py", "pytests/test_one_loop.py")
BRIDGED = (*DJANGO_ALONE, "counter")
BRIDGED_BY_PYTEST = (*BRIDGED, "pytests")
STOCK = {"DJANGO_SETTINGS_MODULE": "bookshop.stock"}

only_verify = pytest.mark.verify
twice_in_verify = pytest.mark.parametrize("run", ["first", "second"] if os.environ.get("VERIFY") else ["only"])
in_memory_only = pytest.mark.families("sqlite")
pytestmark = [pytest.mark.slow]


def shuffled() -> tuple[str, ...]:
    return ("--shuffle", str(random.randrange(2**31)))


def at_random() -> tuple[str, ...]:
    return ("-p", "randomly", f"--randomly-seed={random.randrange(2**31)}")


# With the bridge


@pytest.mark.verify
@twice_in_verify
def test_unittests_pass_in_parallel_and_in_random_order(shop: Any, run: str) -> None:
    shop.test("--parallel", "2", *shuffled(), *BRIDGED).require_success(at_least=120)


@pytest.mark.verify("postgresql", "sqlite")
@twice_in_verify
def test_pytests_pass_in_parallel_and_in_random_order(shop: Any, run: str) -> None:
    shop.pytest("-n", "2", *at_random(), *BRIDGED_BY_PYTEST).require_success(at_least=200)


@in_memory_only
@twice_in_verify
def test_unittests_pass_in_parallel_in_memory(in_memory: Any, run: str) -> None:
    in_memory.test("--parallel", "2", *shuffled(), *BRIDGED).require_success(at_least=120)


@only_verify
@in_memory_only
@twice_in_verify
def test_pytests_pass_in_parallel_in_memory(in_memory: Any, run: str) -> None:
    in_memory.pytest("-n", "2", *at_random(), *BRIDGED_BY_PYTEST).require_success(at_least=200)


@only_verify
@twice_in_verify
def test_unittests_pass_in_one_process(shop: Any, run: str) -> None:
    shop.test(*BRIDGED).require_success(at_least=120)


@only_verify
@twice_in_verify
def test_pytests_pass_in_one_process(shop: Any, run: str) -> None:
    shop.pytest(*at_random(), *BRIDGED_BY_PYTEST).require_success(at_least=200)


@only_verify
@in_memory_only
@twice_in_verify
def test_both_pass_in_one_process_in_memory(in_memory: Any, run: str) -> None:
    in_memory.test(*BRIDGED).require_success(at_least=120)
    in_memory.pytest(*at_random(), *BRIDGED_BY_PYTEST).require_success(at_least=200)


@in_memory_only
def test_unittests_pass_with_atomic_requests_in_memory(in_memory: Any) -> None:
    in_memory.test(*shuffled(), *BRIDGED, SHOP_ATOMIC_REQUESTS="1").require_success(at_least=120)


@only_verify
def test_both_pass_with_atomic_requests(shop: Any) -> None:
    shop.test(*shuffled(), *BRIDGED, SHOP_ATOMIC_REQUESTS="1").require_success(at_least=120)
    shop.pytest(*at_random(), *BRIDGED_BY_PYTEST, SHOP_ATOMIC_REQUESTS="1").require_success(at_least=200)


# Controls


@only_verify
@in_memory_only
def test_what_needs_django_alone_passes_without_the_bridge_in_memory(in_memory: Any) -> None:
    in_memory.pytest("-n", "2", *at_random(), *DJANGO_ALONE_BY_PYTEST, **STOCK).require_success(at_least=80)


@only_verify
def test_what_needs_django_alone_passes_without_the_bridge(shop: Any) -> None:
    shop.test("--parallel", "2", *shuffled(), *DJANGO_ALONE, **STOCK).require_success(at_least=50)
    shop.pytest("-n", "2", *at_random(), *DJANGO_ALONE_BY_PYTEST, **STOCK).require_success(at_least=80)


@only_verify
def test_with_joining_off_each_session_misses_the_rows_of_the_test(shop: Any) -> None:
    _requires_failures(shop)


@in_memory_only
def test_with_joining_off_each_session_misses_the_rows_of_the_test_in_memory(in_memory: Any) -> None:
    _requires_failures(in_memory)


def _requires_failures(shop: Any) -> None:
    control = shop.test("--tag", "reads_in_sessions", "counter", JOIN_TESTS="0")
    assert control.code == 1, control.output
    assert "ConfigurationError" not in control.output, control.output
    assert len(control.failures) == control.tests == 14, control.output
