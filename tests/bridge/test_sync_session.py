"""``sync_session``: a SQLAlchemy session on Django's own connection, in its transaction, for sync code."""

from __future__ import annotations

import datetime
import decimal
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    Uuid,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError
from sqlalchemy.orm import Session, selectinload

from asyncdb.errors import AsyncDBError, TransactionMisuse, TransactionPoisoned
from django_bridge import atomic, run_django, session, sync_session
from tests.bridge.joining import (
    Item,
    Named,
    Row,
    SaItem,
    SaNamed,
    SaRow,
    SaShelf,
    Shelf,
    Value,
    committed,
    in_a_test_case,
    names,
    on_its_own_loop,
    texts,
)
from tests.bridge.site import SCOPED, get, site

UTC = datetime.UTC
CET = datetime.timezone(datetime.timedelta(hours=1))


# -- values ------------------------------------------------------------------------------------------------------------

TYPES: dict[str, tuple[Any, list[Any]]] = {
    "boolean": (Boolean(), [True, False, None]),
    "big": (BigInteger(), [0, 2**63 - 1, -(2**63), None]),
    "date": (Date(), [datetime.date(1, 1, 1), datetime.date(2024, 2, 29), datetime.date(9999, 12, 31), None]),
    "moment": (
        DateTime(timezone=True),
        [
            datetime.datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
            datetime.datetime(2024, 2, 29, 0, 30, tzinfo=CET),
            datetime.datetime(2024, 2, 29, 12, 0),  # noqa: DTZ001  (a naive one too)
            datetime.datetime(1969, 12, 31, tzinfo=UTC),
            None,
        ],
    ),
    "decimal": (
        Numeric(20, 6),
        [decimal.Decimal(0), decimal.Decimal("-12345678901234.123456"), decimal.Decimal("1E-6"), 7, None],
    ),
    "double": (Float(53), [0.0, -1.5, 0.1 + 0.2, 1e300, 5e-324, 3, None]),
    "address": (String(39), ["192.168.0.1", "::1", None]),
    "json": (
        JSON(),
        [{"a": [1, 2.5, None, True, "ü%s 'x'"]}, [], "text", 12, 2**60, True, None, {"%": "%(a)s", ":b": "?"}],
    ),
    "text": (
        Text(),
        ["", "ünï¢ødé 𝄞 \U0001f40d", "100 % %s %(a)s %%", "'\"\\ ; --", "a\nb\tc", ":name ? $1"],
    ),
    "time": (Time(), [datetime.time(0), datetime.time(23, 59, 59, 999999), datetime.time(12, 30, 1, 5), None]),
    "uuid": (Uuid(), [uuid.UUID(int=0), uuid.UUID("12345678-1234-5678-1234-567812345678"), None]),
    "binary": (LargeBinary(), [b"", bytes(range(256)), b"%s \x00 '\\", None]),
}


def values_table(family: str) -> Table:
    types: dict[str, Any] = {name: type_ for name, (type_, _) in TYPES.items()}
    types["duration"] = Interval() if family == "postgresql" else BigInteger()
    if family == "postgresql":
        from sqlalchemy.dialects.postgresql import INET, JSONB

        types |= {"json": JSONB(), "address": INET()}
    columns = [Column(name, type_) for name, type_ in types.items()]
    return Table("shelf_value", MetaData(), Column("id", BigInteger(), primary_key=True), *columns)


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as err:
        return type(err)


def same(one: Any, other: Any) -> bool:
    return bool(one == other) and type(one) is type(other) and repr(one) == repr(other)


