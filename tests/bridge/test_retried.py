"""Retried transactions of both ORMs."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import OperationalError, transaction
from sqlalchemy import insert

from asyncdb import Session, TransactionMisuse
from django_bridge import atomic, database, retried
from tests.bridge.joining import Named, in_a_test_case
from tests.bridge.shared import Kind


def conflict() -> OperationalError:
    """What Django makes of a deadlock (MySQL's number)."""
    return OperationalError(1213, "Deadlock found when trying to get lock")


class Work:
    """Writes through both ORMs, and meets a conflict a number of times."""

    def __init__(self, conflicts: int) -> None:
        self.conflicts, self.calls, self.hooks = conflicts, 0, 0

    async def __call__(self, *, db: Session) -> int:
        self.calls += 1
        transaction.on_commit(self._hook)
        await ContentType.objects.acreate(app_label="retry", model=f"orm{self.calls}")
        await db.execute(insert(Kind).values(app_label="retry", model=f"sql{self.calls}"))
        if self.conflicts:
            self.conflicts -= 1
            raise conflict()
        return self.calls

    def _hook(self) -> None:
        self.hooks += 1


async def kinds() -> list[str]:
    return sorted([kind.model async for kind in ContentType.objects.filter(app_label="retry")])


async def test_of_a_failed_attempt_neither_orm_keeps_anything(tx: Any) -> None:
    work = Work(2)
    assert await database().retry(work) == 3
    assert work.hooks == 1
    assert await kinds() == ["orm3", "sql3"]
    assert database().stats().counts.retried == 2


async def test_the_decorator_is_the_same(tx: Any) -> None:
    work = Work(1)

    @retried(attempts=2)
    async def decorated(*, db: Session) -> int:
        return await work(db=db)

    assert await decorated() == 2
    assert await kinds() == ["orm2", "sql2"]


async def test_after_its_last_attempt_it_fails_with_the_conflict(tx: Any) -> None:
    work = Work(9)
    with pytest.raises(OperationalError, match="Deadlock"):
        await database().retry(work, attempts=2)
    assert (work.calls, work.hooks, await kinds()) == (2, 0, [])


async def test_inside_another_block_it_is_refused(tx: Any) -> None:
    work = Work(0)
    async with atomic():
        with pytest.raises(TransactionMisuse, match="inside of another transaction"):
            await database().retry(work)
    assert work.calls == 0


async def test_a_hook_that_fails_with_a_conflict_repeats_nothing(tx: Any) -> None:
    calls = 0

    @retried
    async def work() -> None:
        nonlocal calls
        calls += 1

        def hook() -> None:
            raise conflict()

        transaction.on_commit(hook)
        await ContentType.objects.acreate(app_label="retry", model="kept")

    with pytest.raises(OperationalError):
        await work()
    assert (calls, await kinds()) == (1, ["kept"])


def test_in_a_test_that_is_a_transaction_one_attempt_is_made(sync_shop: Any) -> None:
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        await Named.objects.acreate(name="once")
        raise conflict()

    async def once(self: Any) -> None:
        with pytest.raises(OperationalError):
            await database().retry(work)
        assert [row async for row in Named.objects.all()] == []

    in_a_test_case(once)
    assert calls == 1
