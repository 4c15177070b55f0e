"""A mixed transaction cancelled at each point where it waits: all or nothing, and nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from sqlalchemy import update

from django_bridge import atomic, database, run_django, scope
from tests.bridge.shared import Kind, clear, create, object_writes, orm_writes, outside, session_writes

pytestmark: list[pytest.MarkDecorator] = []


class CancelledAt:
    """A coroutine whose task is cancelled when it waits for the ``point``-th time."""

    reached = False

    def __init__(self, work: Coroutine[Any, Any, Any], point: int) -> None:
        self._work = work
        self._point = point

    def __await__(self) -> Generator[Any, Any, Any]:
        waits = 0
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                awaited = self._work.send(value) if error is None else self._work.throw(error)
            except StopIteration as done:
                return done.value
            waits += 1
            if waits == self._point:
                self.reached = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            value, error = None, None
            try:
                value = yield awaited
            except BaseException as err:
                error = err


async def mixed(hooks: list[str]) -> None:
    async with atomic() as db:
        row = await ContentType.objects.select_for_update().aget(model="row")
        await db.execute(update(Kind).where(Kind.id == row.pk).values(app_label="b"))
        await object_writes(db, "one")
        async with atomic():
            await orm_writes(db, "two")
            await session_writes(db, "three")
        try:
            async with atomic():
                await session_writes(db, "never")
                raise LookupError
        except LookupError:
            pass
        await run_django(create, "four")
        db.on_commit(lambda: hooks.append("ran"))
        await object_writes(db, "five")


async def cancelled_everywhere(*, in_scope: bool) -> int:
    """Runs it once for each point, and returns how many there are."""

    async def work(point: CancelledAt) -> None:
        if in_scope:
            async with scope():
                await point
        else:
            await point

    for number in range(1, 200):
        await clear()
        await ContentType.objects.acreate(app_label="a", model="row")
        hooks: list[str] = []
        point = CancelledAt(mixed(hooks), number)
        task = asyncio.create_task(work(point))
        await asyncio.wait([task])
        for _ in range(3):
            await asyncio.sleep(0)
        assert database().stats().checked_out == 0, number
        rows = await outside()
        assert rows in (["row"], ["five", "four", "one", "row", "three", "two"]), number
        label = await ContentType.objects.values_list("app_label", flat=True).aget(model="row")
        assert label == ("a" if rows == ["row"] else "b")
        assert not hooks or len(rows) == 6
        async with asyncio.timeout(5):  # nobody holds the row's lock
            await ContentType.objects.filter(model="row").aupdate(app_label="c")
        if not point.reached:
            assert hooks == ["ran"]
            assert task.exception() is None
            return number - 1
        assert task.cancelled(), number
    raise AssertionError("it never ended")


async def test_cancelled_anywhere_it_is_all_or_nothing(tx: Any) -> None:
    assert await cancelled_everywhere(in_scope=False) > 8


async def test_cancelled_anywhere_in_a_scope_that_goes_on_it_is_all_or_nothing(tx: Any) -> None:
    assert await cancelled_everywhere(in_scope=True) > 8