@pytest.mark.parametrize("column", [*TYPES, "duration"])
def test_each_value_is_written_and_read_as_by_the_async_session(sync_shop: Any, column: str) -> None:
    table = values_table(sync_shop.family)
    durations = (
        [datetime.timedelta(days=-3, microseconds=5), None] if sync_shop.family == "postgresql" else [12_345_678, None]
    )
    values = durations if column == "duration" else TYPES[column][1]
    differences = []
    for value in values:

        def by_sync(value: Any = value) -> Any:
            with sync_session() as db:
                db.execute(insert(table).values({"id": 1, "text": "", column: value}))
                return db.scalar(select(table.c[column]).where(table.c.id == 1))

        async def by_async(value: Any = value) -> Any:
            async with session() as db:
                await db.execute(insert(table).values({"id": 2, "text": "", column: value}))
                found = await db.scalar(select(table.c[column]).where(table.c.id == 2))
                await db.commit()
                return found

        mine = outcome(by_sync)
        its = outcome(lambda by_async=by_async: on_its_own_loop(by_async))
        if not same(mine, its):
            differences.append((value, mine, its))
        # what the one wrote, the other reads; and Django sees the same in both rows
        if not isinstance(mine, type) and not isinstance(its, type):
            with sync_session() as db:
                both = db.scalars(select(table.c[column]).order_by(table.c.id)).all()

            async def read() -> Any:
                async with session() as db:
                    return (await db.scalars(select(table.c[column]).order_by(table.c.id))).all()

            if not same(list(both), list(on_its_own_loop(read))):
                differences.append((value, both, on_its_own_loop(read)))
            one, two = (getattr(row, column) for row in Value.objects.order_by("pk"))
            if one != two:
                differences.append(("django", one, two))
        Value.objects.all().delete()
    assert not differences


def test_what_django_writes_is_read_as_by_the_async_session(sync_shop: Any) -> None:
    table = values_table(sync_shop.family)
    Value.objects.create(
        binary=b"\x00\xff",
        boolean=True,
        big=2**62,
        date=datetime.date(2024, 2, 29),
        moment=datetime.datetime(2024, 7, 1, 1, 2, 3, 4, tzinfo=CET),
        decimal=decimal.Decimal("-1.500000"),
        duration=datetime.timedelta(days=2, microseconds=3),
        double=0.1,
        address="::1",
        json={"a": [None, 1.5, "ü"]},
        text="% ü",
        time=datetime.time(1, 2, 3, 4),
        uuid=uuid.UUID(int=7),
    )
    Value.objects.create(text="all others are NULL")

    async def read() -> Any:
        async with session() as db:
            return (await db.execute(select(table).order_by(table.c.id))).all()

    with sync_session() as db:
        mine = db.execute(select(table).order_by(table.c.id)).all()
    its = on_its_own_loop(read)
    assert [[(k, v, type(v)) for k, v in row._mapping.items()] for row in mine] == [
        [(k, v, type(v)) for k, v in row._mapping.items()] for row in its
    ]


def test_django_reads_its_own_types_after_the_session_has_used_the_connection(sync_shop: Any) -> None:
    moment = datetime.datetime(2024, 7, 1, tzinfo=UTC)
    Value.objects.create(json={"a": 1}, moment=moment, time=datetime.time(1), decimal=decimal.Decimal("1.5"), double=1)
    before = Value.objects.get()
    with sync_session() as db:
        db.execute(select(values_table(sync_shop.family))).all()
        after = Value.objects.get()
    for name in ("json", "moment", "time", "decimal", "double"):
        assert same(getattr(before, name), getattr(after, name)), name
    assert after.moment == moment


# -- statements --------------------------------------------------------------------------------------------------------


def test_orm_objects_core_statements_and_djangos_orm_see_the_same_rows(sync_shop: Any) -> None:
    with transaction.atomic():
        Named.objects.create(name="django")
        with sync_session() as db:
            db.add(SaNamed(name="object"))
            db.execute(insert(SaNamed).values(name="core"))
            assert names() == ["core", "django", "object"]
            Named.objects.filter(name="core").update(name="changed")
            assert list(db.scalars(select(SaNamed.name).order_by(SaNamed.name))) == ["changed", "django", "object"]
        assert committed(names) == []
    assert committed(names) == ["changed", "django", "object"]


def test_primary_keys_come_back(sync_shop: Any) -> None:
    with sync_session() as db:
        rows = [SaRow(number=number) for number in range(5)]
        db.add_all(rows)
        db.flush()
        assert [row.number for row in Row.objects.order_by("pk")] == [0, 1, 2, 3, 4]
        assert [row.id for row in rows] == list(Row.objects.order_by("number").values_list("pk", flat=True))
        result = db.execute(insert(SaRow).values(number=9))
        assert Row.objects.get(number=9).pk == result.inserted_primary_key[0]  # type: ignore[attr-defined]


