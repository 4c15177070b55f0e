"""What a statement does to a transaction: told from its compiled form, the stronger kind where nothing is known."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    case,
    cast,
    column,
    delete,
    exists,
    func,
    insert,
    lambda_stmt,
    literal,
    literal_column,
    or_,
    select,
    text,
    union_all,
    update,
    values,
)  # fmt: skip
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import joinedload
from sqlalchemy.schema import CreateTable, DropTable
from sqlalchemy.sql.elements import ColumnElement

from asyncdb.drivers import mysql, postgresql, sqlite
from asyncdb.drivers.statements import Kind, is_plain_read, kind_of, kind_of_text
from tests.tables import Author, Book

DIALECTS = {"mysql": mysql.Dialect, "postgresql": postgresql.Dialect, "sqlite": sqlite.Dialect}
table = Table("t", MetaData(), Column("id", Integer, primary_key=True), Column("name", String(10)))


class NextNumber(ColumnElement[int]):
    inherit_cache = True


@compiles(NextNumber)
def _next_number(element: Any, compiler: Any, **kw: Any) -> str:
    return "take_a_number()"


def _kind(statement: Any, dialect: str = "postgresql") -> Kind:
    compiled = statement.compile(dialect=DIALECTS[dialect]())

    class Context:
        pass

    context: Any = Context()
    context.compiled = compiled
    return kind_of(context, str(compiled))


inner = select(table.c.id).where(table.c.name == "x")
new = insert(table).values(id=1).returning(table.c.id)

READS = {
    "select": select(table),
    "where": select(table).where(or_(table.c.id == 1, table.c.name.like("a%"))).order_by(table.c.id).limit(3),
    "functions": select(func.count(), func.lower(table.c.name), func.coalesce(table.c.name, "x"), func.max(table.c.id)),
    "generic functions": select(func.now(), func.current_timestamp(), func.sum(table.c.id)),
    "window": select(func.row_number().over(order_by=table.c.id)),
    "case and cast": select(case((table.c.id > 1, "a"), else_="b"), cast(table.c.id, String(9))),
    "subquery": select(inner.subquery()),
    "exists": select(table).where(exists(inner)),
    "in": select(table).where(table.c.id.in_(inner)),
    "expanding in": select(table).where(table.c.id.in_([1, 2, 3])),
    "union": union_all(inner, inner),
    "cte": select(inner.cte("c")),
    "orm": select(Book).join(Author).options(joinedload(Book.author)),
    "orm column": select(Book.title).where(Book.id == 1),
    "literal": select(literal(1)),
    "lambda": lambda_stmt(lambda: select(table).where(table.c.id == 1)),
    "values": select(values(column("a", Integer), name="v").data([(1,), (2,)])),
}
OPAQUE = {
    "text": text("SELECT 1"),
    "text with": text("WITH x AS (SELECT 1) SELECT * FROM x"),
    "text in where": select(table).where(text("id = take_a_number()")),
    "text columns": text("SELECT id FROM t").columns(table.c.id),
    "literal_column": None,
    "for update": select(table).with_for_update(),
    "for share": select(table).with_for_update(read=True),
    "for update in a subquery": select(select(table).with_for_update().subquery()),
    "unknown function": select(func.take_a_number()),
    "unknown function deep within": select(table).where(table.c.id == select(func.take_a_number()).scalar_subquery()),
    "unknown function of a schema": select(func.audit.lower(table.c.name)),
    "nextval": select(Sequence("s").next_value()),
    "custom compiles": select(NextNumber()),
    "custom operator": select(table.c.name.op("~~>")("x")),
    "select from function": select(func.take_numbers().table_valued("n")),
}
WRITES = {
    "insert": insert(table).values(id=1),
    "insert from select": insert(table).from_select(["id"], inner),
    "insert returning": new,
    "update": update(table).values(name="x"),
    "delete": delete(table),
    "cte with dml": select(new.cte("new_rows")),
    "union over a cte with dml": union_all(select(new.cte("n").c.id), inner),
    "orm insert": insert(Book).values(id=1, title="x"),
    "orm update": update(Book).values(title="x"),
    "create": CreateTable(table),
    "drop": DropTable(table),
    "text insert": text("INSERT INTO t VALUES (1)"),
    "text cte with dml": text("WITH d AS (DELETE FROM t RETURNING id) SELECT id FROM d"),
    "text select into": text("SELECT id INTO copy FROM t"),
    "lambda": lambda_stmt(lambda: update(table).values(name="x")),
}
del OPAQUE["literal_column"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", READS)
def test_a_plain_read_is_a_read(name: str, dialect: str) -> None:
    assert _kind(READS[name], dialect) is Kind.READ


@pytest.mark.parametrize("name", OPAQUE)
def test_what_may_lock_or_write_is_opaque(name: str) -> None:
    assert _kind(OPAQUE[name]) is Kind.OPAQUE


@pytest.mark.parametrize("name", WRITES)
def test_what_writes_is_a_write(name: str) -> None:
    assert _kind(WRITES[name]) is Kind.WRITE


def test_a_literal_column_may_hold_anything() -> None:
    assert _kind(select(literal_column("take_a_number()"))) is Kind.OPAQUE


def test_a_prefix_or_hint_may_hold_anything() -> None:
    assert _kind(select(table).prefix_with("SQL_NO_CACHE", dialect="mysql"), "mysql") in (Kind.READ, Kind.OPAQUE)
    assert _kind(select(table).suffix_with("FOR UPDATE")) is Kind.OPAQUE
    assert _kind(select(table).with_statement_hint("INTO OUTFILE 'x'")) is Kind.OPAQUE


def test_the_upserts_of_the_dialects_are_writes() -> None:
    assert _kind(postgresql_insert(table).values(id=1).on_conflict_do_nothing()) is Kind.WRITE
    assert _kind(mysql_insert(table).values(id=1).on_duplicate_key_update(name="x"), "mysql") is Kind.WRITE


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SAVEPOINT a", Kind.CONTROL),
        ("RELEASE SAVEPOINT a", Kind.CONTROL),
        ("ROLLBACK TO SAVEPOINT a", Kind.CONTROL),
        ("SET search_path = x", Kind.CONTROL),
        ("  select 1", Kind.OPAQUE),
        ("(SELECT 1)", Kind.OPAQUE),
        ("-- INSERT\nSELECT 1", Kind.OPAQUE),
        ("/* DELETE */ SELECT 'update it'", Kind.OPAQUE),
        ("SELECT id FROM t FOR UPDATE", Kind.OPAQUE),
        ("SELECT id FROM t FOR NO KEY UPDATE SKIP LOCKED", Kind.OPAQUE),
        ("EXPLAIN SELECT 1", Kind.OPAQUE),
        ("EXPLAIN ANALYZE DELETE FROM t", Kind.WRITE),
        ("SHOW TABLES", Kind.OPAQUE),
        ("PRAGMA table_info(t)", Kind.OPAQUE),
        ("insert into t values (1)", Kind.WRITE),
        ("/*x*/ UPDATE t SET a = 1", Kind.WRITE),
        ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", Kind.WRITE),
        ("REPLACE INTO t VALUES (1)", Kind.WRITE),
        ("CALL p()", Kind.WRITE),
        ("TRUNCATE t", Kind.WRITE),
        ("ALTER TABLE t ADD x INT", Kind.WRITE),
        ("DO $$ BEGIN DELETE FROM t; END $$", Kind.WRITE),
        ("COPY t FROM STDIN", Kind.WRITE),
        ('COPY "to" FROM STDIN', Kind.WRITE),
        ("COPY t FROM STDIN WHERE a SIMILAR TO 'x%'", Kind.WRITE),
        ("COPY t (a, b) FROM STDIN WHERE now() - interval '1-2' year to month < now()", Kind.WRITE),
        ("COPY t /* a /* nested */ to load */ FROM STDIN", Kind.WRITE),
        ("COPY t FROM STDIN (DELIMITER $$to$$)", Kind.WRITE),
        ("COPY t (a) TO STDOUT", Kind.OPAQUE),
        ("COPY (SELECT a FROM t WHERE (a) > (SELECT 1)) TO STDOUT", Kind.OPAQUE),
        ("copy (SELECT 'insert') to stdout", Kind.OPAQUE),
        ("COPY (INSERT INTO t VALUES (1) RETURNING id) TO STDOUT", Kind.WRITE),
        ("", Kind.WRITE),
        ("gibberish", Kind.WRITE),
        ("SELECT 'it''s' ; DELETE FROM t", Kind.WRITE),
        (r"SELECT 'a\' ; DELETE FROM t WHERE x = '", Kind.WRITE),
        ("SELECT 1 /*! INTO OUTFILE 'x' */", Kind.WRITE),
        ("/*!50000 DELETE FROM t */", Kind.WRITE),
        ("/* a /* b */ c */ DELETE FROM t", Kind.WRITE),
    ],
)
def test_text_is_told_by_its_words(sql: str, kind: Kind) -> None:
    assert kind_of_text(sql) is kind


def test_the_kind_is_kept_with_the_compiled_statement() -> None:
    compiled = select(table).compile(dialect=postgresql.Dialect())

    class Context:
        pass

    context: Any = Context()
    context.compiled = compiled
    assert kind_of(context, str(compiled)) is kind_of(context, "DELETE FROM t") is Kind.READ


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        'SELECT "book"."id" FROM "book" WHERE "book"."id" IN (1, 2)',
        "SELECT COUNT(*) AS `__count` FROM `book` WHERE (`book`.`title` = 'f(x); DELETE' AND NOT (`id` = 1))",
        "SELECT MAX(COALESCE(a, (SELECT MIN(b) FROM t))) FROM u",
    ],
)
def test_a_select_that_calls_only_what_is_known_is_a_plain_read(statement: str) -> None:
    assert is_plain_read(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT NEXT VALUE FOR numbers",
        "SELECT numbers.nextval",
        "SELECT /*M! 1 INTO OUTFILE 'x' */ 1",
        "INSERT INTO t VALUES (1)",
        "SELECT nextval('s')",
        'SELECT "of_mine"(1)',
        "SELECT `of_mine`(1)",
        "SELECT app.of_mine (1)",
        "SELECT 1 FROM t FOR UPDATE",
        "SELECT 1 FROM t FOR NO KEY UPDATE OF t",
        "SELECT 1 FROM t FOR SHARE",
        "SELECT 1 FROM t LOCK IN SHARE MODE",
        "SELECT 1 INTO @x",
        "SELECT @x := 1",
        "SELECT 1; DELETE FROM t",
        "WITH x AS (DELETE FROM t RETURNING id) SELECT * FROM x",
        "SELECT 'it\\'s', f(1), 'x'",
        "SELECT $$ ' $$, f(1), $$ ' $$",
        "SELECT get_lock('a', 1)",
        "SELECT /*! f(1) */ 1",
        "CALL f()",
        "",
    ],
)
def test_what_may_do_more_is_no_plain_read(statement: str) -> None:
    assert not is_plain_read(statement)
