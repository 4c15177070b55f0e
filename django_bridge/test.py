"""For a project's tests: budgets for queries, and test cases that count those of both ORMs."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING

from django import test
from django.db import DEFAULT_DB_ALIAS

from .budget import Statement, query_budget
from .scopes import on_the_pool

if TYPE_CHECKING:
    _Case = test.SimpleTestCase
else:
    _Case = object

__all__ = ["Statement", "TestCase", "TransactionTestCase", "query_budget"]


class _CountsBoth(_Case):
    """Mixin of Django's test cases."""

    def assertNumQueriesOfBoth(  # noqa: N802  (unittest's naming)
        self, num: int, *, using: str = DEFAULT_DB_ALIAS, msg: str | None = None
    ) -> query_budget:
        """``async with`` (or ``with``): fails unless the block sends exactly ``num`` queries through both ORMs.

        Django's own ``assertNumQueries`` does not see what a session sends on the pool.
        """
        return query_budget(num, using=using, exactly=True, info=msg)


class TestCase(_CountsBoth, test.TestCase):
    """Django's ``TestCase``, whose ``assertNumQueriesOfBoth`` counts the queries of both ORMs."""


class TransactionTestCase(_CountsBoth, test.TransactionTestCase):
    """Django's ``TransactionTestCase``, in which async code runs as in production: native, and on the pool.

    In Django's own the ORM's async calls beneath the test are left to Django's threads. ``assertNumQueriesOfBoth``
    counts the queries of both ORMs.
    """

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        with on_the_pool():
            return super().run(result)
