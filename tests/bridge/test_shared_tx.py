"""One transaction, whoever asks: a session, the ORM, run_django and threads."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connection, transaction
from sqlalchemy import exc as sa_exc
from sqlalchemy import select, text, update

from asyncdb import Session, TransactionMisuse, TransactionOwnedByTask, TransactionPoisoned, registry
from django_bridge import atomic, database, run_django, scope
from django_bridge.conf import process_mode
from django_bridge.errors import DurableNested, ScopeOwnedByTask
from tests.bridge.shared import (
    READERS,
    WITHOUT_SAVEPOINT,
    WRITERS,
    Kind,
    Writer,
    clear,
    create_table,
    models,
    object_writes,
    orm_reads,
    orm_writes,
    outside,
    session_reads,
    session_writes,
    sync_code_reads,
)


def in_pairs(test: Callable[[Any, Any], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Runs a test for each two who write; one database for all of them, since making one is what takes time."""

    async def tested(tx: Any) -> None:
        for write, other in itertools.product(WRITERS, WRITERS):
            try:
                await test(write, other)
            except BaseException as err:
                err.add_note(f"{write.__name__}, then {other.__name__}")
                raise
            assert database().stats().checked_out == 0
            await clear()

    tested.__name__ = test.__name__
    return tested


@pytest.mark.contract
async def test_each_sees_the_others_uncommitted_row_and_nobody_else_does(tx: Any) -> None:
    for write, read in itertools.product(WRITERS, READERS):
        async with atomic() as db:
            await write(db, "one")
            assert await read(db) == ["one"], (write, read)
            assert database().stats().checked_out == (1 if process_mode() == "native" else 0)
            assert await outside() == []
        assert await outside() == ["one"]
        await clear()


@in_pairs
@pytest.mark.contract
async def test_an_exception_rolls_everything_back(write: Any, other: Any) -> None:
    with pytest.raises(LookupError):
        async with atomic() as db:
            await write(db, "one")
            await other(db, "two")
            raise LookupError
    assert await outside() == []


@in_pairs
async def test_an_inner_block_that_fails_takes_its_own_rows_alone(write: Any, other: Any) -> None:
    async with atomic() as db:
        await write(db, "one")
        with pytest.raises(LookupError):
            async with atomic() as inner:
                assert inner is db
                await other(db, "two")
                raise LookupError
        await other(db, "three")
        assert await orm_reads(db) == await session_reads(db) == ["one", "three"]
    assert await outside() == ["one", "three"]


@pytest.mark.native_only("asgiref forgets for whom a thread waits, which is cured with the hooks alone")
@in_pairs
async def test_sync_blocks_inside_go_back_for_everyone(write: Any, other: Any) -> None:
    def service(db: Session) -> None:
        with transaction.atomic():
            async_to_sync(other)(db, "two")
            with pytest.raises(LookupError), transaction.atomic():
                async_to_sync(write)(db, "three")
                raise LookupError

    async with atomic() as db:
        await write(db, "one")
        await run_django(service, db)
    assert await outside() == ["one", "two"]


@in_pairs
async def test_an_error_of_the_server_in_an_inner_block_leaves_the_rest(write: Any, other: Any) -> None:
    async with atomic() as db:
        await write(db, "one")
        with pytest.raises((IntegrityError, sa_exc.IntegrityError)):
            async with atomic():
                await other(db, "two")
                await write(db, "one")
                await db.flush()
        await other(db, "three")
    assert await outside() == ["one", "three"]


async def test_after_a_failed_write_nothing_is_committed_by_halves(tx: Any) -> None:
    async def both(write: Writer, other: Writer) -> None:
        async with atomic() as db:
            await write(db, "one")
            with pytest.raises((IntegrityError, sa_exc.IntegrityError)):
                await write(db, "one")
                await db.flush()
            with pytest.raises((transaction.TransactionManagementError, TransactionPoisoned, sa_exc.SQLAlchemyError)):
                await other(db, "two")
                await db.flush()

    for write, other in itertools.product(WITHOUT_SAVEPOINT, WITHOUT_SAVEPOINT):
        with pytest.raises(TransactionPoisoned):  # also where Django's own block would roll back in silence
            await both(write, other)
        assert await outside() == []


