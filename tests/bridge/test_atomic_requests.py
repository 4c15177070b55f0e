"""``ATOMIC_REQUESTS``: each view, async or sync, in one transaction, through Django's own handler."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, markcoroutinefunction, sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.core.handlers.base import BaseHandler
from django.db import IntegrityError, connection, connections, transaction
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import SimpleTemplateResponse
from django.test import AsyncClient, Client
from django.utils.decorators import method_decorator
from django.views import View
from sqlalchemy import func, insert, select

from asyncdb import Session
from asyncdb.engine import pool_of
from django_bridge import atomic, database, hooks, outside_scope, run_django, with_session
from tests.bridge.shared import Kind, clear, create_without_savepoint, models, orm_reads, outside, session_writes

from .site import PREFIX, SCOPED, around, asked, get, site

pytestmark = pytest.mark.native_only(
    "the view looks at the pool, and from another connection at what it has not committed"
)

MIDDLEWARE = {
    "the scope's": [SCOPED],
    "none": [],
    "a sync one in the scope": [SCOPED, f"{PREFIX}AsyncOnly", f"{PREFIX}SyncOnly"],
    "a sync one without a scope": [f"{PREFIX}SyncOnly"],
}


@pytest.fixture
def asgi(tx: Any, project: Any) -> Iterator[Callable[..., None]]:
    """``asgi([SCOPED], view=view)``: a project with ``ATOMIC_REQUESTS``."""
    tx(ATOMIC_REQUESTS=True)
    around["sync"] = around["async"] = lambda get_response, request: get_response(request)
    yield functools.partial(_use, project)
    around.clear()


def _use(project: Any, middleware: list[str], **views: Any) -> None:
    site(project=project, middleware=middleware, **views)


async def orm(model: str) -> None:
    await ContentType.objects.acreate(app_label="a", model=model)


async def core(model: str) -> None:
    await database().execute(insert(Kind).values(app_label="a", model=model))


async def block(model: str) -> None:
    async with atomic() as db:
        await session_writes(db, model)


async def sync_code(model: str) -> None:
    await run_django(create_without_savepoint, model)


async def thread(model: str) -> None:
    await sync_to_async(create_without_savepoint)(model)


ALL = [orm, core, block, sync_code, thread]


async def writes_all(request: HttpRequest) -> HttpResponse:
    for write in ALL:
        await write(write.__name__)
        assert await outside() == [], write
    if "fails" in request.path:
        raise LookupError
    return HttpResponse("ok")


async def in_atomic_block(using: str = "default") -> bool:
    return bool(await run_django(lambda: connections[using].in_atomic_block))


# One transaction


@pytest.mark.parametrize("middleware", ["the scope's", "none", "a sync one in the scope"])
async def test_an_async_view_is_one_transaction_for_all_who_write(middleware: str, asgi: Any) -> None:
    asgi(MIDDLEWARE[middleware], view=writes_all, fails=writes_all)
    assert (await get("/fails"))[0] == 500
    assert await outside() == []
    assert await get("/view") == (200, b"ok")
    assert await outside() == sorted(write.__name__ for write in ALL)
    assert database().stats().checked_out == 0


async def test_below_a_sync_middleware_without_a_scope_a_view_is_in_the_transaction_of_its_thread(asgi: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        await sync_code("two")
        await thread("three")
        await core("five")
        await block("four")
        assert await sync_to_async(lambda: connection.in_atomic_block)()
        if request.path == "/fails":
            raise LookupError
        return HttpResponse("ok")

    asgi(MIDDLEWARE["a sync one without a scope"], view=view, fails=view)
    assert (await get("/fails"))[0] == 500
    assert await outside() == []
    assert await get("/view") == (200, b"ok")
    assert await outside() == ["five", "four", "one", "three", "two"]


async def partial_view(how: str, request: HttpRequest) -> HttpResponse:
    return await writes_all(request)


class ClassBased(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return await writes_all(request)


class Marked:
    def __init__(self) -> None:
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        return await writes_all(request)


def marked_function() -> Any:
    def view(request: HttpRequest) -> Any:
        return writes_all(request)

    return markcoroutinefunction(view)


@pytest.mark.parametrize(
    "view",
    [functools.partial(partial_view, "how"), ClassBased.as_view(), Marked(), marked_function()],
    ids=["partial", "class-based", "marked object", "marked function"],
)
@pytest.mark.parametrize("middleware", ["the scope's", "a sync one in the scope"])
async def test_a_view_of_any_shape_is_in_the_transaction(view: Any, middleware: str, asgi: Any) -> None:
    asgi(MIDDLEWARE[middleware], view=view, fails=view)
    assert (await get("/fails"))[0] == 500
    assert await outside() == []
    assert (await get("/view"))[0] == 200
    assert len(await outside()) == len(ALL)


async def test_a_view_that_only_says_to_be_async_is_in_the_transaction_of_a_thread_too(asgi: Any) -> None:
    async def work(request: HttpRequest) -> HttpResponse:
        await orm("one")
        if request.path == "/fails":
            raise LookupError
        return HttpResponse("ok")

    def view(request: HttpRequest) -> Any:
        return work(request)

    marked = markcoroutinefunction(view)
    asgi(MIDDLEWARE["a sync one without a scope"], view=marked, fails=marked)
    assert (await get("/fails"))[0] == 500
    assert await outside() == []
    assert await get("/view") == (200, b"ok")
    assert await outside() == ["one"]


async def test_without_the_hook_django_refuses_the_view(asgi: Any) -> None:
    """The control: it is the hook that does it."""
    asgi([SCOPED], view=writes_all)
    hooks.uninstall()
    try:
        with pytest.raises(RuntimeError, match=r"^You cannot use ATOMIC_REQUESTS with async views\.$"):
            BaseHandler().make_view_atomic(writes_all)
        assert (await get("/view"))[0] == 500
        assert await outside() == []
    finally:
        hooks.install()
    assert (await get("/view"))[0] == 200


async def test_without_the_setting_a_view_is_in_no_transaction(asgi: Any, tx: Any) -> None:
    """The control: what fails keeps its rows."""
    tx(ATOMIC_REQUESTS=False)

    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        raise LookupError

    asgi([SCOPED], view=view)
    assert (await get("/view"))[0] == 500
    assert await outside() == ["one"]


# Exceptions and responses


@pytest.mark.parametrize(("error", "status"), [(Http404, 404), (PermissionDenied, 403), (LookupError, 500)])
async def test_an_exception_that_django_answers_rolls_back(error: Any, status: int, asgi: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        raise error

    asgi([SCOPED], view=view)
    assert (await get("/view"))[0] == status
    assert await outside() == []


@pytest.mark.parametrize("status", [200, 302, 404, 500])
async def test_a_response_of_any_status_commits(status: int, asgi: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        return HttpResponse(status=status)

    asgi([SCOPED], view=view)
    assert (await get("/view"))[0] == status
    assert await outside() == ["one"]


class Answers:
    """Answers what went wrong, and writes down what was there then."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        return HttpResponse(f"{type(error).__name__} {connection.in_atomic_block} {models()}", status=409)