def test_many_rows_in_one_statement(sync_shop: Any) -> None:
    with sync_session() as db:
        db.execute(insert(SaRow), [{"number": number, "text": "100 %"} for number in range(2500)])
        assert Row.objects.count() == 2500
        db.execute(SaRow.__table__.insert(), [{"id": 10_000 + n, "number": n, "text": "%s"} for n in range(1200)])
        assert Row.objects.count() == 3700
        done = db.connection().execute(
            update(SaRow.__table__).where(SaRow.__table__.c.id == bindparam("key")).values(number=bindparam("new")),
            [{"key": 10_000 + n, "new": -1} for n in range(100)],
        )
        assert done.rowcount in (100, -1)
        assert Row.objects.filter(number=-1).count() == 100
        db.execute(update(SaRow), [{"id": 10_000, "text": "x"}, {"id": 10_001, "text": "y"}])
        assert set(Row.objects.filter(pk__in=[10_000, 10_001]).values_list("text", flat=True)) == {"x", "y"}
        assert db.execute(delete(SaRow)).rowcount == 3700  # type: ignore[attr-defined]


@pytest.mark.families("mariadb", "postgresql", "sqlite")  # MySQL has no RETURNING
def test_returning(sync_shop: Any) -> None:
    with sync_session() as db:
        rows = db.scalars(
            insert(SaRow).returning(SaRow, sort_by_parameter_order=True), [{"number": n} for n in range(50)]
        ).all()
        assert [row.number for row in rows] == list(range(50))
        assert [row.id for row in rows] == list(Row.objects.order_by("number").values_list("pk", flat=True))
        assert len(set(db.scalars(delete(SaRow).where(SaRow.number < 2).returning(SaRow.id)))) == 2
        if sync_shop.family != "mariadb":  # which has no UPDATE ... RETURNING
            changed = update(SaRow).where(SaRow.number == 7).values(text="seven").returning(SaRow.text)
            assert db.scalars(changed).all() == ["seven"]


def test_percent_signs_and_colons_are_text(sync_shop: Any) -> None:
    with sync_session() as db:
        assert db.scalar(select(literal("100 %s %% %(x)s"))) == "100 %s %% %(x)s"
        assert db.scalar(text("SELECT '100 %'")) == "100 %"
        assert db.scalar(text("SELECT '%s %(a)s'")) == "%s %(a)s"
        assert (
            db.scalar(
                text("SELECT '% ' || :one" if sync_shop.on_server is False else "SELECT CONCAT('% ', :one)"),
                {"one": "%"},
            )
            == "% %"
        )
        db.add(SaRow(text="50 % off"))
        assert db.scalars(select(SaRow.text).where(SaRow.text.like("%\\%%", escape="\\"))).all() == ["50 % off"]
        assert db.scalars(select(SaRow.number % 7)).all() == [0]
        assert db.connection().exec_driver_sql("SELECT 1").scalar() == 1


def test_relations_load_lazily_and_eagerly(sync_shop: Any) -> None:
    shelf = Shelf.objects.create(name="s")
    Item.objects.bulk_create([Item(name=f"i{n}", shelf=shelf) for n in range(3)])
    with sync_session() as db:
        mine = db.scalars(select(SaShelf)).one()
        assert sorted(item.name for item in mine.items) == ["i0", "i1", "i2"]
        assert mine.items[0].shelf is mine
        mine.items.append(SaItem(name="new"))
        assert Item.objects.filter(shelf=shelf).count() == 4
        mine.items.remove(next(item for item in mine.items if item.name == "i0"))
        assert Item.objects.filter(shelf=shelf).count() == 3
        db.expunge_all()
        eager = db.scalars(select(SaShelf).options(selectinload(SaShelf.items))).one()
        assert len(eager.items) == 3


def test_large_results_come_in_parts(sync_shop: Any) -> None:
    Row.objects.bulk_create([Row(number=number) for number in range(1000)])
    with sync_session() as db:
        seen = []
        for row in db.scalars(select(SaRow).order_by(SaRow.number).execution_options(yield_per=64)):
            seen.append(row.number)
            if row.number == 500:
                assert Row.objects.count() == 1000  # another statement amid the stream
        assert seen == list(range(1000))
        streamed = db.execute(select(SaRow.number).order_by(SaRow.number), execution_options={"stream_results": True})
        assert [len(part) for part in streamed.partitions(300)] == [300, 300, 300, 100]
        broken_off = db.execute(select(SaRow.number), execution_options={"stream_results": True})
        assert broken_off.fetchone() is not None
        broken_off.close()
        assert db.scalar(select(func.count()).select_from(SaRow)) == 1000


