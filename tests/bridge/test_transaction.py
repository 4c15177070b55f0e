"""session, with_session and atomic: aliases, routers, decorators, and what they refuse."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connections
from sqlalchemy import literal, select, text

from asyncdb import ConfigurationError, NoEventLoop, Session, UncommittedWrites, registry
from django_bridge import atomic, database, session, with_session

from .conftest import forget_connections

CREATE = "CREATE TABLE visit (number INTEGER)"
INSERT = "INSERT INTO visit VALUES (1)"
COUNT = "SELECT COUNT(*) FROM visit"


@pytest.fixture
async def two(project: Any, tmp_path: Any, django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two SQLite files, ``default`` and ``other``, each with the empty table ``visit``."""
    engine = "django.db.backends.sqlite3"
    project(DATABASES={alias: {"ENGINE": engine, "NAME": tmp_path / alias} for alias in ("default", "other")})
    # Django's own connections go there too, which are atomic()'s with ASYNC_DB_MODE=threads.
    monkeypatch.setitem(vars(connections), "settings", connections.configure_settings(settings.DATABASES))
    for alias in ("default", "other"):
        await database(alias).execute(text(CREATE))
    with django_db_blocker.unblock():  # atomic() is the ORM's transaction too
        yield
    await registry.close_all()
    await sync_to_async(forget_connections)()


async def visits(using: str | None = None) -> int:
    return await database(using).fetch_val(text(COUNT), into=int)


