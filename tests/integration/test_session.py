"""``Session``: commit is its user's, and what nobody committed is told."""

from __future__ import annotations

import contextlib

import pytest
from sqlalchemy import bindparam, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from asyncdb import Database, Session, TransactionMisuse, UncommittedWrites
from tests.tables import Author, Book


async def _count(database: Database) -> int:
    return len(await database.fetch_all(select(Book.id)))


WRITES = {
    "insert": insert(Book).values(id=9, title="x"),
    "update": update(Book).values(title="x"),
    "delete": delete(Book).where(Book.id == 1),
    "text": text("INSERT INTO book (id, title) VALUES (9, 'x')"),
    "text update": text("  update book set title = 'x'"),
    "commented text": text("/* why */ DELETE FROM book WHERE id = 1"),
}


@pytest.mark.parametrize("statement", WRITES.values(), ids=WRITES.keys())
@pytest.mark.contract
async def test_a_write_that_nobody_committed_is_told_and_rolled_back(books: Database, statement: object) -> None:
    before = await books.fetch_all(select(Book.id, Book.title).order_by(Book.id))
    with pytest.raises(UncommittedWrites, match="'default' wrote and ended without a commit"):
        async with books.session() as db:
            await db.execute(statement)  # type: ignore[call-overload]
    assert await books.fetch_all(select(Book.id, Book.title).order_by(Book.id)) == before
    assert books.stats().checked_out == 0


async def test_many_rows_that_nobody_committed_are_told(books: Database) -> None:
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            statement = insert(Book).values(id=bindparam("n"), title="x")
            await db.execute(statement, [{"n": 20}, {"n": 21}])


async def test_an_object_that_was_never_flushed_is_told(books: Database) -> None:
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            db.add(Book(id=9, title="x"))


async def test_an_object_that_was_flushed_is_told(books: Database) -> None:
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            db.add(Book(id=9, title="x"))
            await db.flush()
    assert await _count(books) == 3


async def test_a_changed_and_a_deleted_object_are_told(books: Database) -> None:
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            (await db.get_one(Book, 1)).title = "changed"
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            await db.delete(await db.get_one(Book, 1))
    assert await _count(books) == 3


async def test_a_write_after_the_commit_is_told(books: Database) -> None:
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            await db.execute(insert(Book).values(id=9, title="kept"))
            await db.commit()
            await db.execute(insert(Book).values(id=10, title="lost"))
    assert await books.fetch_all(select(Book.id).where(Book.id > 3), into=int) == [9]


async def test_a_write_in_a_released_savepoint_is_told(books: Database) -> None:
    with pytest.raises(UncommittedWrites):
        async with books.session() as db, db.begin_nested():
            await db.execute(insert(Book).values(id=9, title="x"))


@pytest.mark.families("mariadb", "postgresql", "sqlite")  # MySQL has no RETURNING
async def test_a_write_in_sql_with_a_returning_clause_is_told(books: Database) -> None:
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            await db.execute(insert(Book).values(id=9, title="x").returning(Book.id))


@pytest.mark.families("mariadb", "sqlite")  # a cursor of PostgreSQL's is for SELECT alone
async def test_a_write_that_was_streamed_is_told(books: Database) -> None:
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            rows = db.stream(insert(Book).values(id=9, title="x").returning(Book.id))
            assert [row async for row in rows] == [(9,)]


async def test_committed_writes_are_no_error(books: Database) -> None:
    async with books.session() as db:
        db.add(Book(id=9, title="x"))
        await db.execute(insert(Book).values(id=10, title="x"))
        await db.commit()
    assert await _count(books) == 5


async def test_rolled_back_writes_are_no_error(books: Database) -> None:
    async with books.session() as db:
        db.add(Book(id=9, title="x"))
        await db.execute(insert(Book).values(id=10, title="x"))
        await db.rollback()
    assert await _count(books) == 3


async def test_begin_blocks_of_sqlalchemys_work_as_they_do(books: Database) -> None:
    async with books.session() as db, db.begin():
        db.add(Book(id=9, title="x"))
    assert await _count(books) == 4


