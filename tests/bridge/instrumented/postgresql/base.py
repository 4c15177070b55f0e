"""A project's own wrapper, as instrumentation makes one."""

from __future__ import annotations

from django.db.backends.postgresql import base

from tests.bridge.instrumented.counting import Counting


class DatabaseWrapper(Counting, base.DatabaseWrapper):
    pass