class Router:
    """Reads of users go to ``other``; writes of groups do."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model is User else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model is Group else None


@pytest.mark.contract
async def test_a_session_reads_and_leaves_commit_to_its_user(two: Any) -> None:
    async with session() as db:
        await db.execute(text(INSERT))
        await db.commit()
    assert await visits() == 1
    with pytest.raises(UncommittedWrites):
        async with session() as db:
            await db.execute(text(INSERT))
    assert await visits() == 1


async def test_using_names_the_alias(two: Any) -> None:
    async with session("other") as db:
        await db.execute(text(INSERT))
        await db.commit()
    assert (await visits("default"), await visits("other")) == (0, 1)


@pytest.mark.parametrize(
    ("model", "for_write", "alias"),
    [(User, False, "other"), (User, True, "default"), (Group, False, "default"), (Group, True, "other")],
)
async def test_the_routers_choose_the_alias_of_a_model(
    model: Any, for_write: bool, alias: str, two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import router

    monkeypatch.setattr(router, "routers", [Router()])
    async with session(model=model, for_write=for_write) as db:
        await db.execute(text(INSERT))
        await db.commit()
    assert await visits(alias) == 1


async def test_using_and_model_together_are_refused() -> None:
    with pytest.raises(TypeError, match="not both"):
        session("default", model=User)
    with pytest.raises(TypeError, match="not both"):
        with_session("default", model=User)


async def test_an_unknown_alias_is_refused_with_the_nearest_name(two: Any) -> None:
    expected = r"'othre'.*did you mean 'other'\?"
    for misuse in (database, session):
        with pytest.raises(ConfigurationError, match=expected):
            misuse("othre")
    with pytest.raises(ConfigurationError, match=expected):
        await atomic("othre").__aenter__()


async def test_with_session_passes_the_session_as_db(two: Any) -> None:
    @with_session
    async def view(request: str, pk: int, *, db: Session) -> tuple[str, int]:
        return request, await db.fetch_val(select(literal(pk)), into=int)

    assert await view("request", pk=3) == ("request", 3)
    assert view.__name__ == "view"
    assert inspect.iscoroutinefunction(view)


async def test_with_session_takes_an_alias_and_decorates_methods(two: Any) -> None:
    class View:
        @with_session("other")
        async def get(self, request: str, *, db: Session) -> str:
            await db.execute(text(INSERT))
            await db.commit()
            return request

    assert await View().get("request") == "request"
    assert await visits("other") == 1


def test_with_session_refuses_a_function_without_db() -> None:
    async def view(request: Any) -> None: ...

    with pytest.raises(TypeError, match=r"view takes no 'db'"):
        with_session(view)


async def visit_and_fail() -> None:
    async with atomic() as db:
        await db.execute(text(INSERT))
        raise LookupError


@pytest.mark.contract
async def test_atomic_commits_and_rolls_back(two: Any) -> None:
    async with atomic() as db:
        await db.execute(text(INSERT))
    with pytest.raises(LookupError):
        await visit_and_fail()
    assert await visits() == 1


@pytest.mark.contract
async def test_a_nested_atomic_is_a_savepoint(two: Any) -> None:
    async with atomic() as outer:
        await outer.execute(text(INSERT))
        with pytest.raises(LookupError):
            await visit_and_fail()
    assert await visits() == 1


async def test_atomic_decorates_bare_and_with_options(two: Any) -> None:
    @atomic
    async def bare(number: int, *, db: Session) -> int:
        await db.execute(text(INSERT))
        return number

    @atomic("other", isolation="SERIALIZABLE")
    async def with_options(*, fail: bool, db: Session) -> None:
        await db.execute(text(INSERT))
        if fail:
            raise LookupError

    assert await bare(7) == 7
    assert await bare(8) == 8
    with pytest.raises(LookupError):
        await with_options(fail=True)
    await with_options(fail=False)
    assert (await visits(), await visits("other")) == (2, 1)
    assert bare.__name__ == "bare"


async def test_atomic_decorates_a_function_that_takes_no_db(two: Any) -> None:
    @atomic()
    async def work() -> None:
        await database().execute(text(INSERT))
        raise LookupError

    with pytest.raises(LookupError):
        await work()
    assert await visits() == 0


def _sync_view(request: Any, *, db: Any = None) -> None: ...


async def _generator(*, db: Any = None) -> Any:
    yield 1


class _View:
    async def get(self, *, db: Any) -> None: ...


@pytest.mark.parametrize("decorator", [with_session, with_session(), atomic, atomic("other"), atomic(durable=True)])
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_sync_view, r"_sync_view is a sync function"),
        (_generator, r"_generator is an async generator"),
        (_View, r"_View is a class"),
    ],
)
def test_what_is_not_an_async_function_is_refused_by_name(decorator: Any, function: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        decorator(function)


def test_atomic_in_a_sync_with_says_what_to_do() -> None:
    with pytest.raises(TypeError, match="async with"), atomic():
        pass


async def test_one_atomic_object_is_one_block(two: Any) -> None:
    block = atomic()
    async with block:
        with pytest.raises(RuntimeError, match="once for each block"):
            await block.__aenter__()


async def test_overridden_settings_are_followed(two: Any, project: Any, tmp_path: Any) -> None:
    first = database()
    assert first is database()
    project(ASYNC_DB={"default": {"pool_size": 2}})
    second = database()
    assert second is not first
    assert second.config.pool_size == 2
    project(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "third"}})
    assert database().config.database.endswith("third")


async def test_each_physical_connection_asks_the_projects_wrapper_anew(
    two: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from django.conf import settings

    assert await visits() == 0
    db = database()
    settings.DATABASES["default"]["NAME"] = tmp_path / "rotated"
    async with db.session() as first, db.session() as second:
        await first.fetch_val(text("SELECT 1"))
        with pytest.raises(Exception, match="no such table"):
            await second.fetch_val(text(COUNT))


def test_outside_of_a_loop_the_error_is_clear(project: Any) -> None:
    with pytest.raises(NoEventLoop):
        session()
    with pytest.raises(NoEventLoop):
        database()


def test_under_trio_the_error_is_clear(project: Any) -> None:
    import trio

    async def view() -> None:
        async with atomic():
            pass

    with pytest.raises(NoEventLoop, match="trio is not supported"):
        trio.run(view)


def test_a_view_under_wsgi_leaves_nothing_open(project: Any, tmp_path: Any) -> None:
    project(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "a"}})
    kept: list[Any] = []

    @with_session
    async def view(request: str, *, db: Session) -> str:
        kept.append(database())
        await asyncio.gather(*(database().fetch_val(select(literal(1))) for _ in range(3)))
        return f"{request} {await db.fetch_val(select(literal(1)))}"

    for number in range(3):
        assert async_to_sync(view)(str(number)) == f"{number} 1"
    assert len({id(one) for one in kept}) == 3
    assert all(one.closed for one in kept)
    assert registry.databases() == []


def test_atomic_over_with_session_is_refused_since_the_session_would_not_be_the_blocks() -> None:
    with pytest.raises(TypeError, match="remove with_session"):

        @atomic
        @with_session
        async def view(request: Any, *, db: Session) -> None: ...