def test_select_for_update_locks_the_row(sync_shop: Any) -> None:
    key = Row.objects.create(number=1).pk
    with transaction.atomic(), sync_session() as db:
        assert db.get(SaRow, key, with_for_update=True) is not None
        assert db.scalars(select(SaRow).with_for_update()).one().number == 1
        if sync_shop.on_server:

            def skips() -> int:
                with transaction.atomic():
                    return len(Row.objects.select_for_update(skip_locked=True))

            assert committed(skips) == 0
    if sync_shop.on_server:
        assert committed(Row.objects.count) == 1


# -- transactions ------------------------------------------------------------------------------------------------------


def test_in_autocommit_the_block_is_a_transaction(sync_shop: Any) -> None:
    with sync_session() as db:
        db.add(SaNamed(name="one"))
        db.flush()
        assert connection.in_atomic_block
        assert committed(names) == []
    assert committed(names) == ["one"]
    with pytest.raises(LookupError), sync_session() as db:
        db.add(SaNamed(name="two"))
        db.flush()
        raise LookupError
    assert committed(names) == ["one"]


def test_an_error_in_djangos_block_undoes_what_the_session_wrote(sync_shop: Any) -> None:
    with pytest.raises(LookupError), transaction.atomic(), sync_session() as db:
        db.add(SaNamed(name="one"))
        Named.objects.create(name="two")
        raise LookupError
    assert names() == []


def test_set_rollback_undoes_it_too(sync_shop: Any) -> None:
    with transaction.atomic():
        with sync_session() as db:
            db.add(SaNamed(name="one"))
        assert names() == ["one"]
        transaction.set_rollback(True)
    assert names() == []


def test_savepoints_of_both_sides_nest(sync_shop: Any) -> None:
    with transaction.atomic(), sync_session() as db:
        db.add(SaNamed(name="a"))
        with transaction.atomic():
            with db.begin_nested():
                db.add(SaNamed(name="b"))
                with pytest.raises(LookupError), transaction.atomic():
                    Named.objects.create(name="never 1")
                    db.add(SaNamed(name="never 2"))
                    raise LookupError
                assert names() == ["a", "b"]
            with pytest.raises(LookupError), db.begin_nested():
                Named.objects.create(name="never 3")
                db.add(SaNamed(name="never 4"))
                with transaction.atomic():
                    Named.objects.create(name="never 5")
                raise LookupError
            assert names() == ["a", "b"]
        sid = connection.savepoint()
        db.add(SaNamed(name="never 6"))
        assert names() == ["a", "b", "never 6"]
        connection.savepoint_rollback(sid)
        assert names() == ["a", "b"]
        assert list(db.scalars(select(SaNamed.name).order_by(SaNamed.name))) == ["a", "b"]
    assert committed(names) == ["a", "b"]


def test_objects_that_a_savepoint_undid_are_not_added_again(sync_shop: Any) -> None:
    with transaction.atomic(), sync_session() as db:
        with pytest.raises(LookupError), transaction.atomic():
            db.add(SaNamed(name="undone"))
            db.flush()
            raise LookupError
        db.add(SaNamed(name="kept"))
    assert names() == ["kept"]


def test_a_change_that_a_savepoint_undid_is_read_anew(sync_shop: Any) -> None:
    Row.objects.create(number=1)
    with transaction.atomic(), sync_session() as db:
        row = db.scalars(select(SaRow)).one()
        with pytest.raises(LookupError), transaction.atomic():
            row.number = 2
            db.flush()
            raise LookupError
        assert row.number == 1


def test_what_django_wrote_is_read_anew(sync_shop: Any) -> None:
    key = Row.objects.create(number=1).pk
    with transaction.atomic(), sync_session() as db:
        row = db.get(SaRow, key)
        assert row is not None
        Row.objects.update(number=2)
        assert db.get(SaRow, key).number == 2  # type: ignore[union-attr]
        Row.objects.update(number=3)
        assert db.scalars(select(SaRow)).one().number == 3
        assert row.number == 3


def test_an_integrity_error_in_begin_nested_is_survived(sync_shop: Any) -> None:
    with transaction.atomic(), sync_session() as db:
        db.add(SaNamed(name="one"))
        db.flush()
        with pytest.raises(IntegrityError), db.begin_nested():
            db.add(SaNamed(name="one"))
        db.add(SaNamed(name="two"))
        with pytest.raises(IntegrityError), db.begin_nested():
            db.execute(insert(SaNamed).values(name="two"))
        assert names() == ["one", "two"]
        db.add(SaNamed(name="three"))
    assert committed(names) == ["one", "three", "two"]


