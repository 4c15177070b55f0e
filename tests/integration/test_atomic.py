"""``atomic``: transactions and savepoints as blocks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, OperationalError

from asyncdb import (
    Database,
    TransactionMisuse,
    TransactionOwnedByTask,
    TransactionPoisoned,
)
from asyncdb.testing import DatabaseServer
from tests.tables import Book

Eventually = Callable[..., Awaitable[None]]


def _row(number: int) -> Any:
    return insert(Book).values(id=number, title=f"book {number}")


async def _new(database: Database) -> list[int]:
    """The ids that came after the three first ones."""
    return await database.fetch_all(select(Book.id).where(Book.id > 3).order_by(Book.id), into=int)


class Boom(Exception):
    pass


# The block


@pytest.mark.contract
async def test_a_block_commits_at_its_end(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        db.add(Book(id=11, title="orm"))
    assert await _new(books) == [10, 11]


@pytest.mark.contract
async def test_a_block_that_raises_is_rolled_back(books: Database) -> None:
    with pytest.raises(Boom):
        async with books.atomic() as db:
            await db.execute(_row(10))
            raise Boom
    assert await _new(books) == []


async def test_nobody_else_sees_it_before_its_end(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        async with books.session() as other:
            assert await other.fetch_all(select(Book.id).where(Book.id > 3)) == []
    assert await _new(books) == [10]


async def test_the_databases_verbs_run_inside_the_block(books: Database) -> None:
    with pytest.raises(Boom):
        async with books.atomic():
            await books.execute(_row(10))
            assert await _new(books) == [10]
            assert books.stats().checked_out == 1
            raise Boom
    assert await _new(books) == []


# Nested


@pytest.mark.contract
async def test_a_nested_block_is_a_savepoint_that_is_released(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        async with books.atomic() as inner:
            assert inner is db
            await inner.execute(_row(11))
    assert await _new(books) == [10, 11]


@pytest.mark.contract
async def test_a_nested_block_that_raises_is_rolled_back_alone(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        with pytest.raises(Boom):
            async with books.atomic():
                await db.execute(_row(11))
                raise Boom
        await db.execute(_row(12))
    assert await _new(books) == [10, 12]


async def test_a_nested_block_holds_what_is_written_on_the_sessions_connection(books: Database) -> None:
    async with books.atomic() as db:
        connection = await db.connection()
        with pytest.raises(Boom):
            async with books.atomic():
                await connection.execute(_row(10))
                raise Boom
        await connection.execute(_row(11))
    assert await _new(books) == [11]


async def test_a_statement_that_fails_in_a_nested_block_spoils_that_block_alone(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        with pytest.raises(IntegrityError):
            async with books.atomic():
                await db.execute(_row(10))
        await db.execute(_row(12))
    assert await _new(books) == [10, 12]


async def test_three_levels_deep_the_middle_one_takes_the_inner_one_along(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        with pytest.raises(Boom):
            async with books.atomic():
                await db.execute(_row(11))
                async with books.atomic():
                    await db.execute(_row(12))
                raise Boom
        await db.execute(_row(13))
    assert await _new(books) == [10, 13]


async def test_a_nested_block_without_savepoint_belongs_to_the_outer_one(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        async with books.atomic(savepoint=False):
            await db.execute(_row(11))
    assert await _new(books) == [10, 11]


async def test_a_nested_block_without_savepoint_that_fails_forbids_the_commit(books: Database) -> None:
    with pytest.raises(TransactionPoisoned, match="nested block without a savepoint failed"):
        async with books.atomic() as db:
            await db.execute(_row(10))
            with pytest.raises(Boom):
                async with books.atomic(savepoint=False):
                    raise Boom
            with pytest.raises(TransactionPoisoned):
                await db.execute(_row(11))
    assert await _new(books) == []
    assert books.stats().checked_out == 0


async def test_a_savepoint_around_a_failed_block_without_one_saves_the_outer_block(books: Database) -> None:
    """As in Django: the innermost savepoint takes the blame."""
    async with books.atomic() as db:
        await db.execute(_row(10))
        with pytest.raises(Boom):
            async with books.atomic(), books.atomic(savepoint=False):
                await db.execute(_row(11))
                raise Boom
        await db.execute(_row(12))
    assert await _new(books) == [10, 12]


async def test_a_failure_swallowed_within_a_savepoint_is_named_where_the_savepoint_ends(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        with pytest.raises(TransactionPoisoned, match="rolled back to its savepoint"):
            async with books.atomic():
                with pytest.raises(Boom):
                    async with books.atomic(savepoint=False):
                        await db.execute(_row(11))
                        raise Boom
        await db.execute(_row(12))
    assert await _new(books) == [10, 12]


async def test_a_durable_block_may_not_be_nested(books: Database) -> None:
    async with books.atomic(durable=True) as db:
        await db.execute(_row(10))
        with pytest.raises(TransactionMisuse, match=r"atomic\(durable=True\).*cannot be nested"):
            async with books.atomic(durable=True):
                raise AssertionError
    assert await _new(books) == [10]


async def test_a_block_after_another_is_not_nested(books: Database) -> None:
    async with books.atomic(durable=True) as db:
        await db.execute(_row(10))
    async with books.atomic(durable=True) as db:
        await db.execute(_row(11))
    assert await _new(books) == [10, 11]


# Isolation and read_only

LEVELS = ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


@pytest.mark.families("postgresql")
@pytest.mark.parametrize("level", LEVELS)
async def test_postgresql_runs_the_block_at_the_level_asked_for(books: Database, level: Any) -> None:
    async with books.atomic(isolation=level) as db:
        assert (await db.fetch_val(text("SHOW transaction_isolation"))).upper() == level
    async with books.atomic() as db:
        assert await db.fetch_val(text("SHOW transaction_isolation")) == "read committed"


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.parametrize("level", LEVELS)
async def test_mariadb_runs_the_block_at_the_level_asked_for(
    books: Database, level: Any, server: DatabaseServer
) -> None:
    async with books.atomic(isolation=level) as db:
        await db.execute(_row(10))
        first, found = await _transaction(db, before="")
        assert found == level
    async with books.atomic() as db:
        await db.execute(_row(11))
        assert (await _transaction(db, before=first))[1] == "REPEATABLE READ"


async def _transaction(db: Any, *, before: str) -> tuple[str, str]:
    """Id and level of the transaction that is open; MariaDB shows anew what nobody read for 0.1 s."""
    sql = text(
        "SELECT trx_id, trx_isolation_level FROM information_schema.innodb_trx"
        " WHERE trx_mysql_thread_id = CONNECTION_ID()"
    )
    for _ in range(20):
        found = await db.fetch_one_or_none(sql)
        if found is not None and str(found[0]) != before:
            return str(found[0]), found[1]
        await asyncio.sleep(0.15)
    raise AssertionError("MariaDB does not show the transaction")


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_repeatable_read_repeats_and_read_committed_does_not(books: Database) -> None:
    title = select(Book.title).where(Book.id == 1)
    for level, seen in (("REPEATABLE READ", "Momo"), ("READ COMMITTED", "changed")):
        await books.execute(update(Book).where(Book.id == 1).values(title="Momo"))
        async with books.atomic(isolation=level) as db:  # type: ignore[arg-type]
            assert await db.fetch_val(title) == "Momo"
            async with books.session() as other:
                await other.execute(update(Book).where(Book.id == 1).values(title="changed"))
                await other.commit()
            assert await db.fetch_val(title) == seen


@pytest.mark.families("sqlite")
async def test_sqlite_refuses_a_level_that_it_has_not(books: Database) -> None:
    with pytest.raises(TransactionMisuse, match="sqlite has no isolation level 'READ COMMITTED'"):
        books.atomic(isolation="READ COMMITTED")
    async with books.atomic(isolation="SERIALIZABLE") as db:
        await db.execute(_row(10))


async def test_a_level_in_a_nested_block_is_refused(books: Database) -> None:
    async with books.atomic():
        with pytest.raises(TransactionMisuse, match="isolation and read_only belong to the outermost"):
            async with books.atomic(isolation="SERIALIZABLE"):
                raise AssertionError
        with pytest.raises(TransactionMisuse, match="isolation and read_only belong to the outermost"):
            async with books.atomic(read_only=True):
                raise AssertionError


async def test_an_unknown_level_is_refused(books: Database) -> None:
    with pytest.raises((TransactionMisuse, ValueError), match="SNAPSHOT"):
        books.atomic(isolation="SNAPSHOT")  # type: ignore[arg-type]


@pytest.mark.contract
async def test_read_only_refuses_writes_on_the_server_and_the_next_block_may_write(books: Database) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)read.?only|READ ONLY"):
        async with books.atomic(read_only=True) as db:
            assert len(await db.fetch_all(select(Book.id))) == 3
            await db.execute(_row(10))
    async with books.atomic() as db:
        await db.execute(_row(11))
    await books.execute(_row(12))
    assert await _new(books) == [11, 12]
    assert books.stats().counts.connects == 1


# on_commit


async def test_hooks_run_after_the_commit_in_their_order(books: Database) -> None:
    seen: list[Any] = []

    async def asynchronous() -> None:
        seen.append(("b", await _new(books)))

    async with books.atomic() as db:
        await db.execute(_row(10))
        db.on_commit(lambda: seen.append("a"))
        db.on_commit(asynchronous)
        db.on_commit(lambda: seen.append("c"))
        assert seen == []
    assert seen == ["a", ("b", [10]), "c"]


async def test_hooks_of_a_nested_block_run_after_the_outermost_commit(books: Database) -> None:
    seen: list[str] = []
    async with books.atomic() as db:
        db.on_commit(lambda: seen.append("before"))
        async with books.atomic():
            db.on_commit(lambda: seen.append("inner"))
            async with books.atomic():
                db.on_commit(lambda: seen.append("innermost"))
        assert seen == []
        db.on_commit(lambda: seen.append("after"))
    assert seen == ["before", "inner", "innermost", "after"]


async def test_hooks_of_what_was_rolled_back_never_run(books: Database) -> None:
    seen: list[str] = []
    async with books.atomic() as db:
        db.on_commit(lambda: seen.append("outer"))
        with pytest.raises(Boom):
            async with books.atomic():
                db.on_commit(lambda: seen.append("inner"))
                async with books.atomic():
                    db.on_commit(lambda: seen.append("released in it"))
                raise Boom
    assert seen == ["outer"]
    with pytest.raises(Boom):
        async with books.atomic() as db:
            db.on_commit(lambda: seen.append("never"))
            raise Boom
    assert seen == ["outer"]


async def test_hooks_do_not_run_if_the_commit_fails(books: Database, server: DatabaseServer | None) -> None:
    seen: list[str] = []
    with pytest.raises((DBAPIError, TransactionPoisoned)):
        async with books.atomic() as db:
            db.on_commit(lambda: seen.append("never"))
            with pytest.raises(IntegrityError):
                await db.execute(_row(1))
            raw = await (await db.connection()).get_raw_connection()
            raw.dbapi_connection.spoiled = "the test says so"  # type: ignore[union-attr]
    assert seen == []
    assert books.stats().checked_out == 0


async def test_a_failing_hook_raises_and_stops_the_others_and_the_commit_stands(books: Database) -> None:
    seen: list[str] = []

    def failing() -> None:
        raise Boom

    with pytest.raises(Boom):
        async with books.atomic() as db:
            await db.execute(_row(10))
            db.on_commit(failing)
            db.on_commit(lambda: seen.append("never"))
    assert seen == []
    assert await _new(books) == [10]


async def test_a_robust_hook_that_fails_is_logged_and_the_others_run(
    books: Database, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    async def failing() -> None:
        raise Boom

    async with books.atomic() as db:
        db.on_commit(failing, robust=True)
        db.on_commit(lambda: seen.append("ran"))
    assert seen == ["ran"]
    [record] = [record for record in caplog.records if record.name == "asyncdb.transaction"]
    assert record.levelno == logging.ERROR
    assert "failing" in record.getMessage()


async def test_a_hook_may_open_a_block_of_its_own(books: Database) -> None:
    async def hook() -> None:
        async with books.atomic(durable=True) as db:
            await db.execute(_row(11))

    async with books.atomic() as db:
        await db.execute(_row(10))
        db.on_commit(hook)
    assert await _new(books) == [10, 11]


async def test_a_hook_that_is_no_function_is_refused_at_once(books: Database) -> None:
    async with books.atomic() as db:
        with pytest.raises(TypeError):
            db.on_commit("not a function")  # type: ignore[arg-type]


# Misuse


@pytest.mark.parametrize("verb", ["commit", "rollback", "close"])
async def test_ending_the_block_by_hand_is_refused_by_name(books: Database, verb: str) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        with pytest.raises(TransactionMisuse, match="atomic"):
            await getattr(db, verb)()
    assert await _new(books) == [10]


@pytest.mark.parametrize("verb", ["reset", "invalidate", "begin"])
async def test_beginning_anew_inside_the_block_is_refused_and_nothing_survives_its_roll_back(
    books: Database, verb: str
) -> None:
    with pytest.raises(TransactionMisuse, match="atomic"):
        async with books.atomic() as db:
            if verb != "begin":
                await db.execute(_row(10))
                await getattr(db, verb)()
            async with db.begin():
                await db.execute(_row(11))
    assert await _new(books) == []
    assert books.stats().checked_out == 0


async def test_another_task_in_the_block_is_refused_with_both_names(books: Database) -> None:
    async def child() -> None:
        await books.fetch_val(select(1))

    async with books.atomic() as db:
        await db.execute(_row(10))
        mine = asyncio.current_task()
        assert mine is not None
        with pytest.raises(TransactionOwnedByTask, match=rf"{mine.get_name()}.*child-task"):
            await asyncio.create_task(child(), name="child-task")
    assert await _new(books) == [10]


async def test_another_task_that_nests_in_the_block_is_refused(books: Database) -> None:
    async def child() -> None:
        async with books.atomic():
            raise AssertionError

    async with books.atomic():
        with pytest.raises(TransactionOwnedByTask):
            await asyncio.create_task(child())


async def test_a_block_in_a_generator_that_nobody_finished_gives_its_connection_back(
    books: Database, open_transactions: Callable[[], int], eventually: Eventually
) -> None:
    async def numbers() -> AsyncGenerator[int]:
        async with books.atomic() as db:
            await db.execute(_row(10))
            for number in await db.fetch_all(select(Book.id), into=int):
                yield number

    generator = numbers()
    await anext(generator)
    with pytest.raises(TransactionOwnedByTask):  # as asyncio does with a generator that was collected
        await asyncio.create_task(generator.aclose())
    assert books.stats().checked_out == 0
    await eventually(lambda: open_transactions() == 0)
    async with books.atomic() as db:
        await db.execute(_row(11))
    assert await _new(books) == [11]


async def test_another_task_may_use_a_session_of_its_own(books: Database) -> None:
    async def child() -> int:
        async with books.session() as db:
            return len(await db.fetch_all(select(Book.id)))

    async with books.atomic() as db:
        await db.execute(select(1))
        assert await asyncio.create_task(child()) == 3


async def test_a_block_entered_twice_is_refused(books: Database) -> None:
    block = books.atomic()
    async with block:
        with pytest.raises(TransactionMisuse, match="entered already"):
            await block.__aenter__()


async def test_blocks_left_in_the_wrong_order_are_refused(books: Database) -> None:
    outer, inner = books.atomic(), books.atomic()
    await outer.__aenter__()
    await inner.__aenter__()
    with pytest.raises(TransactionMisuse, match="wrong order"):
        await outer.__aexit__(None, None, None)
    await inner.__aexit__(None, None, None)
    await outer.__aexit__(None, None, None)
    assert books.stats().checked_out == 0


async def test_the_session_of_a_block_that_is_over_is_refused(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
    with pytest.raises(InvalidRequestError):
        await db.execute(_row(11))
    assert await _new(books) == [10]
    assert books.stats().checked_out == 0


# Errors that end the transaction on the server


@pytest.mark.families("mariadb", "mysql")
@pytest.mark.contract
async def test_a_deadlock_poisons_the_transaction_and_the_connection_stays_healthy(books: Database) -> None:
    ready = [asyncio.Event(), asyncio.Event()]
    outcomes: list[str] = []
    ids: list[int] = []
    codes: list[int] = []

    async def work(mine: int) -> None:
        other = 1 - mine
        try:
            async with books.atomic() as db:
                ids.append(await db.fetch_val(text("SELECT CONNECTION_ID()")))
                await db.execute(_row(20 + mine))
                await db.execute(update(Book).where(Book.id == 1 + mine).values(title=f"by {mine}"))
                ready[mine].set()
                await ready[other].wait()
                try:
                    await db.execute(update(Book).where(Book.id == 1 + other).values(title=f"by {mine}"))
                except DBAPIError as err:
                    codes.append(err.orig.args[0])  # type: ignore[union-attr]
                    with pytest.raises(TransactionPoisoned, match="deadlock"):
                        await db.execute(_row(30))
        except TransactionPoisoned:
            outcomes.append("poisoned")
        else:
            outcomes.append("committed")

    await asyncio.gather(work(0), work(1))
    assert sorted(outcomes) == ["committed", "poisoned"]
    assert codes == [1213]
    assert len(await _new(books)) == 1
    assert books.stats().checked_out == 0
    assert await books.fetch_val(text("SELECT CONNECTION_ID()")) in ids
    assert books.stats().counts.connects == 2


@pytest.mark.families("mariadb", "mysql")
async def test_a_deadlock_in_a_savepoint_poisons_the_outer_block_as_well(books: Database) -> None:
    ready = [asyncio.Event(), asyncio.Event()]
    outcomes: list[str] = []

    async def work(mine: int) -> None:
        other = 1 - mine
        try:
            async with books.atomic() as db:
                await db.execute(_row(20 + mine))
                await db.execute(update(Book).where(Book.id == 1 + mine).values(title=f"by {mine}"))
                ready[mine].set()
                await ready[other].wait()
                try:
                    async with books.atomic():
                        await db.execute(update(Book).where(Book.id == 1 + other).values(title=f"by {mine}"))
                except DBAPIError:
                    await db.execute(_row(30))
        except TransactionPoisoned:
            outcomes.append("poisoned")
        else:
            outcomes.append("committed")

    await asyncio.gather(work(0), work(1))
    assert sorted(outcomes) == ["committed", "poisoned"]
    assert 30 not in await _new(books)
    assert len(await _new(books)) == 1


@pytest.mark.families("mariadb", "mysql")
async def test_after_a_reply_that_cannot_be_read_nothing_is_committed(books: Database) -> None:
    async with books.session() as db:
        await db.execute(_row(10))
        await db.execute(text("SET character_set_results = latin1"))
        with pytest.raises(UnicodeDecodeError):
            await db.execute(text("SELECT 'é' UNION ALL SELECT 'éé'"))
        with pytest.raises(OperationalError, match="nothing was committed"):
            await db.commit()
    assert await _new(books) == []


@pytest.mark.families("mariadb", "mysql")
async def test_a_deadlock_in_a_session_refuses_its_commit(books: Database) -> None:
    ready = [asyncio.Event(), asyncio.Event()]
    outcomes: list[str] = []

    async def work(mine: int) -> None:
        other = 1 - mine
        async with books.session() as db:
            await db.execute(_row(20 + mine))
            await db.execute(update(Book).where(Book.id == 1 + mine).values(title=f"by {mine}"))
            ready[mine].set()
            await ready[other].wait()
            try:
                await db.execute(update(Book).where(Book.id == 1 + other).values(title=f"by {mine}"))
                await db.commit()
                outcomes.append("committed")
            except DBAPIError:
                with pytest.raises(TransactionPoisoned):
                    await db.commit()
                outcomes.append("poisoned")
                await db.rollback()
                await db.execute(_row(40))  # a new transaction
                await db.commit()

    await asyncio.gather(work(0), work(1))
    assert sorted(outcomes) == ["committed", "poisoned"]
    assert len(await _new(books)) == 2
    assert 40 in await _new(books)


@pytest.mark.families("postgresql")
async def test_postgresql_after_a_failed_statement_does_not_end_as_if_committed(books: Database) -> None:
    with pytest.raises((TransactionPoisoned, DBAPIError)):
        async with books.atomic() as db:
            await db.execute(_row(10))
            with pytest.raises(IntegrityError):
                await db.execute(_row(10))
    assert await _new(books) == []
    async with books.session() as db:
        await db.execute(_row(10))
        with pytest.raises(IntegrityError):
            await db.execute(_row(10))
        with pytest.raises((TransactionPoisoned, DBAPIError)):
            await db.commit()
        await db.rollback()
    assert await _new(books) == []
    assert books.stats().counts.connects == 1


@pytest.mark.families("mariadb", "sqlite", "mysql")
async def test_elsewhere_a_failed_statement_undoes_itself_alone(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        with pytest.raises(IntegrityError):
            await db.execute(_row(10))
        await db.execute(_row(11))
    assert await _new(books) == [10, 11]


@pytest.mark.families("mariadb", "mysql")
async def test_ddl_that_commits_by_itself_inside_a_block_is_not_taken_for_a_transaction(books: Database) -> None:
    """MySQL commits before DDL: what follows would not be rolled back. It must not pass in silence."""
    with pytest.raises(Boom):
        async with books.atomic() as db:
            await db.execute(_row(10))
            await db.execute(text("CREATE TABLE other (id INT)"))
            await db.execute(_row(11))
            raise Boom
    assert 11 not in await _new(books)


async def test_a_second_task_cannot_use_the_session_of_a_block(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        stranger = asyncio.create_task(db.fetch_val(select(1)), name="the stranger")
        with pytest.raises(TransactionOwnedByTask, match="the stranger"):
            await stranger
        await db.execute(_row(11))
    assert await _new(books) == [10, 11]


@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK", "begin", "START TRANSACTION", "rollback work"])
async def test_beginning_and_ending_in_sql_is_refused_inside_a_block(books: Database, sql: str) -> None:
    with pytest.raises(TransactionMisuse, match="ends its transaction itself"):
        async with books.atomic() as db:
            await db.execute(_row(10))
            await db.execute(text(sql))
    assert await _new(books) == []
    assert books.stats().checked_out == 0


async def test_a_commit_on_the_connection_of_a_block_is_refused_and_nothing_survives(books: Database) -> None:
    with pytest.raises(TransactionMisuse, match="ends its transaction itself"):
        async with books.atomic() as db:
            await db.execute(_row(10))
            await (await db.connection()).commit()
    assert await _new(books) == []
    assert books.stats().checked_out == 0


async def test_a_savepoint_by_hand_works_inside_a_block(books: Database) -> None:
    async with books.atomic() as db:
        await db.execute(_row(10))
        await db.execute(text("SAVEPOINT mine"))
        await db.execute(_row(11))
        await db.execute(text("ROLLBACK TO SAVEPOINT mine"))
    assert await _new(books) == [10]