# -- hooks -----------------------------------------------------------------------------------------------------------


@pytest.mark.contract
async def test_hooks_of_both_sides_run_in_one_order_after_the_commit_and_async_ones_are_awaited(tx: Any) -> None:
    told: list[Any] = []

    async def awaited() -> None:
        await asyncio.sleep(0)
        told.append(("awaited", await ContentType.objects.acount(), database().stats().checked_out))

    def sync() -> None:
        told.append(("sync", ContentType.objects.count()))

    def from_sync_code() -> None:
        transaction.on_commit(lambda: told.append("sync code"))

    async with atomic() as db:
        await orm_writes(db, "one")
        db.on_commit(awaited)
        transaction.on_commit(sync)
        await run_django(from_sync_code)
        await sync_to_async(from_sync_code)()
        async with atomic():
            db.on_commit(lambda: told.append("inner"))
        assert told == []
    assert told == [("awaited", 1, 0), ("sync", 1), "sync code", "sync code", "inner"]


async def test_hooks_of_what_was_rolled_back_never_run(tx: Any) -> None:
    told: list[str] = []
    async with atomic() as db:
        with pytest.raises(LookupError):
            async with atomic():
                db.on_commit(lambda: told.append("inner"))
                transaction.on_commit(lambda: told.append("inner, Django's"))
                raise LookupError
        db.on_commit(lambda: told.append("outer"))
    with pytest.raises(LookupError):
        async with atomic() as db:
            db.on_commit(lambda: told.append("never"))
            raise LookupError
    async with atomic() as db:
        await orm_writes(db, "one")
    assert told == ["outer"]