async def test_an_exception_keeps_its_own_name(books: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with books.session() as db:
            await db.execute(insert(Book).values(id=9, title="x"))
            raise ZeroDivisionError
    assert await _count(books) == 3


@pytest.mark.parametrize("sql", ["SELECT title FROM book", "WITH x AS (SELECT 1 AS a) SELECT a FROM x", "VALUES (1)"])
async def test_reading_is_no_write(books: Database, family: str, sql: str) -> None:
    sql = sql.replace("VALUES (", "VALUES ROW(") if family == "mysql" else sql
    async with books.session() as db:
        (await db.execute(text(sql))).all()
        (await db.execute(select(Book))).all()
        (await db.execute(select(Book).with_for_update())).all()
        assert not db.has_uncommitted_writes


async def test_a_failed_write_that_was_caught_does_not_lose_the_others_in_silence(books: Database) -> None:
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            await db.execute(insert(Book).values(id=9, title="x"))
            with contextlib.suppress(IntegrityError):
                await db.execute(insert(Book).values(id=1, title="twice"))


async def test_a_session_of_autocommit_has_nothing_to_lose(books: Database) -> None:
    async with books.session() as db:
        await db.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        await db.execute(insert(Book).values(id=9, title="x"))
    assert await _count(books) == 4


async def test_the_next_session_does_not_inherit_autocommit(books: Database) -> None:
    async with books.session() as db:
        await db.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        await db.execute(select(1))
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            await db.execute(insert(Book).values(id=9, title="x"))
    assert await _count(books) == 3


@pytest.mark.contract
async def test_a_session_is_sqlalchemys_and_objects_stay_loaded_after_commit(books: Database) -> None:
    async with books.session() as db:
        assert isinstance(db, AsyncSession)
        assert isinstance(db, Session)
        momo = await db.get_one(Book, 1)
        momo.title = "MOMO"
        await db.commit()
        assert momo.title == "MOMO"


async def test_options_of_the_session_are_sqlalchemys(books: Database) -> None:
    async with books.session(autoflush=False) as db:
        db.add(Author(id=7, name="nobody"))
        assert await db.fetch_all(select(Author.id), into=int) == [1]
        await db.rollback()


@pytest.mark.contract
async def test_a_session_takes_its_connection_late_and_gives_it_back_at_commit(books: Database) -> None:
    async with books.session() as db:
        assert books.stats().checked_out == 0
        await db.execute(select(1))
        assert books.stats().checked_out == 1
        await db.commit()
        assert books.stats().checked_out == 0


async def test_on_commit_needs_an_atomic_block(books: Database) -> None:
    async with books.session() as db:
        with pytest.raises(TransactionMisuse, match=r"on_commit\(\) needs an atomic\(\) block"):
            db.on_commit(lambda: None)


@pytest.mark.contract
async def test_one_statement_of_the_database_commits_by_itself(books: Database, family: str) -> None:
    result = await books.execute(update(Book).where(Book.id < 3).values(title="x"))
    assert result.rowcount == 2  # type: ignore[attr-defined]
    new = insert(Book).values(id=9, title="y")
    if family == "mysql":  # which has no RETURNING
        assert (await books.execute(new)).rowcount == 1  # type: ignore[attr-defined]
    else:
        returned = await books.fetch_all(new.returning(Book.id, Book.title))
        assert [tuple(row) for row in returned] == [(9, "y")]
    assert len(await books.fetch_all(select(Book.id).where(Book.title.in_(["x", "y"])))) == 3


async def test_text_that_writes_commits_by_itself_too(books: Database, family: str) -> None:
    await books.execute(text("INSERT INTO book (id, title) VALUES (:id, :title)"), {"id": 9, "title": "x"})
    assert await _count(books) == 4
    if family == "mysql":  # which has no RETURNING
        await books.execute(text("DELETE FROM book WHERE id = 9"))
        assert await _count(books) == 3
        return
    rows = await books.fetch_all(text("DELETE FROM book WHERE id = 9 RETURNING id"))
    assert [tuple(row) for row in rows] == [(9,)]
    assert await _count(books) == 3


async def test_execute_gives_its_rows_after_the_connection_is_back(books: Database) -> None:
    result = await books.execute(select(Book.id).order_by(Book.id))
    assert books.stats().checked_out == 0
    assert result.scalars().all() == [1, 2, 3]


async def test_database_execute_takes_many_rows_of_a_class_at_once(books: Database) -> None:
    await books.execute(insert(Book), [{"id": 8, "title": "x"}, {"id": 9, "title": "y"}])
    assert await _count(books) == 5


@pytest.mark.families("postgresql", "mariadb")
async def test_a_function_that_writes_is_committed_by_database_execute(books: Database, family: str) -> None:
    """Nobody can see the write in ``SELECT writes()``; a statement of its own commits whatever it was."""
    body = "INSERT INTO book (id, title) VALUES (9, 'by function')"
    if family == "postgresql":
        sql = f"CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS $$ {body} RETURNING 1 $$"
    else:
        sql = f"CREATE FUNCTION writes() RETURNS INT MODIFIES SQL DATA BEGIN {body}; RETURN 1; END"
    await books.execute(text(sql))
    assert await books.fetch_val(text("SELECT writes()")) == 1
    assert await _count(books) == 4


async def test_a_write_that_failed_is_not_one_that_nobody_committed(books: Database) -> None:
    async with books.session() as db:
        with pytest.raises(IntegrityError):
            await db.execute(insert(Book).values(id=1, title="there already"))
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            await db.execute(insert(Book).values(id=10, title="new"))
            with pytest.raises(IntegrityError):
                await db.execute(insert(Book).values(id=1, title="there already"))


async def test_a_write_that_was_rolled_back_to_a_savepoint_is_not_one_that_nobody_committed(books: Database) -> None:
    async with books.session() as db:
        savepoint = await db.begin_nested()
        await db.execute(insert(Book).values(id=10, title="new"))
        await savepoint.rollback()
    with pytest.raises(UncommittedWrites):
        async with books.session() as db:
            await db.execute(insert(Book).values(id=10, title="new"))
            savepoint = await db.begin_nested()
            await db.execute(insert(Book).values(id=11, title="newer"))
            await savepoint.rollback()


async def test_a_session_forgotten_inside_a_block_is_told_of_the_blocks_own(books: Database) -> None:
    with pytest.raises(UncommittedWrites, match=r"not part of it: use the block's own session"):
        async with books.atomic(), books.session() as other:
            await other.execute(insert(Book).values(id=40, title="outside"))
    assert await books.fetch_one_or_none(select(Book.id).where(Book.id == 40)) is None


async def test_a_session_is_closed_even_where_it_cannot_be_told_what_it_holds(
    books: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Session) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with books.session() as db:
            await db.fetch_val(select(1))
            monkeypatch.setattr(Session, "has_uncommitted_writes", property(broken))
    assert books.stats().checked_out == 0
