"""What shares what: who opens, who asks within or after, and what was opened; beside stock Django, cell by cell.

One process of stock Django and one with the bridge, whose threads are on their pool, send a request for each cell
through Django's own handler (``project.py``); the manifest lists the cells.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .project import Cell, cells

Table = dict[str, str]
_REFUSED_TO_CHILD_TASKS = "ScopeOwnedByTask"


@pytest.fixture(scope="module")
def tables() -> dict[tuple[str, str], Table]:
    """What was found, by mode and family: each is run once for all cells."""
    return {}


@pytest.fixture
def table(family: str, server_url: str, tables: dict[tuple[str, str], Table]) -> Callable[[str], Table]:
    def found(mode: str) -> Table:
        if (mode, family) not in tables:
            ran = subprocess.run(
                [sys.executable, "-m", "tests.sharing.project", mode, server_url],
                cwd=Path(__file__).resolve().parents[2],
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
            tables[mode, family] = json.loads(ran.stdout.splitlines()[-1])
        return tables[mode, family]

    return found


def _of_ours(cell: Cell, family: str) -> str:
    """What stock Django cannot do, or does not have: the docs name each."""
    if cell.asker == "child_task":
        return "seen" if cell.state in {"nothing", "wrapper"} else _REFUSED_TO_CHILD_TASKS
    if cell.state != "transaction":
        return "seen"
    if cell.asker in {"session", "session_beneath"} or (cell.asker == "verbs" and cell.opener == "sync_middleware"):
        # Beneath sync code nobody has said whether to join; in an async block a session is a transaction of its own,
        # for which SQLite has no second writer.
        if cell.opener != "async_middleware":
            return "JoinRefused"
        return "OperationalError" if family == "sqlite" else "not seen"
    return "seen, rolled back"


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_whoever_asks_finds_what_was_opened(cell: Cell, family: str, table: Callable[[str], Table]) -> None:
    ours, stock = table("bridged")[str(cell)], table("stock").get(str(cell))
    opened_by_async_code = cell.opener.startswith("async") and cell.state != "nothing"
    if stock is None or opened_by_async_code:
        assert ours == _of_ours(cell, family)
    else:
        assert ours == stock
        assert stock.startswith("seen"), "the cell finds nothing on stock"


@pytest.mark.verify("mariadb", "postgresql")
def test_the_cells_are_told_apart(family: str, table: Callable[[str], Table]) -> None:
    """The control: where nothing is opened for it, the same asker finds neither a setting nor a row."""
    alone = table("alone")
    for cell in cells():
        if cell.state in {"setting", "transaction"} and str(cell) in alone:
            assert alone[str(cell)].startswith("not seen"), cell
