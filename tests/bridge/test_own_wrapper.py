"""A wrapper class of the project's own, or a third party's, keeps its say on the event loop."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection, transaction

from django_bridge import run_django, scope

from .instrumented.counting import Counting, seen

pytestmark = pytest.mark.native_only("it looks at a wrapper on a seat")
ENGINES = {"mariadb": "mysql", "mysql": "mysql", "postgresql": "postgresql", "sqlite": "sqlite3"}


def write() -> None:
    with transaction.atomic():
        ContentType.objects.create(app_label="own", model="wrapper")


async def test_a_wrapper_of_the_projects_own_keeps_its_say(bridged: Any, family: str, django_db_blocker: Any) -> None:
    bridged(ENGINE=f"tests.bridge.instrumented.{ENGINES[family]}")
    with django_db_blocker.unblock():
        await run_django(call_command, "migrate", "auth", verbosity=0)
        for run in (run_django, lambda function: sync_to_async(function)()):
            async with scope():
                seen.clear()
                await run(write)
                assert seen["commit"] == 1
                assert min(seen["cursor"], seen["created"]) >= 1
                await ContentType.objects.filter(app_label="own").adelete()
                assert isinstance(await run_django(connection.copy), Counting)
                assert isinstance(vars(connection)["_connections"]["default"], Counting)