def test_an_integrity_error_in_djangos_savepoint_is_survived(sync_shop: Any) -> None:
    with transaction.atomic(), sync_session() as db:
        db.add(SaNamed(name="one"))
        with pytest.raises(IntegrityError), transaction.atomic():
            db.execute(insert(SaNamed).values(name="one"))
        assert names() == ["one"]
        with pytest.raises(IntegrityError), transaction.atomic():
            db.add(SaNamed(name="one"))
            db.flush()
        db.expunge_all()
        db.add(SaNamed(name="two"))
        assert names() == ["one", "two"]
    assert committed(names) == ["one", "two"]


def test_after_an_error_without_a_savepoint_nothing_is_committed(sync_shop: Any) -> None:
    def program() -> None:
        with transaction.atomic(), sync_session() as db:
            db.execute(insert(SaNamed).values(name="one"))
            with pytest.raises(IntegrityError):
                db.add(SaNamed(name="one"))
                db.flush()

    with pytest.raises((TransactionManagementError, InvalidRequestError, AsyncDBError, DBAPIError)):
        program()
        # As in Django: a block whose error somebody caught is rolled back, with or without a word.
        assert committed(names) == []
        raise TransactionManagementError
    assert committed(names) == []
    assert not connection.in_atomic_block


def test_an_error_of_a_core_statement_without_a_savepoint_breaks_the_block(sync_shop: Any) -> None:
    with pytest.raises((TransactionManagementError, AsyncDBError, DBAPIError)), transaction.atomic():  # noqa: SIM117
        with sync_session() as db:
            db.execute(insert(SaNamed).values(name="one"))
            with pytest.raises(IntegrityError):
                db.execute(insert(SaNamed).values(name="one"))
            names()  # as after an error of Django's own: it wants to be rolled back first


@pytest.mark.parametrize("verb", ["commit", "rollback"])
def test_commit_and_rollback_belong_to_django(sync_shop: Any, verb: str) -> None:
    with transaction.atomic(), sync_session() as db:
        db.add(SaNamed(name="one"))
        with pytest.raises(TransactionMisuse, match=r"transaction\.atomic"):
            getattr(db, verb)()
        with pytest.raises((TransactionMisuse, InvalidRequestError)):
            db.begin()
        assert names() == ["one"]
    assert committed(names) == ["one"]


def test_close_by_its_user_loses_nothing_that_was_written(sync_shop: Any) -> None:
    with transaction.atomic(), sync_session() as db:
        db.add(SaNamed(name="one"))
        db.flush()
        with pytest.raises((TransactionMisuse, InvalidRequestError)):
            db.close()
            raise TransactionMisuse("allowed as well")
        Named.objects.create(name="two")
    assert committed(names) == ["one", "two"]


def test_commit_of_its_connection_does_not_commit_djangos_transaction(sync_shop: Any) -> None:
    with transaction.atomic(), sync_session() as db:
        db.add(SaNamed(name="one"))
        db.flush()
        for word in ("COMMIT", "ROLLBACK", "BEGIN"):
            with pytest.raises(TransactionMisuse):
                db.execute(text(word))
        with pytest.raises((TransactionMisuse, InvalidRequestError)):
            db.connection().commit()
            raise TransactionMisuse("it need not complain, but it must not commit")
        assert committed(names) == []
        assert connection.in_atomic_block
        Named.objects.create(name="two")
    assert committed(names) == ["one", "two"]


def test_used_after_its_block_it_says_so(sync_shop: Any) -> None:
    with sync_session() as db:
        db.add(SaNamed(name="one"))
    with pytest.raises((TransactionMisuse, InvalidRequestError)):
        db.execute(select(SaNamed)).all()
    with pytest.raises((TransactionMisuse, InvalidRequestError)):
        db.add(SaNamed(name="two"))
    with transaction.atomic():
        Named.objects.create(name="three")
    assert names() == ["one", "three"]


def test_it_works_in_a_durable_block(sync_shop: Any) -> None:
    with transaction.atomic(durable=True), sync_session() as db:
        db.add(SaNamed(name="one"))
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic(durable=True):
            pass
    assert committed(names) == ["one"]


