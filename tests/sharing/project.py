"""A project whose requests open something in one place and ask for it in another.

``python -m tests.sharing.project bridged|stock|alone URL`` sends one request for each cell through Django's own ASGI
handler and prints, as JSON, what the asker has found: ``seen``, ``not seen``, or an error by its class; of a
transaction also whether what the asker wrote in it was ``rolled back`` with it. ``alone``: nothing is opened.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import make_url

STATES = ("nothing", "setting", "transaction", "wrapper")
OPENERS: dict[str, tuple[str, ...]] = {
    # Who opens, and who is asked within.
    "sync_middleware": ("sync_view", "async_view", "thread", "child_task", "async_to_sync", "session", "verbs"),
    "async_middleware": ("sync_view", "async_view", "thread", "child_task", "async_to_sync", "session", "verbs"),
    "sync_view": ("async_to_sync", "thread_beneath", "sync_body", "session_beneath", "atomic_beneath"),
    "async_view": ("thread", "child_task", "sync_body", "async_body"),
    "thread": ("async_view", "child_task", "async_body", "session", "verbs", "atomic"),
}
_ENDS_WITH_ITS_OPENER = {"sync_body", "async_body"}
"""Who runs when a ``with`` of the opener is over."""
_OF_OURS = {"session", "verbs", "session_beneath", "atomic_beneath", "atomic"}
_OF_A_VIEW = {
    "sync_view": "sync", "async_to_sync": "sync", "thread_beneath": "sync", "sync_body": "sync",
    "session_beneath": "sync", "atomic_beneath": "sync",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One request."""

    opener: str
    asker: str
    state: str

    def __str__(self) -> str:
        return f"{self.opener}-{self.asker}-{self.state}"


def cells() -> list[Cell]:
    """All that can be: what is a block in Python ends before a body is read, and before another one's turn."""
    found = []
    for opener, askers in OPENERS.items():
        for asker in askers:
            for state in STATES:
                if state in {"transaction", "wrapper"} and (asker in _ENDS_WITH_ITS_OPENER or opener == "thread"):
                    continue
                if state == "wrapper" and asker in _OF_OURS:
                    continue  # Django's execute wrappers are the ORM's
                found.append(Cell(opener, asker, state))
    return found


