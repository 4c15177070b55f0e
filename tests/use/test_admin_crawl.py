"""Every page of an admin with ten models, sign-in, and class-based views: the bridge beside Django as it is.

The project is in ``crawl/``; ``crawl/script.py`` is what its clients do. Each run is a process with a fresh database.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from asyncdb.testing import DatabaseServer
from tests.bridge.conftest import ENGINES
from tests.use.crawl.compare import differences, shown

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 500.0
"""A bound for what hangs. On an idle machine a run takes ten."""

pytestmark = pytest.mark.timeout(SECONDS + 60)

PLAIN = {"clients": 1, "links_of_a_kind": 1, "served": False, "switch_interval": None, "atomic_requests": False}
STOCK: dict[str, Any] = {"bridged": False}
BRIDGED: dict[str, Any] = {"bridged": True}
HASTY: dict[str, Any] = {"bridged": True, "switch_interval": 1e-6}

Crawls = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def crawls(family: str, server: DatabaseServer | None, database_name: str, tmp_path: Path) -> Iterator[Crawls]:
    """``crawls({"bridged": True}, ...)``: these runs side by side, each on a database of its own; their outcomes."""
    with ExitStack() as made:

        def run(*runs: dict[str, Any], **for_all: Any) -> list[dict[str, Any]]:
            started = []
            for number, said in enumerate(runs):
                database = {
                    "ENGINE": ENGINES["mysql" if family == "mariadb" else family],
                    **_place(number, together="clients" in for_all),
                }
                async_db = {"driver_options": {"get_server_public_key": True}} if family == "mysql" else {}
                environment = json.dumps({"database": database, "async_db": async_db, **PLAIN, **for_all, **said})
                out = tmp_path / f"crawl{number}.json"
                log = made.enter_context((tmp_path / f"crawl{number}.log").open("w+"))
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.use.crawl", str(out)],
                    env={
                        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "DJANGO_SETTINGS"))},
                        "CRAWL": environment,
                        "PYTHONHASHSEED": "0",  # what a set of keys adds to a relation, it adds in the same order
                    },
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                )
                made.callback(_end, process)
                started.append((process, out, log))
            deadline = time.monotonic() + SECONDS
            outcomes = []
            for process, out, log in started:
                code = process.wait(max(1.0, deadline - time.monotonic()))
                log.seek(0)
                assert code == 0, f"the crawl's process ended with {code}\n{log.read()[-6000:]}"
                outcomes.append({**json.loads(out.read_text()), "log": log.read()})
            return outcomes

        def _place(number: int, *, together: bool) -> dict[str, Any]:
            name = f"{database_name}_crawl{number}"
            if server is None:
                # Of several writers Django's own would be told that the database is locked.
                return {"NAME": name, "OPTIONS": {"timeout": 60, "transaction_mode": "IMMEDIATE"} if together else {}}
            server.create_database(name)
            made.callback(server.drop_database, name)
            place = {"HOST": server.host, "PORT": server.port, "USER": server.user, "PASSWORD": server.password}
            return {"NAME": name, **place}

        yield run


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _require_same(stock: dict[str, Any], *others: dict[str, Any]) -> None:
    answers = [answer for crawl in stock["crawls"] for _, answers in crawl for answer in answers]
    failed = [answer["asked"] + ": " + answer["failed"] for answer in answers if "failed" in answer]
    assert not failed, "the script does not fit its project"
    assert len(answers) > 100
    for other in others:
        if found := differences(stock, other):
            pytest.fail(f"{shown(found)}\n\nthe bridge's server said:\n{other['log'][-5000:]}", pytrace=False)


def test_each_page_is_what_django_alone_answers_though_threads_are_switched_all_the_time(crawls: Crawls) -> None:
    _require_same(*crawls(STOCK, HASTY))


@pytest.mark.verify
@pytest.mark.parametrize("atomic_requests", [False, True], ids=["as it is", "ATOMIC_REQUESTS"])
def test_each_page_is_the_same_with_more_of_the_links(crawls: Crawls, atomic_requests: bool) -> None:
    _require_same(*crawls(STOCK, BRIDGED, HASTY, atomic_requests=atomic_requests, links_of_a_kind=3))


@pytest.mark.verify
@pytest.mark.parametrize(
    "server_of", [{}, {"switch_interval": 1e-6}], ids=["as it is", "threads switched all the time"]
)
def test_eight_clients_at_once_get_each_their_own_pages_from_uvicorn(crawls: Crawls, server_of: dict[str, Any]) -> None:
    _require_same(*crawls(STOCK, {**BRIDGED, **server_of}, served=True, clients=8))
