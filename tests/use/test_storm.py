"""The storm of ``make soak``, short: what it finds is a defect, and what is wrong on purpose is found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from asyncdb.testing import DatabaseServer
from benchmarks.soak.storm import Outcome, Storm

pytestmark = [pytest.mark.verify, pytest.mark.families("mariadb", "postgresql"), pytest.mark.timeout(240)]


@pytest.fixture
def storm_database(server: DatabaseServer, database_name: str) -> Iterator[str]:
    name = f"{database_name}_storm"
    server.create_database(name)
    yield name
    server.drop_database(name)


def _storm(storm: Storm) -> Outcome:
    return asyncio.run(storm.run())


def test_a_short_storm_leaves_every_answer_its_own_and_the_ledger_exact(
    server: DatabaseServer, storm_database: str
) -> None:
    outcome = _storm(Storm(server, storm_database, seconds=20, clients=32))
    assert not outcome.problems, "\n".join([*outcome.problems, repr(outcome.errors), repr(outcome.figures)])
    kinds = {kind for kind, count in outcome.done.items() if count}
    assert kinds >= {"tenant/mixed/", "events/", "transfer/both/", "connections killed", "left by their client"}


def test_a_view_that_keeps_its_tenant_where_all_requests_share_it_is_found_out(
    server: DatabaseServer, storm_database: str
) -> None:
    broken = Storm(server, storm_database, seconds=5, clients=16, broken=True, only=("tenant/broken/",))
    assert any(problem.startswith("another tenant's at tenant/broken/") for problem in _storm(broken).problems)


def test_a_row_that_no_transfer_asked_for_and_a_lost_one_are_found_out(
    server: DatabaseServer, storm_database: str
) -> None:
    storm = Storm(server, storm_database, seconds=1, clients=0)
    lost = storm.ledger.next_one()
    lost.outcome = "done"
    storm.processes.create_tables()
    storm.ledger.fill()
    server.execute("UPDATE site_account SET balance = balance + 1 WHERE id = 3", database=storm_database)
    found: list[str] = []
    storm.ledger.judge(found.append)
    assert [problem.partition(":")[0] for problem in found] == ["ledger"] * 3
    assert "is there 0 times" in found[0]
