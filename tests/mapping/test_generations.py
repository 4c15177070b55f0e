"""When mapped classes are made, in which thread, and for which set of models; and what SQLAlchemy caches of them."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings
from django.db import models
from django.test import modify_settings, override_settings
from django.test.utils import isolate_apps
from sqlalchemy import select
from sqlalchemy.orm import configure_mappers, selectinload

from django_bridge import mapped, session, table_for
from django_bridge.mapping.generations import generation_of
from tests.mapping.conftest import models as shop_models
from tests.mapping.conftest import relations, values

PROGRAM = """
import warnings
warnings.simplefilter("error")
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_bridge"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from django.apps import apps
from django_bridge import mapped, table_for
models = apps.get_models(include_auto_created=True)
together = Barrier(8)
def ask(number):
    together.wait(20)
    own = models[number % len(models):] + models[:number % len(models)]
    return {model: (mapped(model), table_for(model)) for model in own}
with ThreadPoolExecutor(8) as threads:
    found = list(threads.map(ask, range(8)))
assert all(one == found[0] for one in found[1:])
print(len(found[0]))
"""


def test_the_first_call_may_come_from_eight_threads_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip().isdigit(), done.stderr
    assert int(done.stdout) >= 6


def test_a_class_is_the_same_at_each_call_and_in_each_thread() -> None:
    found = [mapped(model) for model in shop_models.EVERYWHERE]
    assert [mapped(model) for model in reversed(shop_models.EVERYWHERE)] == found[::-1]
    assert len(set(found)) == len(found)
    together = Barrier(4)

    def ask() -> Any:
        together.wait(20)
        return [mapped(model) for model in shop_models.EVERYWHERE]

    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(ask) for _ in range(4)]:
            assert future.result(30) == found
    for model, cls in zip(shop_models.EVERYWHERE, found, strict=True):
        assert cls.__django_model__ is model
        assert cls.__name__ == model.__name__
        assert cls.__table__ is not None


def test_nothing_is_warned_of_when_everything_is_mapped_anew() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "django.contrib.sessions"]):
            for model in (relations.Book, values.Everything):
                assert mapped(model)
            configure_mappers()
    assert [str(one.message) for one in caught if "sqlalchemy" in one.category.__module__] == []


def test_another_set_of_apps_has_classes_of_its_own_and_the_first_ones_come_back() -> None:
    before = mapped(relations.Book), table_for(relations.Book)
    with modify_settings(INSTALLED_APPS={"append": "django.contrib.sessions"}):
        from django.contrib.sessions.models import Session

        assert mapped(Session).session_key is not None
        other = mapped(relations.Book)
        assert other is mapped(relations.Book)
        assert other.author.property.mapper.class_ is mapped(relations.Author)
    assert (mapped(relations.Book), table_for(relations.Book)) == before


@isolate_apps("tests.mapping.shop")
def test_isolated_models_are_mapped_beside_the_others() -> None:
    class Isolated(models.Model):
        name = models.CharField(max_length=5)
        book = models.ForeignKey(relations.Book, models.CASCADE, related_name="+")
        other = models.ForeignKey("self", models.CASCADE, null=True, related_name="others")

        class Meta:
            app_label = "shop"

    Mapped = mapped(Isolated)
    assert Mapped is mapped(Isolated)
    assert Mapped.other.property.mapper.class_ is Mapped
    assert Mapped.book.property.mapper.class_.__django_model__ is relations.Book
    assert "others" in Mapped.__mapper__.relationships
    assert str(select(Mapped)).startswith("SELECT")


def test_after_isolated_models_the_installed_ones_are_as_before() -> None:
    before = mapped(relations.Book)
    for _ in range(3):
        test_isolated_models_are_mapped_beside_the_others()
    assert mapped(relations.Book) is before
    assert not hasattr(mapped(relations.Book), "isolated_set")


def test_the_generations_that_are_kept_are_few() -> None:
    seen: list[weakref.ref[Any]] = []
    for number in range(12):
        with isolate_apps("tests.mapping.shop"):

            class Meta:
                app_label = "shop"

            made = type(f"Passing{number}", (models.Model,), {"__module__": __name__, "Meta": Meta})
            seen.append(weakref.ref(generation_of(made)))
        del made
    gc.collect()
    assert len([one for one in seen if one() is not None]) <= 8
    assert mapped(relations.Book)


# -- SQLAlchemy's caches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: select(mapped(values.Everything)).where(mapped(values.Everything).integer == 5),
        lambda: select(mapped(values.Everything)).where(mapped(values.Everything).decimal > 5),
        lambda: select(mapped(values.Everything).json["a"].as_integer()),
        lambda: select(mapped(values.Custom)).where(mapped(values.Custom).sets == {"a": {1}}),
        lambda: select(mapped(relations.Book)).options(selectinload(mapped(relations.Book).genres)),
        lambda: select(table_for(values.Price)).where(table_for(values.Price).c.price.in_([1, 2])),
        lambda: select(mapped(values.Price).price * 2, mapped(values.Price).span * 3),
        lambda: select(mapped(shop_models.POSTGRES[0]).integers[1], mapped(shop_models.POSTGRES[0]).nested[1][1]),
        lambda: select(mapped(shop_models.POSTGRES[1])).where(mapped(shop_models.POSTGRES[1]).integers.contains(3)),
        lambda: select(mapped(values.Generated)).where(mapped(values.Generated).area == 3),
    ],
)
def test_a_statement_made_twice_has_one_cache_key(make: Callable[[], Any]) -> None:
    first, second = make()._generate_cache_key(), make()._generate_cache_key()
    assert first is not None
    assert first == second
    assert hash(first.key) == hash(second.key)


async def test_a_statement_is_compiled_once_and_a_type_is_asked_once(shop: Any) -> None:
    Everything = mapped(shop.values.Everything)
    async with session() as db:
        dialect = (await db.connection()).dialect
        cache = (await db.connection()).engine.sync_engine._compiled_cache
        for number in range(3):
            await db.execute(select(Everything).where(Everything.integer == number))
        size = len(cache)
        column = table_for(shop.values.Everything).c.moment.type
        reader = column._cached_result_processor(dialect, None)
        for number in range(3, 30):
            await db.execute(select(Everything).where(Everything.integer == number))
        assert len(cache) == size
        assert column._cached_result_processor(dialect, None) is reader


def test_two_fields_of_one_kind_are_two_types_to_the_cache() -> None:
    Everything = mapped(values.Everything)
    first = select(Everything.positive_big)._generate_cache_key()
    assert first != select(Everything.big)._generate_cache_key()
    table = table_for(values.Custom)
    one = select(table.c.id).where(table.c.secret == "x")._generate_cache_key()
    other = select(table.c.id).where(table.c.ci == "x")._generate_cache_key()
    assert one != other