async def test_process_exception_is_asked_when_the_transaction_was_rolled_back(asgi: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        raise LookupError

    asgi([SCOPED, f"{__name__}.Answers"], view=view)
    assert await get("/view") == (409, b"LookupError False []")


async def test_process_exception_is_asked_of_a_commit_that_fails(asgi: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        async with atomic() as db:
            db.add_all([Kind(app_label="a", model="one"), Kind(app_label="a", model="one")])
        return HttpResponse("ok")

    asgi([SCOPED, f"{__name__}.Answers"], view=view)
    assert await get("/view") == (409, b"IntegrityError False []")


async def test_a_failed_statement_that_the_view_caught_rolls_back_in_silence(asgi: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        try:
            await orm("one")
        except IntegrityError:
            return HttpResponse("caught")
        raise AssertionError

    asgi([SCOPED], view=view)
    assert await get("/view") == (200, b"caught")
    assert await outside() == []


async def test_a_view_may_ask_for_a_roll_back(asgi: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        transaction.set_rollback(True)
        return HttpResponse("ok")

    asgi([SCOPED], view=view)
    assert await get("/view") == (200, b"ok")
    assert await outside() == []


async def test_hooks_run_after_the_commit_of_the_request_and_never_after_a_roll_back(asgi: Any) -> None:
    seen: list[Any] = []

    async def hook() -> None:
        seen.append(await outside())

    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        transaction.on_commit(hook)
        async with atomic() as db:
            db.on_commit(functools.partial(seen.append, "second"))
        assert seen == []
        if request.path == "/fails":
            raise LookupError
        return HttpResponse("ok")

    asgi([SCOPED], view=view, fails=view)
    await get("/fails")
    assert seen == []
    await get("/view")
    assert seen == [["one"], "second"]


# Blocks inside, and views of their own ways


async def test_an_atomic_block_in_the_view_is_a_savepoint(asgi: Any) -> None:
    @atomic
    async def view(request: HttpRequest, *, db: Session) -> HttpResponse:
        await session_writes(db, "one")
        with pytest.raises(LookupError):
            async with atomic() as inner:
                await session_writes(inner, "two")
                raise LookupError
        assert await orm_reads(db) in (["one"], ["one", "zero"])
        if request.path == "/fails":
            raise LookupError
        return HttpResponse("ok")

    async def around_it(request: HttpRequest) -> HttpResponse:
        await orm("zero")
        with pytest.raises(LookupError):
            await view(request)
        return HttpResponse("ok")

    asgi([SCOPED], view=view, fails=around_it)
    assert (await get("/view"))[0] == 200
    assert await outside() == ["one"]
    await clear()
    assert (await get("/fails"))[0] == 200
    assert await outside() == ["zero"]


async def test_a_url_parameter_named_db_is_the_urls(asgi: Any, project: Any) -> None:
    async def view(request: HttpRequest, db: str) -> HttpResponse:
        return HttpResponse(db)

    asgi([SCOPED], **{"view/<str:db>": view})
    assert await get("/view/7") == (200, b"7")


async def test_a_view_with_a_session_of_its_own_ends_that_one_itself(asgi: Any) -> None:
    @with_session
    async def view(request: HttpRequest, *, db: Session) -> HttpResponse:
        await session_writes(db, "one")
        await db.commit()
        assert await outside() == ["one"]
        raise LookupError

    asgi([SCOPED], view=view)
    assert (await get("/view"))[0] == 500
    assert await outside() == ["one"]


async def test_whoever_wrapped_what_makes_a_view_atomic_is_still_asked(
    asgi: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks.uninstall()
    traced: list[Any] = []
    original = BaseHandler.make_view_atomic
    try:
        with monkeypatch.context() as patched:

            @functools.wraps(original)
            def tracing(handler: Any, view: Any) -> Any:
                traced.append(view.__name__)
                return original(handler, view)

            patched.setattr(BaseHandler, "make_view_atomic", tracing)
            hooks.install()
            asgi([SCOPED], view=writes_all, fails=writes_all)
            assert (await get("/view"))[0] == 200
            assert traced == ["writes_all"]
            hooks.uninstall()
    finally:
        hooks.install()


# Outside of the transaction


@pytest.mark.parametrize("mark", [transaction.non_atomic_requests, transaction.non_atomic_requests(using="default")])
async def test_a_view_marked_non_atomic_is_in_no_transaction(mark: Any, asgi: Any) -> None:
    @mark
    async def view(request: HttpRequest) -> HttpResponse:
        assert not await in_atomic_block()
        await orm("one")
        raise LookupError

    asgi([SCOPED], view=view)
    assert (await get("/view"))[0] == 500
    assert await outside() == ["one"]


async def test_a_view_marked_for_another_alias_is_in_the_transaction(asgi: Any) -> None:
    @transaction.non_atomic_requests(using="incorrect")
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(str(await in_atomic_block()))

    asgi([SCOPED], view=view)
    assert await get("/view") == (200, b"True")


async def test_a_template_is_rendered_after_the_commit(asgi: Any) -> None:
    class Response(SimpleTemplateResponse):
        @property
        def rendered_content(self) -> str:
            return f"{connection.in_atomic_block} {models()}"

    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        return Response("none.html")

    asgi([SCOPED], view=view)
    assert await get("/view") == (200, b"False ['one']")


async def test_a_streaming_body_is_outside_of_the_transaction(asgi: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield str(await in_atomic_block()).encode()
        yield str(await outside()).encode()
        await orm("two")
        yield str(await outside()).encode()

    async def view(request: HttpRequest) -> StreamingHttpResponse:
        await orm("one")
        return StreamingHttpResponse(body())

    asgi([SCOPED], view=view)
    assert await get("/view") == (200, b"False['one']['one', 'two']")


# A client that goes away


@pytest.mark.parametrize("middleware", ["the scope's", "none", "a sync one in the scope"])
async def test_a_client_that_goes_away_rolls_back_and_leaves_nothing(
    middleware: str, asgi: Any, eventually: Any
) -> None:
    there = asyncio.Event()

    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        await core("two")
        there.set()
        await asyncio.Event().wait()
        raise AssertionError

    asgi(MIDDLEWARE[middleware], view=view)
    asking = await asked("/view")
    await asyncio.wait_for(there.wait(), 10)
    assert database().stats().checked_out == 1
    await asking.send_input({"type": "http.disconnect"})
    await asking.wait(10)
    await eventually(lambda: database().stats().checked_out == 0)
    assert await outside() == []
    await asyncio.wait_for(orm("one"), 10)  # nobody holds a lock


# Two aliases


async def test_each_alias_that_asks_for_it_has_a_transaction(two: Any, project: Any) -> None:
    two(default={"ATOMIC_REQUESTS": True}, other={"ATOMIC_REQUESTS": True})

    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        await ContentType.objects.using("other").acreate(app_label="a", model="two")
        await database("other").execute(insert(Kind).values(app_label="a", model="three"))
        assert (await outside(), await outside("other")) == ([], [])
        if request.path == "/fails":
            raise LookupError
        return HttpResponse("ok")

    site(project=project, middleware=[SCOPED], view=view, fails=view)
    assert (await get("/fails"))[0] == 500
    assert (await outside(), await outside("other")) == ([], [])
    assert (await get("/view"))[0] == 200
    assert (await outside(), await outside("other")) == (["one"], ["three", "two"])


@pytest.mark.parametrize("middleware", ["the scope's", "a sync one without a scope"])
async def test_aliases_are_left_out_one_by_one(middleware: str, two: Any, project: Any) -> None:
    around["sync"] = lambda get_response, request: get_response(request)
    both = {"ATOMIC_REQUESTS": True}

    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{await in_atomic_block()} {await in_atomic_block('other')}")

    def marked(*using: str | None) -> Any:
        async def another(request: HttpRequest) -> HttpResponse:
            return await view(request)

        for alias in using:
            another = transaction.non_atomic_requests(using=alias)(another)
        return another

    site(
        project=project,
        middleware=MIDDLEWARE[middleware],
        none=marked(),
        default=marked(None),
        other=marked("other"),
        both=marked("default", "other"),
    )
    two(default=both, other=both)
    assert [(await get(f"/{name}"))[1] for name in ("none", "default", "other", "both")] == [
        b"True True",
        b"False True",
        b"True False",
        b"False False",
    ]
    two(other=both)
    assert (await get("/none"))[1] == b"False True"


async def test_the_first_alias_commits_first_as_in_django(two: Any, project: Any) -> None:
    two(default={"ATOMIC_REQUESTS": True}, other={"ATOMIC_REQUESTS": True})
    order: list[str] = []

    def hooked() -> None:
        for alias in ("other", "default"):
            transaction.on_commit(functools.partial(order.append, alias), using=alias)

    async def view(request: HttpRequest) -> HttpResponse:
        hooked()
        return HttpResponse("ok")

    def sync_view(request: HttpRequest) -> HttpResponse:
        hooked()
        return HttpResponse("ok")

    site(project=project, middleware=[SCOPED], view=view, sync=sync_view)
    assert (await get("/view"))[0] == 200
    assert (await get("/sync"))[0] == 200
    assert order == ["default", "other"] * 2


@pytest.mark.native_only(None)
async def test_an_async_view_on_an_alias_in_threads_is_in_djangos_transaction_there(two: Any, project: Any) -> None:
    """With ``ASYNC_DB_MODE=threads`` too: who goes back changes no view."""
    two(other={"ATOMIC_REQUESTS": True}, ASYNC_DB={"other": {"mode": "threads"}})

    async def view(request: HttpRequest) -> HttpResponse:
        await ContentType.objects.using("other").acreate(app_label="a", model="two")
        await database("other").execute(insert(Kind).values(app_label="a", model="three"))
        async with atomic("other") as db:
            await session_writes(db, "four")
        if request.path == "/fails":
            raise LookupError
        return HttpResponse(str(await database("other").fetch_val(select(func.count()).select_from(Kind))))

    site(project=project, middleware=[SCOPED], view=view, fails=view)
    assert (await get("/fails"))[0] == 500
    assert await outside("other") == []
    assert await get("/view") == (200, b"3")
    assert await outside("other") == ["four", "three", "two"]


# Left to Django


@pytest.mark.parametrize("shape", ["function", "class"])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_view_outside_of_the_scope_is_in_djangos_transaction(shape: str, is_async: bool, asgi: Any) -> None:
    def work(request: HttpRequest) -> HttpResponse:
        assert connection.in_atomic_block
        assert "Seat" not in type(connections["default"]).__name__
        create_without_savepoint("one")
        if request.path == "/fails":
            raise LookupError
        return HttpResponse("ok")

    async def async_work(request: HttpRequest) -> HttpResponse:
        return await sync_to_async(work)(request)

    @method_decorator(outside_scope, name="dispatch")
    class Sync(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return work(request)

    @method_decorator(outside_scope, name="dispatch")
    class Async(View):
        async def get(self, request: HttpRequest) -> HttpResponse:
            return await async_work(request)

    view: Any = (Async if is_async else Sync).as_view()
    if shape == "function":
        view = outside_scope(async_work if is_async else work)
    asgi([SCOPED], view=view, fails=view)
    assert (await get("/fails"))[0] == 500
    assert await outside() == []
    assert (await get("/view"))[0] == 200
    assert await outside() == ["one"]


@pytest.mark.parametrize("middleware", [[SCOPED], []])
async def test_the_test_clients_get_the_same_of_an_async_view(middleware: list[str], asgi: Any) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        await orm("one")
        await thread("two")
        assert await sync_to_async(lambda: connection.in_atomic_block)()
        if request.path == "/fails":
            raise LookupError
        return HttpResponse("ok")

    def clients() -> list[int]:
        sync = Client(raise_request_exception=False)
        beneath = async_to_sync(AsyncClient(raise_request_exception=False).get)
        try:
            found = [sync.get("/fails").status_code, beneath("/fails").status_code]
            assert models() == []
            found.append(sync.get("/view").status_code)
            assert models() == ["one", "two"]
            ContentType.objects.all()._raw_delete("default")
            found.append(beneath("/view").status_code)
            assert models() == ["one", "two"]
        finally:
            connections.close_all()
        return found

    asgi(middleware, view=view, fails=view)
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, clients) == [500, 500, 200, 200]


# Sync views and sync middleware


async def test_a_sync_view_is_in_a_transaction_on_the_pool_below_a_sync_middleware(asgi: Any) -> None:
    seen: list[Any] = []

    def middleware(get_response: Any, request: HttpRequest) -> Any:
        create_without_savepoint("middleware")
        seen.append(connection.in_atomic_block)
        response = get_response(request)
        seen.append((connection.in_atomic_block, models()))
        return response

    def view(request: HttpRequest) -> HttpResponse:
        create_without_savepoint("view")
        seen.append((connection.in_atomic_block, pool.stats().checked_out))
        if request.path == "/fails":
            raise LookupError
        return HttpResponse("ok")

    around["sync"] = middleware
    pool = pool_of(database().engine)
    asgi(MIDDLEWARE["a sync one in the scope"], view=view, fails=view)
    assert (await get("/fails"))[0] == 500
    assert seen == [False, (True, 1), (False, ["middleware"])]
    assert await outside() == ["middleware"]
    await clear()
    seen.clear()
    assert (await get("/view"))[0] == 200
    assert seen == [False, (True, 1), (False, ["middleware", "view"])]
    assert await outside() == ["middleware", "view"]


async def test_async_code_that_a_sync_view_waits_for_is_in_its_transaction(asgi: Any) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        create_without_savepoint("one")
        async_to_sync(orm)("two")
        async_to_sync(block)("three")
        raise LookupError

    asgi([SCOPED], view=view)
    assert (await get("/view"))[0] == 500
    assert await outside() == []