def test_sessions_nest(sync_shop: Any) -> None:
    with sync_session() as outer:
        outer.add(SaNamed(name="outer"))
        with sync_session() as inner:
            assert inner is not outer
            assert list(inner.scalars(select(SaNamed.name))) == ["outer"]
            inner.add(SaNamed(name="inner"))
            assert sorted(outer.scalars(select(SaNamed.name))) == ["inner", "outer"]
            with pytest.raises(LookupError), inner.begin_nested():
                outer.add(SaNamed(name="never"))
                assert "never" in inner.scalars(select(SaNamed.name)).all()
                raise LookupError
        assert sorted(outer.scalars(select(SaNamed.name))) == ["inner", "outer"]
        with pytest.raises(LookupError), sync_session() as inner:
            inner.add(SaNamed(name="of the outer transaction"))
            inner.flush()
            raise LookupError
    assert committed(names) == ["inner", "of the outer transaction", "outer"]


def test_two_aliases_are_two_transactions(
    sync_shop: Any, project: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from tests.bridge.conftest import forget_connections

    both = {**settings.DATABASES, "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "other.db")}}
    project(DATABASES=both)
    monkeypatch.setitem(vars(connections), "settings", connections.configure_settings(both))
    with connections["other"].schema_editor() as editor:
        editor.create_model(Named)
    with transaction.atomic(), sync_session() as one, sync_session("other") as other:
        one.add(SaNamed(name="default"))
        other.add(SaNamed(name="other"))
        assert names() == ["default"]
        assert list(Named.objects.using("other").values_list("name", flat=True)) == ["other"]
        with pytest.raises(LookupError), transaction.atomic(using="other"):
            other.add(SaNamed(name="never"))
            one.add(SaNamed(name="kept"))
            raise LookupError
    with pytest.raises(LookupError), sync_session("other") as other:
        other.add(SaNamed(name="never"))
        raise LookupError
    assert committed(names) == ["default", "kept"]
    assert list(Named.objects.using("other").values_list("name", flat=True)) == ["other"]
    forget_connections()


def test_hooks_run_after_djangos_commit(sync_shop: Any) -> None:
    ran: list[Any] = []
    with transaction.atomic():
        with sync_session() as db:
            db.add(SaNamed(name="one"))
            transaction.on_commit(lambda: ran.append(committed(names)))
            with pytest.raises(LookupError), db.begin_nested():
                transaction.on_commit(lambda: ran.append("never"))
                raise LookupError
        assert ran == []
    assert ran == [["one"]]
    with sync_session() as db:
        transaction.on_commit(lambda: ran.append("after the session's own block"))
        assert len(ran) == 1
    assert len(ran) == 2


def test_another_thread_cannot_use_it(sync_shop: Any) -> None:
    with sync_session() as db:
        db.add(SaNamed(name="one"))
        db.flush()
        errors: list[BaseException] = []

        def use() -> None:
            try:
                db.scalars(select(SaNamed.name)).all()
            except BaseException as err:
                errors.append(err)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join(10)
        assert errors
        assert list(db.scalars(select(SaNamed.name))) == ["one"]
    assert names() == ["one"]


# -- what Django sees of it --------------------------------------------------------------------------------------------


def test_assert_num_queries_counts_its_statements(sync_shop: Any) -> None:
    def counts(case: Any) -> None:
        with case.assertNumQueries(1), sync_session() as db:
            db.scalars(select(SaNamed)).all()
        with case.assertNumQueries(3), sync_session() as db:
            db.add(SaNamed(name="one"))
            db.flush()
            Named.objects.count()
            db.execute(update(SaNamed).values(name="two"))
        with pytest.raises(AssertionError), case.assertNumQueries(0), sync_session() as db:
            db.scalars(select(SaNamed)).all()

    in_a_test_case(counts, counts)


def test_the_query_log_has_its_statements_under_debug(sync_shop: Any) -> None:
    with override_settings(DEBUG=True), transaction.atomic(), sync_session() as db:
        before = len(connection.queries)
        db.scalars(select(SaNamed).where(SaNamed.name == "x")).all()
        assert len(connection.queries) == before + 1
        assert "shelf_named" in connection.queries[-1]["sql"]
    with CaptureQueriesContext(connection) as caught, sync_session() as db:
        db.execute(insert(SaNamed), [{"name": "a"}, {"name": "b"}])
        with db.begin_nested():
            db.scalar(select(func.count()).select_from(SaNamed))
    said = [query["sql"].split()[0] for query in caught]
    assert said.count("SAVEPOINT") == 1, said
    assert said.count("RELEASE") == 1, said


def test_execute_wrappers_see_and_block_it(sync_shop: Any) -> None:
    seen: list[tuple[str, bool]] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append((sql.split(maxsplit=1)[0], many))
        return execute(sql, params, many, context)

    def block(*_: Any) -> Any:
        raise LookupError("no queries here")

    with sync_session() as db:
        with connection.execute_wrapper(watch):
            db.add(SaNamed(name="one"))
            db.flush()
            db.scalars(select(SaNamed)).all()
        assert [word for word, _ in seen] == ["INSERT", "SELECT"]
        with pytest.raises(LookupError, match="no queries"), connection.execute_wrapper(block):
            db.scalars(select(SaNamed)).all()
        assert list(db.scalars(select(SaNamed.name))) == ["one"]
    with connection.execute_wrapper(watch), sync_session() as db:
        db.scalars(select(SaNamed)).all()
    assert connection.execute_wrappers == []


def test_djangos_own_errors_stay_djangos_while_a_session_is_open(sync_shop: Any) -> None:
    from django.db import IntegrityError as DjangosError

    with sync_session() as db:
        db.add(SaNamed(name="one"))
        with pytest.raises(DjangosError), transaction.atomic():
            Named.objects.create(name="one")
        db.add(SaNamed(name="two"))
    assert names() == ["one", "two"]


def test_a_failed_flush_before_djangos_statement_is_raised_there_and_survived_by_a_savepoint(sync_shop: Any) -> None:
    with transaction.atomic(), sync_session() as db:
        db.add(SaNamed(name="one"))
        db.flush()
        with pytest.raises(IntegrityError), transaction.atomic():
            db.add(SaNamed(name="one"))
            names()
        db.expunge_all()
        assert names() == ["one"]
        db.add(SaNamed(name="two"))
    assert committed(names) == ["one", "two"]


# -- in tests and beside the loop --------------------------------------------------------------------------------------


def test_in_a_test_case_it_is_rolled_back(sync_shop: Any) -> None:
    def write(case: Any) -> None:
        assert names() == []
        with sync_session() as db:
            db.add(SaNamed(name="one"))
        assert names() == ["one"]
        assert committed(names) == []

    in_a_test_case(write, write)
    assert names() == []


def test_set_up_test_data_may_use_it(sync_shop: Any) -> None:
    def set_up(cls: Any) -> None:
        with sync_session() as db:
            db.add(SaNamed(name="shared"))

    def sees(case: Any) -> None:
        assert names() == ["shared"]
        Named.objects.create(name="own")

    in_a_test_case(sees, sees, setUpTestData=classmethod(set_up))
    assert names() == []


def test_the_servers_questions_are_asked_once_and_leave_the_transaction_alone(sync_shop: Any) -> None:
    from django_bridge.joined import dialects

    dialects._learned.clear()

    def first(case: Any) -> None:
        with case.assertNumQueries(1), sync_session() as db:
            db.scalars(select(SaNamed)).all()
        assert len(connection.savepoint_ids) == 1
        Named.objects.create(name="one")

    in_a_test_case(first, first)
    assert names() == []


def test_on_the_loop_it_is_refused(sync_shop: Any) -> None:
    async def ask() -> None:
        with sync_session():
            pass

    with pytest.raises(SynchronousOnlyOperation, match=r"async with session"):
        on_its_own_loop(ask)


def write_by_sync_session(name: str) -> list[str]:
    with sync_session() as db:
        db.add(SaNamed(name=name))
        db.flush()
        with pytest.raises(LookupError), db.begin_nested():
            Named.objects.create(name="never")
            db.add(SaNamed(name="never either"))
            raise LookupError
        return list(db.scalars(select(SaNamed.name).order_by(SaNamed.name)))


def test_it_works_in_run_django(sync_shop: Any) -> None:
    async def work() -> None:
        assert await run_django(write_by_sync_session, "one") == ["one"]
        assert [row.name async for row in Named.objects.all()] == ["one"]

        def failing() -> None:
            write_by_sync_session("two")
            with transaction.atomic():
                write_by_sync_session("three")
                raise LookupError

        with pytest.raises(LookupError):
            await run_django(failing)

    on_its_own_loop(work)
    assert names() == ["one", "two"]


def test_it_is_in_the_transaction_of_an_async_block(sync_shop: Any) -> None:
    async def work() -> None:
        with pytest.raises(LookupError):
            async with atomic() as db:
                db.add(SaNamed(name="object"))
                assert await run_django(write_by_sync_session, "sync") == ["object", "sync"]
                assert sorted(await db.scalars(select(SaNamed.name))) == ["object", "sync"]
                raise LookupError
        async with atomic() as db:
            await run_django(write_by_sync_session, "one")
            try:
                async with atomic():
                    await run_django(write_by_sync_session, "never at all")
                    raise LookupError
            except LookupError:
                pass
            db.add(SaNamed(name="two"))

    on_its_own_loop(work)
    assert names() == ["one", "two"]


@pytest.mark.native_only("in threads the scope has no connection")
def test_it_works_in_a_threads_call_under_a_scope(sync_shop: Any, project: Any) -> None:
    from django.http import HttpRequest, HttpResponse

    def view(request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            found = write_by_sync_session("one")
            assert connections["default"].seat is not None
        with pytest.raises(LookupError), transaction.atomic():
            write_by_sync_session("two")
            raise LookupError
        with sync_session() as db:
            db.add(SaNamed(name="three"))
        return HttpResponse(",".join(found))

    async def work() -> tuple[int, bytes]:
        return await get("/view")

    site(project=project, middleware=[SCOPED], view=view)
    assert on_its_own_loop(work) == (200, b"one")
    assert names() == ["one", "three"]


def test_its_type_is_sqlalchemys(sync_shop: Any) -> None:
    with sync_session() as db:
        assert isinstance(db, Session)
        assert db.scalar(select(literal(1, Integer))) == 1


def test_the_router_chooses_by_model(sync_shop: Any) -> None:
    with sync_session(model=Named, for_write=True) as db:
        db.add(SaNamed(name="one"))
    assert names() == ["one"]
    with pytest.raises(TypeError, match="not both"), sync_session("default", model=Named):
        pass


def test_poisoned_is_not_forgiven_by_a_new_session(sync_shop: Any) -> None:
    with pytest.raises((TransactionManagementError, TransactionPoisoned, DBAPIError)), transaction.atomic():
        with pytest.raises(IntegrityError), sync_session() as db:
            db.execute(insert(SaNamed).values(name="one"))
            db.execute(insert(SaNamed).values(name="one"))
        with sync_session() as db:
            db.add(SaNamed(name="two"))
    assert names() == []
    assert texts() == []


READS: dict[str, Callable[[Session], Any]] = {
    "get": lambda db: db.get(SaRow, 1),
    "select": lambda db: db.scalars(select(SaRow)).all(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_was_changed_without_autoflush_is_not_read_over(sync_shop: Any, read: Any) -> None:
    Row.objects.create(id=1, number=0)
    with sync_session() as db:
        row = db.get_one(SaRow, 1)
        Row.objects.filter(id=1).update(text="django's")
        with db.no_autoflush:
            row.number = 5
            read(db)
    assert list(Row.objects.values_list("number", "text")) == [(5, "django's")]


def test_what_was_changed_is_not_read_over_by_a_statement_without_autoflush(sync_shop: Any) -> None:
    Row.objects.create(id=1, number=0)
    with sync_session() as db:
        row = db.get_one(SaRow, 1)
        Row.objects.filter(id=1).update(text="django's")
        row.number = 5
        db.scalars(select(SaRow).execution_options(autoflush=False)).all()
    assert list(Row.objects.values_list("number", "text")) == [(5, "django's")]


@pytest.mark.parametrize("fails", [True, False])
def test_a_savepoint_that_nobody_ended_ends_with_the_block(sync_shop: Any, fails: bool) -> None:
    with transaction.atomic():
        with suppress(LookupError), sync_session() as db:
            db.begin_nested()
            db.add(SaNamed(name="one"))
            db.flush()
            db.begin_nested()
            db.add(SaNamed(name="two"))
            if fails:
                raise LookupError
        assert len(connection.atomic_blocks) == 1
        Named.objects.create(name="zero")
    assert not connection.in_atomic_block
    assert committed(names) == (["zero"] if fails else ["one", "two", "zero"])


@pytest.mark.parametrize("fails", [True, False])
def test_a_savepoint_that_nobody_ended_ends_with_a_block_in_autocommit(sync_shop: Any, fails: bool) -> None:
    with suppress(LookupError), sync_session() as db:
        db.begin_nested()
        db.execute(insert(SaNamed).values(name="one"))
        if fails:
            raise LookupError
    assert not connection.in_atomic_block
    assert committed(names) == ([] if fails else ["one"])
