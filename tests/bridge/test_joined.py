"""Async code beneath sync code that is in a transaction: it joins that, or it is refused; never a second connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import IntegrityError as DjangosIntegrityError
from django.db import OperationalError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponse
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from asyncdb import registry
from asyncdb.engine import pool_of
from asyncdb.errors import AsyncDBError, TransactionMisuse, TransactionPoisoned, UncommittedWrites
from django_bridge import atomic, database, outside_scope, scope, session, sync_session, with_session
from django_bridge.conf import process_mode
from django_bridge.errors import JoinRefused
from django_bridge.joined.caller import Caller
from tests.bridge.joining import Named, Row, SaNamed, SaRow, beneath, committed, in_a_test_case, names, on_its_own_loop
from tests.bridge.site import SCOPED, get, site
from tests.bridge.test_cancel_tx import CancelledAt


@contextlib.contextmanager
def caller() -> Iterator[None]:
    """Sync code in a transaction, which is undone; what it had open before is open afterwards, and nothing else."""
    with transaction.atomic():
        before = list(connection.atomic_blocks), list(connection.savepoint_ids)
        yield
        assert (connection.atomic_blocks, connection.savepoint_ids) == before
        assert connection.execute_wrappers == []
        transaction.set_rollback(True)
    assert committed(names) == []


async def by_session(name: str, *, join: bool = False) -> None:
    async with session(join=join) as db:
        db.add(SaNamed(name=name))
        await db.commit()


async def by_atomic(name: str, *, join: bool = False) -> None:
    async with atomic(join=join) as db:
        db.add(SaNamed(name=name))


async def by_statement(name: str) -> None:
    await database().execute(insert(SaNamed).values(name=name))


async def names_now() -> list[str]:
    return [row.name async for row in Named.objects.order_by("name")]


# -- refused, or joined ------------------------------------------------------------------------------------------------


async def fetches() -> None:
    await database().fetch_all(select(SaNamed))


@with_session
async def view(*, db: Any) -> None:
    await db.scalars(select(SaNamed))


async def reads() -> None:
    async with session() as db:
        await db.scalars(select(SaNamed))


@pytest.mark.parametrize(
    "work",
    [
        lambda: by_session("never"),
        lambda: by_atomic("never"),
        lambda: by_statement("never"),
        fetches,
        reads,
        view,
    ],
)
def test_outside_of_tests_it_is_refused_with_a_remedy(sync_shop: Any, work: Any) -> None:
    async def run() -> None:
        await work()

    with caller():
        Named.objects.create(name="mine")
        with pytest.raises(JoinRefused, match=r"(?s)'default'.*join=True.*'always'.*outside of transaction\.atomic"):
            beneath(run)
        assert names() == ["mine"]


def test_streams_are_refused_as_well(sync_shop: Any) -> None:
    async def run() -> None:
        async with database().stream(select(SaNamed)) as rows:
            async for _ in rows:
                pass

    with caller(), pytest.raises(JoinRefused):
        beneath(run)


def test_what_was_refused_is_a_misuse_of_a_transaction() -> None:
    assert issubclass(JoinRefused, TransactionMisuse)
    assert issubclass(JoinRefused, AsyncDBError)


def test_it_joins_where_it_asks_to(sync_shop: Any) -> None:
    async def work() -> None:
        await by_session("session", join=True)
        await by_atomic("atomic", join=True)
        async with database().session(join=True) as db:
            assert list(await db.scalars(select(SaNamed.name).order_by(SaNamed.name))) == ["atomic", "mine", "session"]
        async with database().atomic(join=True) as db:
            await db.execute(insert(SaNamed).values(name="database"))

    with caller():
        Named.objects.create(name="mine")
        beneath(work)
        assert names() == ["atomic", "database", "mine", "session"]
        assert committed(names) == []
    assert names() == []


def test_what_joined_is_committed_by_the_caller(sync_shop: Any) -> None:
    with transaction.atomic():
        beneath(lambda: by_session("session", join=True))
        beneath(lambda: by_atomic("atomic", join=True))
        assert committed(names) == []
    assert committed(names) == ["atomic", "session"]


def test_it_joins_always_where_the_setting_says_so(sync_shop: Any, project: Any) -> None:
    project(ASYNC_DB={"default": {"join": "always"}})

    async def work() -> None:
        await by_session("session")
        await by_atomic("atomic")
        await by_statement("statement")
        assert len(await database().fetch_all(select(SaNamed))) == 4
        async with database().stream(select(SaNamed.name)) as rows:
            assert len([row async for row in rows]) == 4

    with caller():
        Named.objects.create(name="mine")
        beneath(work)
        assert names() == ["atomic", "mine", "session", "statement"]


def test_never_means_a_connection_of_its_own(sync_shop: Any, project: Any) -> None:
    project(ASYNC_DB={"default": {"join": "never"}})

    async def work() -> list[str]:
        async with session() as db:
            return list(await db.scalars(select(SaNamed.name)))

    with caller():
        if sync_shop.on_server:
            Named.objects.create(name="mine")
        assert beneath(work) == []
        beneath(lambda: by_session("asked for", join=True))
        assert "asked for" in names()


def test_in_tests_never_is_kept_to(sync_shop: Any, project: Any) -> None:
    project(ASYNC_DB={"default": {"join": "never"}})

    async def work() -> list[str]:
        async with session() as db:
            return list(await db.scalars(select(SaNamed.name)))

    def inside(case: Any) -> None:
        if sync_shop.on_server:
            Named.objects.create(name="mine")
        assert beneath(work) == []

    in_a_test_case(inside)


def test_without_a_transaction_it_has_the_pool(sync_shop: Any) -> None:
    async def work(name: str) -> Any:
        async with session() as db:
            db.add(SaNamed(name=name))
            await db.commit()
            return type((await db.connection()).engine.dialect).__module__

    assert "joined" not in beneath(work, "beneath")
    assert "joined" not in on_its_own_loop(lambda: work("alone"))
    assert committed(names) == ["alone", "beneath"]


def test_joined_nothing_is_opened_on_the_pool(sync_shop: Any) -> None:
    """A second connection would wait for the caller's locks, or miss its rows."""

    async def work(*, join: bool) -> int:
        await by_session("session", join=join)
        await by_atomic("atomic", join=join)
        return pool_of(database().engine).checkedin()

    with caller():
        Named.objects.create(name="mine")
        assert beneath(partial(work, join=True)) == 0
    if process_mode() == "native":
        assert beneath(partial(work, join=False)) > 0  # the control: on the pool there is one afterwards