async def test_a_robust_hook_that_fails_lets_the_next_one_run(tx: Any, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    async def fails() -> None:
        raise LookupError

    async with atomic() as db:
        db.on_commit(fails, robust=True)
        transaction.on_commit(lambda: told.append("next"), robust=True)
    assert told == ["next"]
    with pytest.raises(LookupError):
        async with atomic() as db:
            await orm_writes(db, "one")
            db.on_commit(fails)
    assert await outside() == ["one"]


async def test_a_robust_hook_of_sync_code_that_fails_is_named_as_django_names_it(
    tx: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: int) -> None:
        raise LookupError

    def register() -> None:
        with transaction.atomic():
            transaction.on_commit(fails, robust=True)
            if django.VERSION >= (6, 1):  # before, Django itself could not name a partial
                transaction.on_commit(partial(fails, 1), robust=True)

    await run_django(register)
    named = [record.getMessage() for record in caplog.records if "on_commit" in record.getMessage()]
    assert named
    assert all("fails" in message and "Awaited" not in message for message in named)


@pytest.mark.native_only("the hook is Django's own there")
@pytest.mark.parametrize("how", [run_django, lambda function: sync_to_async(function)()])
async def test_an_async_hook_of_sync_code_is_awaited(how: Any, tx: Any) -> None:
    told: list[str] = []

    async def hook() -> None:
        await asyncio.sleep(0)
        told.append("awaited")

    def service() -> None:
        with transaction.atomic():
            transaction.on_commit(hook)
            ContentType.objects.create(app_label="a", model="one")

    async with scope():
        await how(service)
    assert told == ["awaited"]


# -- Django's own meanings -------------------------------------------------------------------------------------------


async def test_set_rollback_rolls_back_in_silence(tx: Any) -> None:
    async with atomic() as db:
        await session_writes(db, "one")
        transaction.set_rollback(True)
    assert await outside() == []


async def test_savepoints_by_hand_take_the_sessions_rows_with_them(tx: Any) -> None:
    async with atomic() as db:
        await session_writes(db, "one")
        sid = await run_django(connection.savepoint)
        await object_writes(db, "two")
        await orm_writes(db, "three")
        await run_django(transaction.savepoint_rollback, sid)
        assert await session_reads(db) == ["one"]
        await object_writes(db, "four")
        await run_django(transaction.savepoint_rollback, sid)
        assert await orm_reads(db) == ["one"]
        await orm_writes(db, "five")
        await run_django(transaction.savepoint_commit, sid)
    assert await outside() == ["five", "one"]


@pytest.mark.native_only("there it has to be asked for: test_joined.py")
async def test_an_async_block_inside_a_sync_one_joins_its_transaction(tx: Any) -> None:
    async def inner(model: str, *, fail: bool = False) -> None:
        async with atomic() as db:
            await session_writes(db, model)
            await object_writes(db, f"{model}, object")
            if fail:
                raise LookupError

    def service() -> None:
        with transaction.atomic():
            ContentType.objects.create(app_label="a", model="one")
            async_to_sync(inner)("two")
            with pytest.raises(LookupError):
                async_to_sync(inner)("three", fail=True)
            assert models() == ["one", "two", "two, object"]
        with pytest.raises(LookupError), transaction.atomic():
            async_to_sync(inner)("four")
            raise LookupError

    await run_django(service)
    assert await outside() == ["one", "two", "two, object"]


async def test_select_for_update_and_get_or_create_work_inside(tx: Any) -> None:
    async with atomic() as db:
        await session_writes(db, "one")
        found = await ContentType.objects.select_for_update().aget(model="one")
        again, created = await ContentType.objects.aget_or_create(app_label="a", model="one")
        assert (again, created) == (found, False)
        _, created = await ContentType.objects.aupdate_or_create(app_label="a", model="two")
        assert created
    assert await outside() == ["one", "two"]


async def test_atomic_works_in_a_scope_with_queries_before_and_after(tx: Any) -> None:
    async with scope():
        assert await ContentType.objects.acount() == 0
        for number in range(3):
            async with atomic() as db:
                await session_writes(db, str(number))
        assert await ContentType.objects.acount() == 3
        assert database().stats().checked_out == 0


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_the_isolation_level_is_that_of_both(tx: Any, family: str) -> None:
    async with atomic(isolation="SERIALIZABLE", read_only=family == "postgresql") as db:
        if family == "postgresql":
            assert await db.fetch_val(text("SHOW transaction_isolation")) == "serializable"
        assert await orm_reads(db) == []
    async with atomic(isolation="REPEATABLE READ") as db:
        assert await orm_reads(db) == []
        await database().execute(text("SELECT 1"))
        async with scope():  # another connection
            pass
        assert await session_reads(db) == []


@pytest.mark.families("sqlite")
async def test_an_isolation_level_that_the_family_has_not_is_refused(tx: Any) -> None:
    with pytest.raises(TransactionMisuse, match="no isolation level"):
        await atomic(isolation="REPEATABLE READ").__aenter__()


async def test_the_verbs_of_the_database_are_part_of_the_block(tx: Any) -> None:
    with pytest.raises(LookupError):
        async with atomic() as db:
            await orm_writes(db, "one")
            assert await database().fetch_val(text("SELECT COUNT(*) FROM django_content_type"), into=int) == 1
            async with database().atomic() as inner:
                assert inner is db
                await session_writes(db, "two")
            raise LookupError
    assert await outside() == []


# -- the session's objects -------------------------------------------------------------------------------------------


async def test_after_the_orm_wrote_the_session_loads_anew(tx: Any) -> None:
    async with atomic() as db:
        kept = Kind(app_label="a", model="old")
        db.add(kept)
        await db.flush()
        await ContentType.objects.filter(pk=kept.id).aupdate(model="new")
        found = await db.get(Kind, kept.id)
        assert found is kept
        assert kept.model == "new"
        await ContentType.objects.filter(pk=kept.id).aupdate(model="newer")
        assert (await db.scalars(select(Kind))).one().model == "newer"
        kept.model = "mine"
        assert (await db.scalars(select(Kind))).one().model == "mine"
        await run_django(lambda: ContentType.objects.filter(pk=kept.id)._raw_delete("default"))
        assert await db.get(Kind, kept.id) is None


async def test_a_flush_that_fails_at_the_end_fails_the_block(tx: Any) -> None:
    told: list[str] = []
    with pytest.raises(sa_exc.IntegrityError):
        async with atomic() as db:
            await orm_writes(db, "one")
            db.on_commit(lambda: told.append("never"))
            await object_writes(db, "one")
    assert await outside() == []
    assert told == []


async def test_a_flush_that_fails_in_sync_codes_inner_block_is_djangos_error_and_leaves_the_rest(tx: Any) -> None:
    def service(db: Session) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            db.sync_session.add(Kind(app_label="a", model="one"))

    async with atomic() as db:
        await orm_writes(db, "one")
        await run_django(service, db)
        await orm_writes(db, "two")
        await object_writes(db, "three")
    assert await outside() == ["one", "three", "two"]


async def test_the_sessions_own_savepoint_takes_the_blame_for_what_failed_inside(tx: Any) -> None:
    async with atomic() as db:
        await orm_writes(db, "one")
        with pytest.raises(sa_exc.IntegrityError):
            async with db.begin_nested():
                await session_writes(db, "two")
                await session_writes(db, "one")
        with pytest.raises(sa_exc.IntegrityError):
            async with db.begin_nested():
                db.add(Kind(app_label="a", model="one"))
        await orm_writes(db, "three")
    assert await outside() == ["one", "three"]


async def test_the_sessions_own_savepoint_covers_what_the_orm_writes_first(tx: Any) -> None:
    told: list[str] = []
    async with atomic() as db:
        with pytest.raises(LookupError):
            async with db.begin_nested():
                await orm_writes(db, "one")
                transaction.on_commit(lambda: told.append("never"))
                raise LookupError
        with pytest.raises(LookupError):
            async with db.begin_nested(), atomic(savepoint=False):
                raise LookupError
        await orm_writes(db, "two")
    assert await outside() == ["two"]
    assert told == []


# -- misuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["commit", "rollback", "close", "reset", "invalidate", "begin"])
async def test_what_would_end_the_transaction_is_refused_by_name(name: str, tx: Any) -> None:
    async with atomic() as db:
        await orm_writes(db, "one")
        with pytest.raises(TransactionMisuse):
            await getattr(db, name)()
        with pytest.raises(TransactionMisuse):
            await db.execute(text("COMMIT"))
    assert await outside() == ["one"]


async def test_commit_by_the_sessions_other_doors_is_refused(tx: Any) -> None:
    async with atomic() as db:
        await orm_writes(db, "one")
        with pytest.raises(TransactionMisuse):
            await db.run_sync(lambda sync: sync.commit())
        with pytest.raises(TransactionMisuse):
            await (await db.connection()).commit()
    assert await outside() == ["one"]


async def test_a_rollback_on_the_connection_fails_the_block(tx: Any) -> None:
    with pytest.raises(TransactionPoisoned):
        async with atomic() as db:
            await orm_writes(db, "one")
            await (await db.connection()).rollback()
            with pytest.raises(transaction.TransactionManagementError):
                await orm_writes(db, "two")
    assert await outside() == []


async def test_a_durable_block_inside_another_is_refused(tx: Any) -> None:
    async with atomic():
        with pytest.raises(DurableNested, match="cannot be nested"):
            await atomic(durable=True).__aenter__()
        with pytest.raises(TransactionMisuse, match="belong to the outermost"):
            await atomic(isolation="SERIALIZABLE").__aenter__()
    async with atomic(durable=True) as db:
        await orm_writes(db, "one")
    assert await outside() == ["one"]


async def test_blocks_left_in_the_wrong_order_are_rolled_back(tx: Any) -> None:
    outer, inner = atomic(), atomic()
    db = await outer.__aenter__()
    await inner.__aenter__()
    await orm_writes(db, "one")
    with pytest.raises(TransactionMisuse, match="wrong order"):
        await outer.__aexit__(None, None, None)
    with pytest.raises(TransactionMisuse, match="wrong order"):
        await inner.__aexit__(None, None, None)
    assert await outside() == []
    async with atomic() as db:
        await orm_writes(db, "two")
    assert await outside() == ["two"]


async def test_a_session_kept_beyond_its_block_is_of_no_use(tx: Any) -> None:
    async with atomic() as db:
        kept = await db.connection()
    with pytest.raises(sa_exc.InvalidRequestError):
        await session_reads(db)
    with pytest.raises(sa_exc.InvalidRequestError):
        await kept.execute(text("SELECT 1"))
    with pytest.raises(TransactionMisuse, match="is over"):
        db.on_commit(print)


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.contract
async def test_after_a_deadlock_nothing_more_runs_and_nothing_is_committed(tx: Any) -> None:
    await ContentType.objects.abulk_create([ContentType(app_label="a", model=name) for name in ("one", "two")])
    waits = asyncio.Event()

    def touch(model: str) -> None:
        ContentType.objects.filter(model=model).update(app_label="b")

    async def other() -> None:
        async with atomic() as db:
            await db.execute(update(Kind).where(Kind.model == "two").values(app_label="c"))
            for model in "pqrst":  # the one that has written more lives
                await session_writes(db, model)
            waits.set()
            await db.execute(update(Kind).where(Kind.model == "one").values(app_label="c"))

    async def mine() -> None:
        async with atomic() as db:
            await run_django(touch, "one")
            task = asyncio.create_task(others_own())
            await waits.wait()
            await asyncio.sleep(0.05)
            with pytest.raises(Exception, match=r"1213|[Dd]eadlock"):
                async with atomic():
                    await run_django(touch, "two")
            with pytest.raises((TransactionPoisoned, transaction.TransactionManagementError)):
                await orm_writes(db, "x")
            with pytest.raises(TransactionPoisoned):
                await session_writes(db, "y")
            await task

    async def others_own() -> None:
        async with scope():
            await other()

    with pytest.raises(TransactionPoisoned):
        await mine()
    assert "x" not in await outside()
    assert await ContentType.objects.filter(app_label="b").acount() == 0


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_the_mixed_transaction_costs_five_round_trips(
    proxied: Any, default: Any, django_db_blocker: Any, family: str
) -> None:
    config, proxy = proxied
    default(
        "mysql" if family in {"mariadb", "mysql"} else family,
        HOST=config.host,
        PORT=config.port,
        USER=config.user,
        PASSWORD=config.password.get_secret_value() if config.password else "",
        NAME=config.database,
    )
    try:
        with django_db_blocker.unblock():
            await create_table()
            row = await ContentType.objects.acreate(app_label="a", model="one")

            async def mixed(model: str) -> None:
                async with atomic() as db:
                    await ContentType.objects.select_for_update().aget(pk=row.pk)
                    await db.execute(update(Kind).where(Kind.id == row.pk).values(app_label="b"))
                    await ContentType.objects.acreate(app_label="a", model=model)

            for number in range(8):  # what is asked once has been asked, what is prepared is prepared
                await mixed(f"before {number}")
            before = proxy.round_trips
            await mixed("two")
            assert proxy.round_trips - before == 5
    finally:
        await registry.close_all()


# -- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.native_only("the ORM's calls are Django's own there")
async def test_task_owner_no_other_task_uses_the_transaction(tx: Any) -> None:
    async with atomic() as db:
        await orm_writes(db, "one")

        async def block() -> None:
            async with atomic():
                pass

        for misuse in (session_reads(db), object_flushed(db), orm_reads(db), sync_code_reads(db), block()):
            with pytest.raises((ScopeOwnedByTask, TransactionOwnedByTask), match="one after"):
                await asyncio.create_task(misuse)
        with pytest.raises(ScopeOwnedByTask):
            await asyncio.create_task(database().execute(text("SELECT 1")))
        with pytest.raises((ScopeOwnedByTask, TransactionOwnedByTask)):
            await asyncio.gather(orm_reads(db), orm_reads(db))
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(orm_reads(db))

        async def apart() -> list[str]:
            async with scope():
                found = [one.model async for one in ContentType.objects.all()]
                return found + await database().fetch_all(select(Kind.model))

        assert await asyncio.create_task(apart()) == []
        assert await session_reads(db) == ["one"]
    assert await outside() == ["one"]


async def object_flushed(db: Session) -> None:
    db.add(Kind(app_label="a", model="object"))
    try:
        await db.flush()
    finally:
        db.expunge_all()


async def test_task_owner_a_block_left_by_another_task_is_rolled_back(tx: Any) -> None:
    block = atomic()
    db = await block.__aenter__()
    await orm_writes(db, "one")
    with pytest.raises((ScopeOwnedByTask, TransactionOwnedByTask)):
        await asyncio.create_task(block.__aexit__(None, None, None))
    assert await outside() == []
    assert connection.in_atomic_block is False
