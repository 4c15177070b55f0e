"""What the tests of joined transactions have in common: tables that both ORMs know, and real test cases of Django's."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db import connection
from django.test import TestCase, override_settings
from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from django_bridge import database

with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "tests.bridge.shelf"]):
    from tests.bridge.shelf.models import Item, Named, Row, Shelf, Value

T = TypeVar("T")

TABLES = ["Label", Row.__name__, Named.__name__, Value.__name__, Shelf.__name__, Item.__name__]


class Base(DeclarativeBase):
    type_annotation_map = {int: BigInteger}  # noqa: RUF012  (SQLAlchemy's own way)


class SaRow(Base):
    __tablename__ = "shelf_row"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=0)
    text: Mapped[str] = mapped_column(String(200), default="")


class SaNamed(Base):
    __tablename__ = "shelf_named"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)


class SaShelf(Base):
    __tablename__ = "shelf_shelf"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), default="")
    items: Mapped[list[SaItem]] = relationship(back_populates="shelf", cascade="all, delete-orphan")


class SaItem(Base):
    __tablename__ = "shelf_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), default="")
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf_shelf.id"))
    shelf: Mapped[SaShelf | None] = relationship(back_populates="items")


def names() -> list[str]:
    """The names that Django's ORM sees now, in order."""
    return list(Named.objects.order_by("name").values_list("name", flat=True))


def texts() -> list[str]:
    """The same of rows."""
    return list(Row.objects.order_by("text").values_list("text", flat=True))


def committed(read: Callable[[], T]) -> T:
    """What another connection sees."""
    from tests.bridge.conftest import Shop

    outcome: T = Shop.in_plain_thread(read)
    return outcome


def on_its_own_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs async code on a loop and a pool of its own, without a sync caller."""
    from tests.bridge.conftest import forget_connections

    async def run() -> T:
        await sync_to_async(forget_connections)()  # of the thread that is for all loops, where the ORM may be
        try:
            return await work()
        finally:
            await sync_to_async(forget_connections)()

    return asyncio.run(run())


def beneath(work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Runs async code beneath this sync code."""

    async def run() -> T:
        return await work(*args)

    return async_to_sync(run)()


def checked_out() -> int:
    return database().stats().checked_out


def in_a_test_case(
    *tests: Callable[[Any], Any], databases: set[str] | None = None, **attributes: Any
) -> type[TestCase]:
    """Runs functions as the tests of one ``django.test.TestCase``, in order; an error of any is raised here."""
    methods = {f"test_{number:02}": _as_method(test) for number, test in enumerate(tests)}
    case: Any = type("Case", (TestCase,), {"databases": {"default"}, **attributes, **methods})
    suite = unittest.TestSuite(map(case, methods))
    outcome = _Outcome()
    outcome.failfast = True
    suite.run(outcome)
    if outcome.problem is not None:
        raise outcome.problem
    assert outcome.wasSuccessful()
    assert outcome.testsRun == len(tests)
    assert not outcome.skipped
    assert not connection.in_atomic_block
    made: type[TestCase] = case
    return made


class _Outcome(unittest.TestResult):
    problem: BaseException | None = None

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802  (unittest's naming)
        self.problem = self.problem or err[1]
        super().addError(test, err)

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802  (unittest's naming)
        self.problem = self.problem or err[1]
        super().addFailure(test, err)


def _as_method(test: Callable[[Any], Any]) -> Callable[[Any], Any]:
    if asyncio.iscoroutinefunction(test):

        async def amethod(self: Any) -> None:
            await test(self)

        return amethod

    def method(self: Any) -> None:
        test(self)

    return method
