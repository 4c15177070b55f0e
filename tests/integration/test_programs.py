"""Random programs of nested blocks, against a model that keeps its rows in a Python list."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from asyncdb import Database, DatabaseConfig, TransactionPoisoned
from tests.tables import Book, create_tables


class Boom(Exception):
    pass


# A program is a list of blocks; a block has a kind, an ending, and steps: writes, hooks, and nested blocks.
steps = st.deferred(lambda: st.lists(st.one_of(st.just("write"), st.just("hook"), block), max_size=4))
block = st.tuples(st.sampled_from(["atomic", "joined"]), st.sampled_from(["ends", "raises"]), steps)
programs = st.lists(st.tuples(st.just("atomic"), st.sampled_from(["ends", "raises"]), steps), min_size=1, max_size=3)


class Model:
    """What the database should hold and which hooks should have run."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.hooks: list[int] = []

    def run(self, program: Any, numbers: Any) -> None:
        for _, ending, inner in program:
            rows, hooks, healthy = self._block(inner, numbers)
            if ending == "ends" and healthy:
                self.rows += rows
                self.hooks += hooks

    def _block(self, body: Any, numbers: Any) -> tuple[list[int], list[int], bool]:
        rows: list[int] = []
        hooks: list[int] = []
        for step in body:
            number = next(numbers)
            if step == "write":
                rows.append(number)
            elif step == "hook":
                hooks.append(number)
            else:
                kind, ending, inner = step
                inner_rows, inner_hooks, healthy = self._block(inner, numbers)
                if kind == "joined" and (ending == "raises" or not healthy):
                    return rows, hooks, False  # the block that it joined is spoiled, and the program leaves it
                if ending == "ends" and healthy:
                    rows += inner_rows
                    hooks += inner_hooks
                elif not healthy:
                    return rows, hooks, False
        return rows, hooks, True


def _spoils(body: Any) -> bool:
    """Whether a joined block raises somewhere within a savepoint: there asyncdb is stricter than Django."""
    return any(
        isinstance(step, tuple) and ((step[0] == "joined" and step[1] == "raises") or _spoils(step[2])) for step in body
    )


async def _run(database: Database, program: Any, numbers: Any, hooks: list[int]) -> None:
    async def run_block(kind: str, ending: str, body: Any) -> None:
        async with database.atomic(savepoint=kind == "atomic") as db:
            for step in body:
                number = next(numbers)
                if step == "write":
                    await db.execute(insert(Book).values(id=number, title="x"))
                elif step == "hook":
                    db.on_commit(lambda number=number: hooks.append(number))
                else:
                    try:
                        await run_block(*step)
                    except Boom:
                        if step[0] == "joined":
                            raise
            if ending == "raises":
                raise Boom

    for kind, ending, body in program:
        with contextlib.suppress(Boom, TransactionPoisoned):
            await run_block(kind, ending, body)


def _check(url: str, program: Any) -> None:
    import itertools

    async def main() -> tuple[list[int], list[int]]:
        hooks: list[int] = []
        database = Database(DatabaseConfig.from_url(url))
        try:
            await create_tables(database.engine)
            await _run(database, program, itertools.count(1), hooks)
            assert database.stats().checked_out == 0
            return await database.fetch_all(select(Book.id).order_by(Book.id), into=int), hooks
        finally:
            await database.close()

    model = Model()
    rows, hooks = asyncio.run(main())
    model.run(program, itertools.count(1))
    assert rows == model.rows
    assert hooks == model.hooks


def _without_joined_failures(program: Any) -> bool:
    return not any(_spoils(body) for _, _, body in program)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs.filter(_without_joined_failures))
def test_nested_blocks_on_sqlite_do_what_the_model_does(program: Any) -> None:
    _check("sqlite://", program)
