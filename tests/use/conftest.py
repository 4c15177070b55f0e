"""What real use broke, one file a kind; ``manifest/`` lists the cases, of which none may be missing or skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bridge.conftest import (  # noqa: F401  (fixtures)
    bridged,
    bridged_now,
    default,
    migrated,
    project,
    second_name,
    shop,
    sync_shop,
    two,
    tx,
)

collect_ignore = ["users_tests"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped, and no case of tests/use may be: {report.longrepr}"
    return report
