"""Random programs of nested blocks and writes from either side, against a model that keeps its rows in a list."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from asyncdb import Session, registry
from django_bridge import atomic, database, run_django
from tests.bridge.shared import (
    bare_sync_code_writes,
    bare_thread_writes,
    clear,
    create_table,
    object_writes,
    orm_reads,
    orm_writes,
    outside,
    session_reads,
    session_writes,
    sync_code_writes,
    thread_writes,
)

pytestmark = pytest.mark.native_only("asgiref forgets for whom a thread waits, which is cured with the hooks alone")


PROGRAMS = int(os.environ.get("SHARED_TX_PROGRAMS", "100"))
"""Programs a family."""

WRITE = {
    "session": session_writes,
    "object": object_writes,
    "orm": orm_writes,
    "sync code": sync_code_writes,
    "thread": thread_writes,
    "bare sync code": bare_sync_code_writes,
    "bare thread": bare_thread_writes,
}

# A step is a write, a hook, a reading of both sides, or a block: (kind, ending, steps).
steps = st.deferred(lambda: st.lists(st.one_of(st.sampled_from([*WRITE, "hook", "read"]), block), max_size=4))
block = st.tuples(
    st.sampled_from(["async", "joined", "sync", "thread block", "begin_nested", "by hand"]),
    st.sampled_from(["ends", "raises"]),
    steps,
)
programs = st.lists(st.tuples(st.just("async"), st.sampled_from(["ends", "raises"]), steps), min_size=1, max_size=3)


class Boom(Exception):
    pass


class Outcome:
    """What is in the database, which hooks have run, what was read inside."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.hooks: list[str] = []
        self.reads: list[list[str]] = []

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return str(vars(self))


class Model(Outcome):
    def run(self, program: Any) -> None:
        self._numbers = map(str, itertools.count(100))
        for kind, ending, body in program:
            with contextlib.suppress(Boom):
                self._block(kind, ending, body)
        del self._numbers

    def _block(self, kind: str, ending: str, body: Any) -> None:
        rows, hooks = len(self.rows), len(self.hooks)
        try:
            for step in body:
                number = next(self._numbers)
                if isinstance(step, str) and step in WRITE:
                    self.rows.append(number)
                elif step == "hook":
                    self.hooks.append(number)
                elif step == "read":
                    self.reads.append(list(self.rows))
                else:
                    try:
                        self._block(*step)
                    except Boom:
                        if step[0] == "joined":
                            raise
            if ending == "raises":
                raise Boom
        except Boom:
            if kind != "joined":
                del self.rows[rows:], self.hooks[hooks:]
            raise


class Run(Outcome):
    _numbers: Iterator[str]

    async def run(self, program: Any) -> None:
        self._numbers = map(str, itertools.count(100))
        for kind, ending, body in program:
            with contextlib.suppress(Boom):
                await self._block(None, kind, ending, body)
            assert database().stats().checked_out == 0
        self.rows = await outside()
        del self._numbers

    async def _block(self, db: Any, kind: str, ending: str, body: Any) -> None:
        if kind in ("async", "joined"):
            async with atomic(savepoint=kind == "async") as made:
                await self._body(made, ending, body)
        elif kind == "begin_nested":
            async with db.begin_nested():
                await self._body(db, ending, body)
        elif kind == "by hand":
            sid = await run_django(connection.savepoint)
            try:
                await self._body(db, ending, body)
            except Boom:
                await run_django(connection.savepoint_rollback, sid)
                raise
            await run_django(connection.savepoint_commit, sid)
        else:

            def in_sync_code() -> None:
                with transaction.atomic():
                    async_to_sync(self._body)(db, ending, body)

            await (run_django(in_sync_code) if kind == "sync" else sync_to_async(in_sync_code)())

    async def _body(self, db: Session, ending: str, body: Any) -> None:
        for step in body:
            number = next(self._numbers)
            if isinstance(step, str) and step in WRITE:
                await WRITE[step](db, number)
            elif step == "hook":
                db.on_commit(lambda number=number: self.hooks.append(number))  # type: ignore[misc]
            elif step == "read":
                read = await orm_reads(db)
                assert await session_reads(db) == read
                self.reads.append(read)
            else:
                try:
                    await self._block(db, *step)
                except Boom:
                    if step[0] == "joined":
                        raise
        if ending == "raises":
            raise Boom


@pytest.mark.verify("postgresql")
@pytest.mark.timeout(120 + PROGRAMS)
@settings(
    max_examples=PROGRAMS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
@given(program=programs)
def test_random_programs_do_what_the_model_does(program: Any, bridged_now: Any, django_db_blocker: Any) -> None:
    async def main() -> Run:
        run = Run()
        try:
            await create_table()
            await clear()
            await run.run(program)
        finally:
            await registry.close_all()
        return run

    model = Model()
    model.run(program)
    with django_db_blocker.unblock():
        assert vars(asyncio.run(main())) == vars(model)
