"""The lifespan: settings checked, servers knocked at, pools closed."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Self

import pytest
from sqlalchemy import literal, select

from asyncdb import registry
from django_bridge import asgi, database

NOBODY = {"HOST": "127.0.0.1", "PORT": 1, "USER": "app", "PASSWORD": "corr3ct-h0rse"}


class Server:
    """The server's side of a lifespan: it says startup, later shutdown, and notes the answers."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.to_say: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.task = asyncio.create_task(self.application(scope, self.to_say.get, self.heard.put))
        return self

    async def __aexit__(self, *_: object) -> None:
        async with asyncio.timeout(10):
            await self.task

    async def say(self, what: str) -> dict[str, Any]:
        await self.to_say.put({"type": f"lifespan.{what}"})
        async with asyncio.timeout(10):
            return await self.heard.get()


@pytest.fixture
def application() -> Any:
    return asgi.get_asgi_application()


@pytest.fixture
def sqlite(default: Any, tmp_path: Any) -> None:
    default("sqlite", NAME=tmp_path / "a")


async def test_a_lifespan_starts_serves_and_closes(application: Any, sqlite: None) -> None:
    async with Server(application) as server:
        assert await server.say("startup") == {"type": "lifespan.startup.complete"}
        kept = database()
        assert await kept.fetch_val(select(literal(1))) == 1
        assert await server.say("shutdown") == {"type": "lifespan.shutdown.complete"}
    assert kept.closed
    assert registry.databases() == []


async def test_wrong_settings_fail_the_startup_with_every_complaint(application: Any, project: Any) -> None:
    engine = "django.db.backends.mysql"
    project(
        DATABASES={
            "default": {"ENGINE": engine, "NAME": "a", "OPTIONS": {"compress": True}},
            "other": {"ENGINE": engine, "NAME": "b", "OPTIONS": {"charset": "gbk"}},
        }
    )
    async with Server(application) as server:
        answer = await server.say("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "compress" in answer["message"]
    assert "gbk" in answer["message"]
    assert registry.databases() == []


async def test_a_wrong_async_db_fails_the_startup(application: Any, sqlite: None, project: Any) -> None:
    project(ASYNC_DB={"defualt": {}})
    async with Server(application) as server:
        answer = await server.say("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "did you mean 'default'" in answer["message"]


@pytest.mark.parametrize("backend", ["mysql", "postgresql"])
async def test_an_unreachable_server_is_one_warning_and_a_lazy_start(
    backend: str, application: Any, default: Any, caplog: pytest.LogCaptureFixture
) -> None:
    default(backend, **NOBODY)
    async with Server(application) as server:
        assert (await server.say("startup"))["type"] == "lifespan.startup.complete"
        await server.say("shutdown")
    # stamina, which tries again while a server may be back in a moment, says each of its attempts by itself.
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "stamina"]
    assert [record.name for record in warned] == ["django_bridge.asgi"]
    assert "'default'" in caplog.text
    assert NOBODY["PASSWORD"] not in caplog.text


@pytest.mark.parametrize("backend", ["mysql", "postgresql"])
async def test_an_unreachable_server_that_is_required_fails_the_startup(
    backend: str, application: Any, default: Any
) -> None:
    default(backend, async_db={"require_at_startup": True}, **NOBODY)
    async with Server(application) as server:
        answer = await server.say("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "require_at_startup" in answer["message"]
    assert "'default'" in answer["message"]
    assert str(NOBODY["PASSWORD"]) not in answer["message"]


async def test_a_wrapper_that_cannot_ask_its_vault_is_a_warning(
    application: Any, default: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def vault_is_away(self: Any) -> dict[str, Any]:
        raise ConnectionError("corr3ct-h0rse")

    monkeypatch.setattr("django.db.backends.mysql.base.DatabaseWrapper.get_connection_params", vault_is_away)
    default("mysql", HOST="db")
    async with Server(application) as server:
        assert (await server.say("startup"))["type"] == "lifespan.startup.complete"
        await server.say("shutdown")
    assert "ConnectionError in its wrapper" in caplog.text
    assert "corr3ct-h0rse" not in caplog.text


async def test_a_server_that_says_nothing_delays_the_startup_by_its_bound_alone(
    application: Any, default: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(asgi, "STARTUP_TIMEOUT", 0.2)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    left = asyncio.Event()
    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    try:
        port = silent.sockets[0].getsockname()[1]
        default("mysql", **{**NOBODY, "PORT": port})
        async with Server(application) as server:
            assert (await server.say("startup"))["type"] == "lifespan.startup.complete"
            await server.say("shutdown")
            async with asyncio.timeout(5):
                await left.wait()
    finally:
        silent.close()
        await silent.wait_closed()
    assert "0.2 s" in caplog.text


async def test_a_shutdown_cuts_what_does_not_end(
    application: Any, sqlite: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(asgi, "SHUTDOWN_TIMEOUT", 0.7)
    async with Server(application) as server:
        await server.say("startup")
        async with database().session() as db:
            await db.fetch_val(select(literal(1)))
            assert database().stats().checked_out == 1
            assert await server.say("shutdown") == {"type": "lifespan.shutdown.complete"}
    assert "1 connections were still in use" in caplog.text


async def test_lifespan_never_reaches_django_and_requests_do(sqlite: None) -> None:
    seen: list[str] = []

    async def django(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    application = asgi._WithLifespan(django)
    async with Server(application) as server:
        await server.say("startup")
        await server.say("shutdown")
    await application({"type": "http"}, None, None)  # type: ignore[arg-type]  # the fake above uses neither
    assert seen == ["http"]


def test_without_a_lifespan_the_loop_closes_the_pools(sqlite: None) -> None:
    async def serve() -> Any:
        await database().fetch_val(select(literal(1)))
        return database()

    assert asyncio.run(serve()).closed
    assert registry.databases() == []