# -- what the blocks mean there ----------------------------------------------------------------------------------------


async def a_test_of_blocks(case: Any) -> None:
    async with atomic() as db:
        db.add(SaNamed(name="a"))
        async with atomic() as same:
            assert same is db
            await Named.objects.acreate(name="b")
        with pytest.raises(LookupError):
            async with atomic():
                await Named.objects.acreate(name="never 1")
                db.add(SaNamed(name="never 2"))
                raise LookupError
        assert await names_now() == ["a", "b"]
        with pytest.raises(LookupError):
            async with db.begin_nested():
                await Named.objects.acreate(name="never 3")
                raise LookupError
        assert await names_now() == ["a", "b"]
    with pytest.raises(LookupError):
        async with atomic():
            await Named.objects.acreate(name="never 4")
            async with atomic() as db:
                db.add(SaNamed(name="never 5"))
            raise LookupError
    assert await names_now() == ["a", "b"]


def test_blocks_nest(sync_shop: Any) -> None:
    in_a_test_case(a_test_of_blocks, a_test_of_blocks)
    assert names() == []


def test_a_block_without_a_savepoint_spoils_the_one_around_it(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        async with atomic() as db:
            db.add(SaNamed(name="kept"))
            async with atomic(savepoint=False):
                await Named.objects.acreate(name="kept too")
        with pytest.raises(TransactionPoisoned):  # Django would roll it back in silence
            async with atomic() as db:
                db.add(SaNamed(name="never"))
                with pytest.raises(LookupError):
                    async with atomic(savepoint=False):
                        await Named.objects.acreate(name="never too")
                        raise LookupError
        assert await names_now() == ["kept", "kept too"]

    in_a_test_case(work, work)


def test_durable_is_allowed_in_a_tests_own_block_alone(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        async with atomic(durable=True) as db:
            db.add(SaNamed(name="one"))
            with pytest.raises(RuntimeError, match="durable"):
                async with atomic(durable=True):
                    pass
            await Named.objects.acreate(name="two")
        assert await names_now() == ["one", "two"]

        def sync_around() -> None:
            with transaction.atomic():
                beneath(durable)

        async def durable() -> None:
            async with atomic(durable=True, join=True):
                pass

        with pytest.raises(RuntimeError, match="durable"):
            await sync_to_async(sync_around)()
        assert await names_now() == ["one", "two"]

    async def durable() -> None:
        async with atomic(durable=True, join=True):
            pass

    in_a_test_case(work, work)
    with caller(), pytest.raises(RuntimeError, match="durable"):
        beneath(durable)


@pytest.mark.parametrize("options", [{"isolation": "SERIALIZABLE"}, {"read_only": True}])
def test_isolation_is_the_callers(sync_shop: Any, options: dict[str, Any]) -> None:
    if sync_shop.family == "sqlite" and "isolation" in options:
        options = {"isolation": "SERIALIZABLE"}

    async def work(case: Any) -> None:
        with pytest.raises(TransactionMisuse, match="isolation and read_only"):
            async with atomic(**options):
                pass
        async with atomic() as db:
            db.add(SaNamed(name="after"))
        assert await names_now() == ["after"]

    in_a_test_case(work, work)


def test_a_plain_sessions_words(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        async with session() as db:
            db.add(SaNamed(name="one"))
            await db.commit()
            db.add(SaNamed(name="never"))
            await db.flush()
            await db.rollback()
            assert list(await db.scalars(select(SaNamed.name))) == ["one"]
            await db.execute(insert(SaNamed).values(name="two"))
            await db.commit()
            async with db.begin():
                db.add(SaNamed(name="three"))
            await db.execute(insert(SaNamed).values(name="never"))
            await db.close()
            assert len((await db.scalars(select(SaNamed.name))).all()) == 3
        assert await names_now() == ["one", "three", "two"]
        with pytest.raises(UncommittedWrites):
            async with session() as db:
                db.add(SaNamed(name="forgotten"))
        with pytest.raises(UncommittedWrites):
            async with session() as db:
                await db.execute(insert(SaNamed).values(name="forgotten"))
        with pytest.raises(LookupError):
            async with session() as db:
                await db.execute(insert(SaNamed).values(name="forgotten"))
                raise LookupError
        assert await names_now() == ["one", "three", "two"]
        async with session() as db:
            with pytest.raises(IntegrityError):
                async with db.begin_nested():
                    await db.execute(insert(SaNamed).values(name="one"))
            await db.execute(insert(SaNamed).values(name="four"))
            await db.commit()
        assert await names_now() == ["four", "one", "three", "two"]

    in_a_test_case(work, work)


def test_commit_and_rollback_in_a_block_are_refused(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        async with atomic() as db:
            db.add(SaNamed(name="one"))
            for verb in (db.commit, db.rollback, db.close):
                with pytest.raises(TransactionMisuse):
                    await verb()
            for word in ("COMMIT", "ROLLBACK"):
                with pytest.raises(TransactionMisuse):
                    await db.execute(text(word))
        assert await names_now() == ["one"]
        async with session() as db:
            db.add(SaNamed(name="two"))
            await db.flush()
            for word in ("COMMIT", "ROLLBACK"):
                with pytest.raises(TransactionMisuse):
                    await db.execute(text(word))
            await db.commit()
        assert connection_is_in_the_tests_block()

    def connection_is_in_the_tests_block() -> bool:
        return True

    in_a_test_case(work, work)
    assert names() == []


def test_the_orm_and_the_session_see_each_others_rows_and_changes(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        key = (await Row.objects.acreate(number=1)).pk
        async with atomic() as db:
            row = await db.get(SaRow, key)
            assert row is not None
            await Row.objects.filter(pk=key).aupdate(number=2)
            assert (await db.get(SaRow, key)).number == 2
            await sync_to_async(Row.objects.filter(pk=key).update)(number=3)
            assert (await db.scalars(select(SaRow))).one().number == 3
            row.number = 4  # flushed before the ORM reads, whichever way
            assert (await Row.objects.aget(pk=key)).number == 4
            row.number = 5
            assert await sync_to_async(lambda: Row.objects.get(pk=key).number)() == 5
            row.number = 6
            assert [one.number async for one in Row.objects.all()] == [6]
            db.add(SaRow(number=7))
            assert await sync_to_async(Row.objects.count)() == 2

            def service() -> int:
                with transaction.atomic():
                    Row.objects.create(number=8)
                    return Row.objects.count()

            assert await sync_to_async(service)() == 3
            assert await db.scalar(select(func.count()).select_from(SaRow)) == 3
        assert sorted([one.number async for one in Row.objects.all()]) == [6, 7, 8]

    in_a_test_case(work, work)


def test_a_services_savepoint_undoes_the_sessions_changes(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        async with atomic() as db:
            db.add(SaNamed(name="before"))

            def failing() -> None:
                with transaction.atomic():
                    Named.objects.create(name="never")
                    raise LookupError

            with pytest.raises(LookupError):
                await sync_to_async(failing)()
            db.add(SaNamed(name="after"))
        assert await names_now() == ["after", "before"]

    in_a_test_case(work, work)


def test_an_error_of_either_side_is_survived_by_a_savepoint(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        async with atomic() as db:
            db.add(SaNamed(name="one"))
            with pytest.raises(IntegrityError):
                async with atomic():
                    await db.execute(insert(SaNamed).values(name="one"))
            with pytest.raises(IntegrityError):
                async with atomic():
                    db.add(SaNamed(name="one"))
            with pytest.raises(DjangosIntegrityError):
                async with atomic():
                    await Named.objects.acreate(name="one")
            with pytest.raises(IntegrityError):
                async with atomic():
                    db.add(SaNamed(name="one"))
                    await Named.objects.acount()  # whose flush fails in the caller's thread
            with pytest.raises(IntegrityError):
                async with atomic():
                    db.add(SaNamed(name="one"))
                    await sync_to_async(Named.objects.count)()
            db.add(SaNamed(name="two"))
        assert await names_now() == ["one", "two"]

    in_a_test_case(work, work)


async def swallows_an_error_of_a_statement(db: Any) -> None:
    with pytest.raises(IntegrityError):
        await db.execute(insert(SaNamed).values(name="one"))


async def swallows_an_error_of_a_flush(db: Any) -> None:
    with pytest.raises(IntegrityError):
        db.add(SaNamed(name="one"))
        await db.flush()


async def swallows_an_error_of_the_orm(db: Any) -> None:
    with pytest.raises(DjangosIntegrityError):
        await Named.objects.acreate(name="one")


async def swallows_an_error_in_a_thread(db: Any) -> None:
    with pytest.raises(DjangosIntegrityError):
        await sync_to_async(Named.objects.create)(name="one")


async def swallows_a_failed_flush_before_the_orm(db: Any) -> None:
    db.add(SaNamed(name="one"))
    with pytest.raises(IntegrityError):
        await Named.objects.acount()


@pytest.mark.parametrize(
    "swallow",
    [
        swallows_an_error_of_a_statement,
        swallows_an_error_of_a_flush,
        swallows_an_error_of_the_orm,
        swallows_an_error_in_a_thread,
        swallows_a_failed_flush_before_the_orm,
    ],
)
def test_an_error_that_somebody_swallowed_spoils_the_block_as_on_the_pool(sync_shop: Any, swallow: Any) -> None:
    def refused() -> Any:
        return pytest.raises(TransactionPoisoned)

    async def work(case: Any = None) -> None:
        async with atomic() as db:
            db.add(SaNamed(name="one"))
        with refused():
            async with atomic() as db:
                db.add(SaNamed(name="never"))
                await db.flush()
                await swallow(db)
        async with atomic() as db:
            db.add(SaNamed(name="two"))
        async with atomic() as db:  # the same inside a block that goes on
            db.add(SaNamed(name="three"))
            with refused():
                async with atomic():
                    db.add(SaNamed(name="never"))
                    await db.flush()
                    await swallow(db)
        assert await names_now() == ["one", "three", "two"]

    in_a_test_case(work, work)
    assert names() == []
    on_its_own_loop(work)  # the control: in production it is the same
    assert names() == ["one", "three", "two"]


def test_a_session_that_swallowed_an_error_of_the_orm_does_not_commit_in_silence(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        async with session() as db:
            db.add(SaNamed(name="one"))
            await db.commit()
            db.add(SaNamed(name="two"))
            await db.flush()
            with pytest.raises(DjangosIntegrityError):
                await Named.objects.acreate(name="one")
            with pytest.raises((TransactionPoisoned, DBAPIError)):
                await db.commit()

    in_a_test_case(work, work)


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_hooks_of_both_sides_run_in_order_after_the_callers_commit(sync_shop: Any) -> None:
    ran: list[str] = []

    async def hook() -> None:
        await asyncio.sleep(0)
        ran.append("async")

    async def work() -> None:
        async with atomic(join=True) as db:
            transaction_on_commit("first")
            await sync_to_async(transaction_on_commit)("second")
            db.on_commit(hook)
            db.on_commit(lambda: ran.append("of the session"))
            with pytest.raises(LookupError):
                async with atomic():
                    db.on_commit(lambda: ran.append("never"))
                    raise LookupError
        assert ran == []

    def transaction_on_commit(what: str) -> None:
        transaction.on_commit(lambda: ran.append(what))

    async def alone() -> None:
        async with atomic(join=True) as db:
            await sync_to_async(transaction_on_commit)("first")
            db.on_commit(hook)
            await sync_to_async(transaction_on_commit)("third")
            db.on_commit(lambda: ran.append("of the session"))
            with pytest.raises(LookupError):
                async with atomic():
                    db.on_commit(lambda: ran.append("never"))
                    raise LookupError
        assert ran == []

    with transaction.atomic():
        transaction_on_commit("before")
        beneath(alone)
        transaction_on_commit("after")
    assert ran == ["before", "first", "async", "third", "of the session", "after"]


def test_hooks_are_captured(sync_shop: Any) -> None:
    ran: list[str] = []

    async def hook() -> None:
        await asyncio.sleep(0)
        ran.append("async")

    async def work() -> None:
        async with atomic() as db:
            await Named.objects.acreate(name="one")
            db.on_commit(hook)
            db.on_commit(lambda: ran.append("sync"), robust=True)
            with pytest.raises(TypeError):
                db.on_commit("no function")  # type: ignore[arg-type]

    def from_sync(case: Any) -> None:
        ran.clear()
        with case.captureOnCommitCallbacks() as callbacks:
            beneath(work)
        assert len(callbacks) == 2
        assert ran == []
        with case.captureOnCommitCallbacks(execute=True):
            beneath(work_again)
        assert ran == ["async", "sync"]

    async def work_again() -> None:
        await Named.objects.all().adelete()
        await work()

    async def from_async(case: Any) -> None:
        ran.clear()
        with case.captureOnCommitCallbacks() as callbacks:
            await work()
        for callback in callbacks:
            await sync_to_async(callback)()
        assert ran == ["async", "sync"]
        await Named.objects.all().adelete()
        with (
            pytest.raises(SynchronousOnlyOperation, match=r"await sync_to_async\(callback\)"),
            case.captureOnCommitCallbacks(execute=True),
        ):
            await work()

    in_a_test_case(from_sync)
    if process_mode() == "native":  # else an async test of Django's does not see its connection
        in_a_test_case(from_async)


def test_queries_of_what_joined_are_counted(sync_shop: Any) -> None:
    async def ask() -> None:
        async with session() as db:
            await db.scalars(select(SaNamed))
        await Named.objects.acount()

    def work(case: Any) -> None:
        with case.assertNumQueries(2):
            beneath(ask)
        with case.assertNumQueries(2):
            beneath(ask)
        with pytest.raises(AssertionError), case.assertNumQueries(1):
            beneath(ask)

    in_a_test_case(work, work)


# -- several at once ---------------------------------------------------------------------------------------------------


async def one_of_many(number: int) -> None:
    async with atomic() as db:
        await Named.objects.acreate(name=f"orm {number}")
        await asyncio.sleep(0.001 * (number % 3))
        db.add(SaNamed(name=f"object {number}"))
        await sync_to_async(Named.objects.create)(name=f"thread {number}")
        async with atomic():
            await db.execute(insert(SaNamed).values(name=f"core {number}"))
            await asyncio.sleep(0)
        if number % 3 == 1:
            raise LookupError
    if number % 3 == 2:
        async with session() as db:
            db.add(SaNamed(name=f"session {number}"))
            await db.flush()
            await asyncio.sleep(0.001)
            await db.commit()


def of_many(numbers: range) -> list[str]:
    kept = [number for number in numbers if number % 3 != 1]
    made = [f"{kind} {number}" for kind in ("orm", "object", "thread", "core") for number in kept]
    return sorted(made + [f"session {number}" for number in kept if number % 3 == 2])


def test_tasks_take_turns_and_lose_nothing(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        outcomes = await asyncio.gather(*(one_of_many(number) for number in range(10)), return_exceptions=True)
        assert [type(one) for one in outcomes if one is not None] == [LookupError] * 3, outcomes
        assert sorted(await names_now()) == of_many(range(10))

    in_a_test_case(work, work)
    assert names() == []


def test_tasks_beneath_a_caller_that_commits(sync_shop: Any, project: Any) -> None:
    project(ASYNC_DB={"default": {"join": "always"}})

    async def work() -> None:
        outcomes = await asyncio.gather(*(one_of_many(number) for number in range(10)), return_exceptions=True)
        assert [type(one) for one in outcomes if one is not None] == [LookupError] * 3, outcomes

    with transaction.atomic():
        beneath(work)
    assert sorted(committed(names)) == of_many(range(10))


def test_tasks_inside_an_outer_block_are_refused_as_on_the_pool(sync_shop: Any) -> None:
    async def work(case: Any = None) -> None:
        async with atomic() as db:
            db.add(SaNamed(name="outer"))
            await db.flush()
            outcomes = await asyncio.gather(*(use(number) for number in range(3)), return_exceptions=True)
            assert all(isinstance(one, AsyncDBError) for one in outcomes), outcomes
        assert await names_now() == ["outer"]

    async def use(number: int) -> None:
        async with atomic() as db:
            db.add(SaNamed(name=f"inner {number}"))

    in_a_test_case(work, work)
    on_its_own_loop(work)


def test_tasks_beneath_sync_code_of_a_block(sync_shop: Any) -> None:
    """Tasks that an outer session's owner starts work in turns on savepoints of their own."""

    async def work(case: Any) -> None:
        async with session() as db:
            db.add(SaNamed(name="outer"))
            await db.flush()
            outcomes = await asyncio.gather(*(one_of_many(number) for number in range(4)), return_exceptions=True)
            assert [type(one) for one in outcomes if one is not None] == [LookupError], outcomes
            await db.commit()
        assert sorted(await names_now()) == sorted([*of_many(range(4)), "outer"])

    in_a_test_case(work, work)


def test_sessions_of_one_task_may_interleave(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        async with session() as one:
            one.add(SaNamed(name="one"))
            await one.flush()
            async with session() as two:
                two.add(SaNamed(name="two"))
                await two.flush()
                await one.commit()
                await two.commit()
            one.add(SaNamed(name="three"))
            await one.commit()
        assert await names_now() == ["one", "three", "two"]
        first, second = session(), session()
        one, two = await first.__aenter__(), await second.__aenter__()
        one.add(SaNamed(name="four"))
        await one.flush()
        two.add(SaNamed(name="five"))
        await two.flush()
        await two.commit()
        await one.commit()
        await first.__aexit__(None, None, None)
        await second.__aexit__(None, None, None)
        assert len(await names_now()) == 5

    in_a_test_case(work, work)


def test_a_session_rolled_back_below_another_says_so_to_that_one(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        async with session() as one, session() as two:
            one.add(SaNamed(name="one"))
            await one.flush()
            two.add(SaNamed(name="two"))
            await two.flush()
            await one.rollback()
            with pytest.raises((TransactionPoisoned, DBAPIError)):
                await two.commit()
            await two.rollback()
            two.add(SaNamed(name="three"))
            await two.commit()
        assert await names_now() == ["three"]

    in_a_test_case(work, work)


# -- what is left behind -----------------------------------------------------------------------------------------------


kept_alive: list[Any] = []
LEFT_OPEN = "ignore:The garbage collector is trying to clean up non-checked-in connection"


@pytest.mark.filterwarnings(LEFT_OPEN, "ignore::pytest.PytestUnraisableExceptionWarning")
def test_sessions_that_nobody_closed_do_not_disturb_what_follows(sync_shop: Any) -> None:
    async def leaks(case: Any) -> None:
        assert await names_now() == []
        db = await session().__aenter__()
        kept_alive.append(db)
        db.add(SaNamed(name="leaked"))
        await db.flush()
        block = atomic()
        kept_alive.append(await block.__aenter__())
        kept_alive.append(block)
        await Named.objects.acreate(name="leaked too")

    def is_whole(case: Any) -> None:
        assert names() == []
        assert len(connection.atomic_blocks) == 2
        assert connection.execute_wrappers == []
        Named.objects.create(name="whole")

    async def works(case: Any) -> None:
        assert await names_now() == []
        async with atomic() as db:
            db.add(SaNamed(name="works"))
        assert await names_now() == ["works"]

    try:
        in_a_test_case(leaks, is_whole, works, leaks, works, is_whole)
    finally:
        kept_alive.clear()
        gc.collect()
    assert names() == []


@pytest.mark.filterwarnings(LEFT_OPEN, "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_callers_transaction_ends_well_although_a_session_was_left_open(sync_shop: Any) -> None:
    async def leaks() -> None:
        db = await session(join=True).__aenter__()
        kept_alive.append(db)
        db.add(SaNamed(name="leaked"))
        await db.flush()

    try:
        with transaction.atomic():
            Named.objects.create(name="mine")
            before = len(connection.atomic_blocks)
            beneath(leaks)
            assert len(connection.atomic_blocks) == before
            Named.objects.create(name="mine too")
        assert not connection.in_atomic_block
        assert committed(names) == ["mine", "mine too"]
    finally:
        kept_alive.clear()
        gc.collect()


@pytest.mark.filterwarnings(LEFT_OPEN, "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_block_that_was_never_left_shows_its_connection_to_nobody_afterwards(sync_shop: Any) -> None:
    async def leaks() -> None:
        block = atomic(join=True)
        kept_alive.append((await block.__aenter__(), block))
        assert connections["default"] is callers

    async def sees() -> Any:
        return connections["default"]

    try:
        with transaction.atomic():
            callers = connections["default"]
            beneath(leaks)
        assert beneath(sees) is not callers
    finally:
        kept_alive.clear()
        gc.collect()


# -- cancelled ---------------------------------------------------------------------------------------------------------


async def mixed() -> None:
    async with atomic(join=True) as db:
        db.add(SaNamed(name="one"))
        async with atomic():
            await Named.objects.acreate(name="two")
            await db.execute(insert(SaNamed).values(name="three"))
        with contextlib.suppress(LookupError):
            async with atomic():
                await db.execute(insert(SaNamed).values(name="never"))
                raise LookupError
        await sync_to_async(create_in_a_block)("four")
        db.add(SaNamed(name="five"))


async def mixed_in_a_session() -> None:
    async with session(join=True) as db:
        db.add(SaNamed(name="one"))
        await db.flush()
        async with db.begin_nested():
            await db.execute(insert(SaNamed).values(name="two"))
        with contextlib.suppress(LookupError):
            async with db.begin_nested():
                await db.execute(insert(SaNamed).values(name="never"))
                raise LookupError
        for name in ("three", "four", "five"):
            await db.execute(insert(SaNamed).values(name=name))
        await db.commit()


def create_in_a_block(name: str) -> None:
    with transaction.atomic():
        Named.objects.create(name=name)


ALL = ["five", "four", "one", "three", "two"]


def run_cancelled_at(program: Callable[[], Coroutine[Any, Any, None]], number: int) -> tuple[bool, bool]:
    """Whether the point was there, and whether its task ended as cancelled."""

    async def run() -> tuple[bool, bool]:
        point = CancelledAt(program(), number)

        async def work() -> None:
            await point

        task = asyncio.create_task(work())
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()  # type: ignore[misc]
        return point.reached, task.cancelled()

    return beneath(run)


@pytest.mark.parametrize("program", [mixed, mixed_in_a_session])
def test_cancelled_anywhere_it_is_all_or_nothing_and_the_caller_has_its_blocks(sync_shop: Any, program: Any) -> None:
    for number in range(1, 300):
        with transaction.atomic():
            before = list(connection.atomic_blocks), list(connection.savepoint_ids)
            reached, cancelled = run_cancelled_at(program, number)
            assert (connection.atomic_blocks, connection.savepoint_ids) == before, number
            assert connection.execute_wrappers == [], number
            assert not connection.needs_rollback, number
            rows = names()
            assert rows in ([], ALL), (number, rows)
            assert reached == cancelled or rows == ALL, number
            Named.objects.all().delete()
            Named.objects.create(name="the caller goes on")
            assert names() == ["the caller goes on"]
            transaction.set_rollback(True)
        assert not connection.in_atomic_block
        if not reached:
            assert number > 10
            assert rows == ALL
            return
    raise AssertionError("it never ended")


def test_a_time_out_around_a_block_undoes_it(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), atomic() as db:
                db.add(SaNamed(name="never"))
                await db.flush()
                await asyncio.sleep(30)
        with pytest.raises(TimeoutError):
            async with atomic() as db:
                db.add(SaNamed(name="never"))
                async with asyncio.timeout(0.1):
                    await Named.objects.acount()
                    await asyncio.sleep(30)
        async with atomic() as db:
            db.add(SaNamed(name="kept"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1), atomic():
                    await db.execute(insert(SaNamed).values(name="never"))
                    await asyncio.sleep(30)
        assert await names_now() == ["kept"]

    in_a_test_case(work, work)


@pytest.mark.families("postgresql", "mariadb")
def test_a_statement_cancelled_on_its_way_leaves_the_caller_whole(sync_shop: Any) -> None:
    sleep = text("SELECT pg_sleep(0.3)" if sync_shop.family == "postgresql" else "SELECT SLEEP(0.3)")

    async def work(case: Any) -> None:
        for block in (session, atomic):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), block() as db:
                    db.add(SaNamed(name="never"))
                    await db.flush()
                    await db.execute(sleep)
            assert await names_now() == []
        async with atomic() as db:
            db.add(SaNamed(name="kept"))
        assert await names_now() == ["kept"]

    in_a_test_case(work, work)


def test_a_stream_broken_off_leaves_nothing_behind(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        await Row.objects.abulk_create([Row(number=number) for number in range(300)])
        async with database().stream(select(SaRow.number).order_by(SaRow.number)) as rows:
            async for row in rows:
                if row.number == 5:
                    break
        async with session() as db, db.stream(select(SaRow.number).order_by(SaRow.number)) as rows:
            assert (await anext(aiter(rows))).number == 0
        async with session() as db:
            async for _ in await db.stream_scalars(select(SaRow.number)):
                break
            assert await db.scalar(select(func.count()).select_from(SaRow)) == 300

        async def numbers() -> Any:
            async with atomic() as db:
                await db.execute(insert(SaNamed).values(name="from a generator"))
                async for row in await db.stream_scalars(select(SaRow.number)):
                    yield row

        generator = numbers()
        await anext(generator)
        await generator.aclose()
        assert await names_now() == []
        async with atomic() as db:
            await db.execute(update(SaRow).values(number=-1))
        assert await Row.objects.filter(number=-1).acount() == 300

    in_a_test_case(work, work)


# -- through threads and loops -----------------------------------------------------------------------------------------


def test_sync_and_async_in_turns(sync_shop: Any) -> None:
    async def innermost() -> list[str]:
        async with atomic(join=True) as db:
            db.add(SaNamed(name="innermost"))
        with pytest.raises(LookupError):
            async with atomic(join=True):
                await Named.objects.acreate(name="never")
                raise LookupError
        return await names_now()

    def middle() -> list[str]:
        with transaction.atomic():
            Named.objects.create(name="middle")
            found = async_to_sync(innermost)()
        with pytest.raises(LookupError), transaction.atomic():
            async_to_sync(by_atomic)("never 2", join=True)
            raise LookupError
        return found

    async def outer() -> list[str]:
        async with session(join=True) as db:
            db.add(SaNamed(name="outer"))
            await db.commit()
        return await sync_to_async(middle)()

    def work(case: Any) -> None:
        assert beneath(outer) == ["innermost", "middle", "outer"]
        assert names() == ["innermost", "middle", "outer"]

    in_a_test_case(work, work)
    with caller():
        assert beneath(outer) == ["innermost", "middle", "outer"]


def test_sync_and_async_in_turns_inside_a_joined_block(sync_shop: Any) -> None:
    async def innermost() -> list[str]:
        async with atomic(join=True) as db:
            db.add(SaNamed(name="innermost"))
        async with session(join=True) as db:
            return list(await db.scalars(select(SaNamed.name).order_by(SaNamed.name)))

    def middle() -> list[str]:
        with transaction.atomic():
            Named.objects.create(name="middle")
            return async_to_sync(innermost)()

    async def outer() -> list[str]:
        async with atomic(join=True) as db:
            db.add(SaNamed(name="outer"))
            return await sync_to_async(middle)()

    def work(case: Any) -> None:
        assert beneath(outer) == ["innermost", "middle", "outer"]
        assert names() == ["innermost", "middle", "outer"]

    in_a_test_case(work, work)
    with caller():
        assert beneath(outer) == ["innermost", "middle", "outer"]


def test_a_scope_beneath_a_caller_is_the_callers(sync_shop: Any) -> None:
    async def work() -> list[str]:
        async with scope():
            async with atomic(join=True) as db:
                db.add(SaNamed(name="one"))
            await by_session("two", join=True)
            return await names_now()

    with caller():
        assert beneath(work) == ["one", "two"]
        assert names() == ["one", "two"]


@pytest.mark.native_only("in threads a sync view has no connection of a scope")
@pytest.mark.parametrize("join", [True, False])
def test_a_sync_view_in_a_scope_is_a_caller_too(sync_shop: Any, project: Any, join: bool) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            Named.objects.create(name="view")
            if join:
                async_to_sync(by_session)("session", join=True)
                async_to_sync(by_atomic)("atomic", join=True)
                with pytest.raises(LookupError):
                    async_to_sync(fails)()
            else:
                for work in (by_session, by_statement):
                    with pytest.raises(JoinRefused):
                        async_to_sync(work)("never")
            found = names()
            blocks = len(connection.atomic_blocks)
        with pytest.raises(LookupError), transaction.atomic():
            async_to_sync(by_atomic)("never", join=True)
            raise LookupError
        return HttpResponse(f"{','.join(found)} {blocks} {len(connection.atomic_blocks)}")

    async def fails() -> None:
        async with atomic(join=True) as db:
            db.add(SaNamed(name="never"))
            await Named.objects.acreate(name="never too")
            raise LookupError

    async def work() -> tuple[int, bytes]:
        outcome = await get("/view")
        assert database().stats().checked_out == 0
        return outcome

    site(project=project, middleware=[SCOPED], view=view)
    expected = b"atomic,session,view 1 0" if join else b"view 1 0"
    assert on_its_own_loop(work) == (200, expected)
    assert names() == (["atomic", "session", "view"] if join else ["view"])


def test_several_threads_have_callers_of_their_own(sync_shop: Any) -> None:
    if not sync_shop.on_server:
        pytest.skip("SQLite has one writer")
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def one(number: int) -> None:
        try:
            for turn in range(5):
                with contextlib.suppress(LookupError), transaction.atomic():
                    Named.objects.create(name=f"sync {number} {turn}")
                    barrier.wait(20)
                    async_to_sync(by_atomic)(f"async {number} {turn}", join=True)
                    barrier.wait(20)
                    if number % 2:
                        raise LookupError
        except BaseException as err:
            errors.append(err)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    expected = [f"{kind} {number} {turn}" for kind in ("async", "sync") for number in (0, 2) for turn in range(5)]
    assert committed(names) == sorted(expected)


def test_a_callers_connection_can_be_forgotten(sync_shop: Any) -> None:
    def call() -> weakref.ref[Any]:
        with transaction.atomic():
            beneath(partial(by_atomic, join=True), "one")
            wrapper = connections["default"]
            transaction.set_rollback(True)
        wrapper.close()
        return weakref.ref(wrapper)

    with ThreadPoolExecutor(1) as threads:
        gone = threads.submit(call).result(30)
    gc.collect()
    assert gone() is None


def test_tasks_take_turns_although_sync_code_has_called_async_code_meanwhile(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        opened, ended = asyncio.Event(), asyncio.Event()

        async def fails() -> None:
            async with atomic() as db:
                db.add(SaNamed(name="never"))
                await db.flush()
                opened.set()
                await ended.wait()
                raise LookupError

        async def keeps() -> None:
            await opened.wait()
            await sync_to_async(async_to_sync(looks))()
            asyncio.get_running_loop().call_later(0.05, ended.set)
            async with atomic() as db:
                db.add(SaNamed(name="kept"))

        outcomes = await asyncio.gather(fails(), keeps(), return_exceptions=True)
        assert [type(one) for one in outcomes] == [LookupError, type(None)], outcomes
        assert await names_now() == ["kept"]

    async def looks() -> None:
        async with session():
            pass

    in_a_test_case(work, work)


@pytest.mark.xfail(strict=True, reason="what a task sends to a thread itself waits for no other task's block")
def test_what_a_task_writes_in_a_thread_beside_another_tasks_block_is_kept(sync_shop: Any) -> None:
    async def work(case: Any) -> None:
        opened, written = asyncio.Event(), asyncio.Event()

        async def fails() -> None:
            async with atomic():
                opened.set()
                await written.wait()
                raise LookupError

        async def keeps() -> None:
            await opened.wait()
            await sync_to_async(Named.objects.create)(name="kept")
            written.set()

        await asyncio.gather(fails(), keeps(), return_exceptions=True)
        assert await names_now() == ["kept"]

    in_a_test_case(work)


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_servers_error_inside_is_survived_by_the_callers_transaction(sync_shop: Any) -> None:
    async def fails() -> None:
        async with session(join=True) as db:
            await db.execute(insert(SaNamed).values(name="never"))
            await db.execute(text("SELECT no_such_column FROM shelf_named"))

    async def fails_in_a_block() -> None:
        async with atomic(join=True) as db:
            await db.execute(insert(SaNamed).values(name="never"))
            await db.execute(text("SELECT no_such_column FROM shelf_named"))

    with transaction.atomic():
        Named.objects.create(name="mine")
        for work in (fails, fails_in_a_block):
            with pytest.raises(DBAPIError, match="no_such_column"):
                beneath(work)
            assert names() == ["mine"]
        beneath(lambda: by_atomic("joined", join=True))
    assert committed(names) == ["joined", "mine"]


def test_an_error_of_a_read_without_a_block_is_survived(sync_shop: Any) -> None:
    """On the pool a read that fails breaks nothing; joined, it must not break the caller's transaction either."""

    async def fails() -> None:
        async with session() as db:
            await db.execute(select(func.no_such_function()))

    def work(case: Any) -> None:
        Named.objects.create(name="mine")
        with pytest.raises(DBAPIError):
            beneath(fails)
        assert names() == ["mine"]

    in_a_test_case(work)


@pytest.mark.xfail(strict=True, reason="a joined read has no savepoint of its own, as a read of Django's has none")
@pytest.mark.families("postgresql")
def test_a_plain_read_that_fails_does_not_abort_the_callers_transaction(sync_shop: Any) -> None:
    async def fails() -> None:
        with pytest.raises(DBAPIError):
            await database().fetch_val(select(1 / func.count(SaNamed.id)))

    def work(case: Any) -> None:
        beneath(fails)
        assert names() == []
        Named.objects.create(name="after")

    in_a_test_case(work)


@pytest.mark.families("postgresql", "mariadb")
@pytest.mark.parametrize("block", [session, atomic])
def test_a_connection_killed_beneath_it_is_a_clear_error(sync_shop: Any, server: Any, block: Any) -> None:
    def own_id() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()" if sync_shop.family == "postgresql" else "SELECT CONNECTION_ID()")
            return int(cursor.fetchone()[0])

    async def work() -> None:
        async with asyncio.timeout(10), block(join=True) as db:
            db.add(SaNamed(name="never"))
            await db.flush()
            await asyncio.to_thread(kill, await sync_to_async(own_id)())
            await db.execute(insert(SaNamed).values(name="never either"))

    def kill(number: int) -> None:
        server.execute(
            f"SELECT pg_terminate_backend({number})" if sync_shop.family == "postgresql" else f"KILL {number}"
        )

    with pytest.raises(Exception, match=r"(?i)lost|gone|closed|terminat") as caught:  # noqa: SIM117
        with transaction.atomic():
            Named.objects.create(name="mine")
            beneath(work)
    assert not isinstance(caught.value, TimeoutError)
    connection.close()
    assert not connection.in_atomic_block
    assert names() == []
    with transaction.atomic():
        beneath(lambda: by_atomic("again", join=True))
    assert committed(names) == ["again"]
    Named.objects.all().delete()
    assert delete is not None


# -- deadlocks ---------------------------------------------------------------------------------------------------------

LOCKED = select(SaRow).where(SaRow.id == 2).with_for_update()
"""A read, for which the ORM, Django's or SQLAlchemy's, takes no precautions."""


def sync_program(meets: Callable[[], None]) -> None:
    with transaction.atomic(), sync_session() as db:
        db.execute(update(SaRow).where(SaRow.id == 1).values(number=7))
        meets()
        with pytest.raises(DBAPIError, match="1213"):
            db.execute(LOCKED)
        with pytest.raises(TransactionPoisoned):
            db.execute(insert(SaNamed).values(name="after"))
        with pytest.raises(TransactionManagementError):
            Named.objects.create(name="after")


async def of_the_session(meets: Callable[[], None], *, join: bool) -> None:
    async with atomic(join=join) as db:
        await db.execute(update(SaRow).where(SaRow.id == 1).values(number=7))
        meets()
        with pytest.raises(DBAPIError, match="1213"):
            await db.execute(LOCKED)
        with pytest.raises(TransactionPoisoned):
            await db.execute(insert(SaNamed).values(name="after"))


async def of_the_orm(meets: Callable[[], None], *, join: bool) -> None:
    async with atomic(join=join) as db:
        await db.execute(update(SaRow).where(SaRow.id == 1).values(number=7))
        meets()
        with pytest.raises(OperationalError, match="1213"):
            await Row.objects.select_for_update().aget(id=2)
        with pytest.raises(TransactionPoisoned):
            await db.execute(insert(SaNamed).values(name="after"))
        with pytest.raises(TransactionManagementError):
            await Named.objects.acreate(name="after")


async def of_a_plain_session(meets: Callable[[], None], *, join: bool) -> None:
    async with session(join=join) as db:
        await db.execute(update(SaRow).where(SaRow.id == 1).values(number=7))
        meets()
        with pytest.raises(DBAPIError, match="1213"):
            await db.execute(LOCKED)
        with pytest.raises(TransactionPoisoned):
            await db.execute(insert(SaNamed).values(name="after"))
        await db.commit()


def joined(work: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[Callable[[], None]], None]:
    def program(meets: Callable[[], None]) -> None:
        with transaction.atomic():
            beneath(partial(work, join=True), meets)

    return program


def in_djangos_thread(work: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[Callable[[], None]], None]:
    def program(meets: Callable[[], None]) -> None:
        on_its_own_loop(outside_scope(partial_of(work, meets)))

    return program


def partial_of(
    work: Callable[..., Coroutine[Any, Any, None]], meets: Callable[[], None]
) -> Callable[[], Coroutine[Any, Any, None]]:
    async def run() -> None:
        await work(meets, join=False)

    return run


PROGRAMS: dict[str, Callable[[Callable[[], None]], None]] = {
    "sync_session": sync_program,
    "a block's session, joined": joined(of_the_session),
    "the ORM, joined": joined(of_the_orm),
    "a session, joined": joined(of_a_plain_session),
    "a block's session, in Django's thread": in_djangos_thread(of_the_session),
    "the ORM, in Django's thread": in_djangos_thread(of_the_orm),
}


@pytest.mark.families("mariadb")
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_after_a_deadlock_in_a_read_nothing_more_runs_and_nothing_is_committed(sync_shop: Any, program: Any) -> None:
    Row.objects.bulk_create(Row(id=number) for number in range(1, 40))
    goes, holds = threading.Event(), threading.Event()

    def other() -> None:
        with transaction.atomic():
            Row.objects.exclude(id=1).update(number=100)  # who has written more lives
            holds.set()
            assert goes.wait(20)
            Row.objects.filter(id=1).update(number=100)

    with ThreadPoolExecutor(1) as threads:
        over = threads.submit(sync_shop.in_plain_thread, other)
        assert holds.wait(20)
        with contextlib.suppress(TransactionPoisoned):  # Django's own atomic() rolls back in silence
            program(goes.set)
        over.result(20)
    assert not connection.in_atomic_block
    assert committed(names) == []
    assert committed(lambda: Row.objects.get(id=1).number) == 100


# -- hooks where the ORM is in threads ---------------------------------------------------------------------------------


def outside(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    on_its_own_loop(outside_scope(work))


@pytest.mark.parametrize("where", [outside, beneath])
def test_a_hook_may_begin_other_transactions_and_start_tasks_that_do(sync_shop: Any, where: Any) -> None:
    loops: list[Any] = []

    async def in_a_block(name: str) -> None:
        async with atomic() as db:
            db.add(SaNamed(name=name))

    async def of_the_orm(name: str) -> None:
        await Named.objects.acreate(name=name)

    async def hook() -> None:
        loops.append(asyncio.get_running_loop())
        await in_a_block("one")
        await asyncio.gather(in_a_block("two"), of_the_orm("three"))

    async def work() -> None:
        async with atomic() as db:
            db.on_commit(hook)
        assert loops == [asyncio.get_running_loop()]

    where(work)
    assert committed(names) == ["one", "three", "two"]


# -- a server that lives long ------------------------------------------------------------------------------------------


async def reads_joined() -> None:
    async with session(join=True) as db:
        await db.execute(select(SaNamed))
    async with atomic(join=True) as db:
        await db.execute(select(SaNamed))


def sync_view(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        async_to_sync(reads_joined)()
    return HttpResponse("ok")


async def async_view(request: HttpRequest) -> HttpResponse:
    async with atomic() as db:
        await db.execute(select(SaNamed))
    return HttpResponse("ok")


@pytest.mark.parametrize(
    ("middleware", "view"),
    [([SCOPED], sync_view), ([], sync_view), ([SCOPED], outside_scope(async_view))],
    ids=["in a scope", "in a thread", "outside of the scope"],
)
def test_requests_leave_neither_databases_nor_connections_behind(
    sync_shop: Any, project: Any, middleware: list[str], view: Any
) -> None:
    async def work() -> list[int]:
        counted = []
        for _ in range(4):
            assert (await get("/view"))[0] == 200
            counted.append(len(registry.databases()))
        gc.collect()
        alive = sum(type(one) is Caller for one in gc.get_objects())
        return [counted[-1] - counted[0], alive - before]

    site(project=project, middleware=middleware, view=view)
    gc.collect()
    before = sum(type(one) is Caller for one in gc.get_objects())
    databases, callers = on_its_own_loop(work)
    assert databases == 0
    assert callers <= 1, "one a request"