def configure(mode: str, url: str) -> None:
    """Makes the project, with the bridge or without."""
    import django
    from django.conf import settings

    place = make_url(url)
    family = {"mariadb": "mysql"}.get(place.drivername.partition("+")[0], place.drivername.partition("+")[0])
    database: dict[str, Any] = {"ENGINE": f"django.db.backends.{'sqlite3' if family == 'sqlite' else family}"}
    database |= {"HOST": place.host or "", "PORT": place.port or "", "USER": place.username or ""}
    database |= {"PASSWORD": place.password or "", "NAME": place.database}
    apps = ["django.contrib.contenttypes"]
    own: dict[str, Any] = (
        {"driver_options": {"get_server_public_key": True}} if "mysql" in url.partition(":")[0] else {}
    )
    settings.configure(
        DATABASES={"default": database},
        INSTALLED_APPS=apps if mode == "stock" else [*apps, "django_bridge"],
        ASYNC_DB={"default": {"thread_pool": True, "thread_pool_size": 3, "pool_size": 3, **own}},
        ROOT_URLCONF="tests.sharing.project",
        SECRET_KEY="only for these tests",
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()


BRIDGED = len(sys.argv) > 1 and sys.argv[1] in {"bridged", "alone"}
OPENS = len(sys.argv) > 1 and sys.argv[1] != "alone"
if __name__ != "__main__":
    urlpatterns: list[Any] = []
else:
    configure(sys.argv[1], sys.argv[2])

# -- what is opened, and what is asked ------------------------------------------------------------------------------


class _Undone(Exception):
    """Rolls back what a cell has written."""


class Now:
    """The request that runs: one at a time."""

    cell = Cell("", "", "")
    outcome = "not asked"
    heard: list[str] = []  # noqa: RUF012  (replaced for each)


def _sql(mysql: str, postgresql: str, sqlite: str) -> str:
    from django.db import connections

    vendor = connections.settings["default"]["ENGINE"].rpartition(".")[2]
    return {"mysql": mysql, "postgresql": postgresql, "sqlite3": sqlite}[vendor]


def _say(statement: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement)


def _set() -> None:
    _say(_sql("SET SESSION group_concat_max_len = 7777", "SET app.tenant = '7'", "CREATE TEMP TABLE tenant (id int)"))


def _write(name: str) -> None:
    from django.contrib.contenttypes.models import ContentType

    ContentType.objects.create(app_label="cell", model=name)


def _told() -> str:
    return _sql(
        "@@group_concat_max_len = 7777",
        "COALESCE(current_setting('app.tenant', true), '') = '7'",
        "(SELECT COUNT(*) FROM sqlite_temp_master WHERE name = 'tenant')",
    )


def _rows() -> Any:
    """Each row with what the session has been told."""
    from django.contrib.contenttypes.models import ContentType
    from django.db.models.expressions import RawSQL

    return ContentType.objects.filter(app_label="cell").annotate(told=RawSQL(_told(), ()))


def _hear(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
    Now.heard.append("wrapper")
    return execute(sql, params, many, context)


@contextmanager
def opened() -> Iterator[None]:
    """In sync code: the state is there."""
    from django.db import connection, transaction
    from django.test.utils import CaptureQueriesContext

    state = Now.cell.state if OPENS else "nothing"
    if state == "setting":
        _set()
        yield
    elif state == "transaction":
        try:
            with transaction.atomic():
                _write("opened")
                yield
                raise _Undone
        except _Undone:
            pass
    elif state == "wrapper":
        with connection.execute_wrapper(_hear), CaptureQueriesContext(connection) as captured:
            yield
        if not captured.captured_queries:
            Now.outcome += ", not logged"
    else:
        yield


@asynccontextmanager
async def opened_here() -> AsyncIterator[None]:
    """In async code, which stock Django lets do nothing of it but in a thread."""
    state = Now.cell.state if OPENS else "nothing"
    if not BRIDGED:
        from asgiref.sync import sync_to_async

        if state == "setting":
            await sync_to_async(_set)()
        elif state != "nothing":
            Now.outcome = "cannot be"
        yield
        return
    from django_bridge import atomic, run_django

    if state == "setting":
        await run_django(_set)
        yield
    elif state == "transaction":
        try:
            async with atomic():
                await run_django(_write, "opened")
                yield
                raise _Undone
        except _Undone:
            pass
    elif state == "wrapper":
        with opened():
            yield
    else:
        yield


def _found(rows: list[Any]) -> str:
    state = Now.cell.state
    if state == "setting":
        return "seen" if rows and rows[0].told else "not seen"
    if state == "transaction":
        return "seen" if {row.model for row in rows} >= {"base", "opened"} else "not seen"
    if state == "wrapper":
        return "seen" if Now.heard else "not seen"
    return "seen" if rows else "not seen"


def ask() -> None:
    """In sync code."""
    Now.heard = []
    try:
        Now.outcome = _found(list(_rows()))
        if Now.cell.state == "transaction":
            _write("asked")
    except Exception as err:
        Now.outcome = type(err).__name__


async def ask_here() -> None:
    """In async code, by the native calls."""
    from django.contrib.contenttypes.models import ContentType

    Now.heard = []
    try:
        Now.outcome = _found([row async for row in _rows()])
        if Now.cell.state == "transaction":
            await ContentType.objects.acreate(app_label="cell", model="asked")
    except Exception as err:
        Now.outcome = type(err).__name__


async def ask_by(door: str) -> None:
    """In async code, by asdb's doors: ``session``, ``verbs``, ``atomic``."""
    from django.contrib.contenttypes.models import ContentType
    from sqlalchemy import insert, select, text

    from django_bridge import atomic, database, mapped, session

    kind = mapped(ContentType)
    told = text(f"SELECT {_told()}")
    models = select(kind.model).where(kind.app_label == "cell")
    Now.heard = []

    async def look(one: Any, many: Any) -> None:
        state = Now.cell.state
        if state == "setting":
            Now.outcome = "seen" if await one(told) else "not seen"
        else:
            names = set(await many(models))
            Now.outcome = (
                "seen" if names >= ({"base", "opened"} if state == "transaction" else {"base"}) else "not seen"
            )

    try:
        if door == "verbs":
            place = database()

            async def many(statement: Any) -> Any:
                return [name for (name,) in await place.fetch_all(statement)]

            await look(place.fetch_val, many)
            return
        async with session() if door == "session" else atomic() as db:

            async def several(statement: Any) -> Any:
                return (await db.scalars(statement)).all()

            await look(db.scalar, several)
            if Now.cell.state == "transaction":
                await db.execute(insert(kind).values(app_label="cell", model="asked"))
                if door == "session":
                    await db.commit()
    except Exception as err:
        Now.outcome = type(err).__name__


# -- the places ------------------------------------------------------------------------------------------------------


def _asked_in_async_view() -> dict[str, Callable[[], Awaitable[None]]]:
    from asgiref.sync import sync_to_async

    return {
        "async_view": ask_here,
        "thread": sync_to_async(ask),
        "child_task": lambda: asyncio.ensure_future(ask_here()),
        "session": lambda: ask_by("session"),
        "verbs": lambda: ask_by("verbs"),
        "atomic": lambda: ask_by("atomic"),
    }


def _ask_in_sync_view(asker: str) -> None:
    from asgiref.sync import async_to_sync, sync_to_async

    if asker == "sync_view":
        ask()
    elif asker == "async_to_sync":
        async_to_sync(ask_here)()
    elif asker == "thread_beneath":
        async_to_sync(sync_to_async(ask))()
    elif asker in {"session_beneath", "atomic_beneath"}:
        async_to_sync(ask_by)(asker.removesuffix("_beneath"))


def sync_view(request: Any) -> Any:
    from django.http import HttpResponse, StreamingHttpResponse

    cell = Now.cell

    def body() -> Iterator[bytes]:
        ask()
        yield b"body"

    if cell.opener != "sync_view":
        _ask_in_sync_view(cell.asker)
        return HttpResponse("view")
    with opened():
        _ask_in_sync_view(cell.asker)
    return StreamingHttpResponse(body()) if cell.asker == "sync_body" else HttpResponse("view")


async def async_view(request: Any) -> Any:
    from asgiref.sync import sync_to_async
    from django.http import HttpResponse, StreamingHttpResponse

    cell = Now.cell

    def body() -> Iterator[bytes]:
        ask()
        yield b"body"

    async def async_body() -> AsyncIterator[bytes]:
        await ask_here()
        yield b"body"

    asked = _asked_in_async_view().get(cell.asker)
    if cell.opener == "async_view":
        async with opened_here():
            if asked is not None:
                await asked()
    else:
        if OPENS and cell.opener == "thread" and cell.state == "setting":
            await sync_to_async(_set)()
        if asked is not None:
            await asked()
    if cell.asker == "sync_body":
        return StreamingHttpResponse(body())
    return StreamingHttpResponse(async_body()) if cell.asker == "async_body" else HttpResponse("view")


def sync_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def middleware(request: Any) -> Any:
        with opened():
            return get_response(request)

    return middleware


def async_middleware(get_response: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    async def middleware(request: Any) -> Any:
        async with opened_here():
            return await get_response(request)

    return middleware


# -- the requests ----------------------------------------------------------------------------------------------------


async def send(application: Any, path: str) -> None:
    """One GET, whose body is read to its end."""
    done = asyncio.Event()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await done.wait()
        return {"type": "http.disconnect"}

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            done.set()

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": [(b"host", b"testserver")], "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
             "server": ("testserver", 80), "asgi": {"version": "3.0"}}  # fmt: skip
    async with asyncio.timeout(20):
        await application(scope, receive, sent)


async def every_cell() -> dict[str, str]:
    from asgiref.sync import sync_to_async
    from django.contrib.contenttypes.models import ContentType
    from django.core.asgi import get_asgi_application
    from django.db import close_old_connections, connection
    from django.test import override_settings

    scope_middleware = ["django_bridge.middleware.ScopeMiddleware"] if BRIDGED else []
    applications = {}
    for middleware in ("", "sync_middleware", "async_middleware"):
        own = [f"tests.sharing.project.{middleware}"] if middleware else []
        with override_settings(MIDDLEWARE=scope_middleware + own):
            applications[middleware] = get_asgi_application()

    def prepare() -> None:
        ContentType.objects.filter(app_label="cell").delete()
        _write("base")
        close_old_connections()

    def left() -> str:
        try:
            kept = ContentType.objects.filter(app_label="cell", model="asked").exists()
            return ", kept" if kept else ", rolled back"
        finally:
            connection.close()

    outcomes = {}
    for cell in cells():
        if not BRIDGED and cell.asker in _OF_OURS:
            continue
        await sync_to_async(prepare, thread_sensitive=False)()
        Now.cell, Now.outcome = cell, "not asked"
        kind = _OF_A_VIEW.get(cell.asker, "async")
        if cell.asker == "sync_body" and cell.opener == "async_view":
            kind = "async"
        middleware = cell.opener if cell.opener.endswith("middleware") else ""
        await send(applications[middleware], f"/{kind}/")
        if OPENS and cell.state == "transaction" and Now.outcome == "seen":
            Now.outcome += await sync_to_async(left, thread_sensitive=False)()
        outcomes[str(cell)] = Now.outcome
    return outcomes


def main() -> None:
    from django.core.management import call_command
    from django.db import connections
    from django.urls import path
    from django.utils.decorators import async_only_middleware, sync_only_middleware

    import tests.sharing.project as here

    for name, value in list(globals().items()):  # the module by the name that the settings know
        if not name.startswith("__"):
            setattr(here, name, value)
    here.urlpatterns = [path("sync/", sync_view), path("async/", async_view)]
    sync_only_middleware(sync_middleware)
    async_only_middleware(async_middleware)
    call_command("migrate", verbosity=0)
    connections.close_all()
    outcomes = asyncio.run(every_cell())
    print(json.dumps(outcomes))
    if BRIDGED:
        from django_bridge import threads

        assert threads.close_pools(wait=5.0), "a thread has kept a connection"
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
