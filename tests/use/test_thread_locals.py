"""``threading.local``: native code of one request sees in it what its request's thread would see, and nothing else.

Without servers what stands for such an object; on each family code that keeps the user of a request in one, named in
the settings and not; and the packages of the list in a project of their own, stock beside bridged (``thread_locals/``).
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import json
import logging
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.core.checks import CheckMessage, run_checks
from django.core.handlers.asgi import ASGIHandler
from django.db import transaction
from django.db.models.signals import post_save, pre_save

from asyncdb.drivers.residue import residue
from django_bridge import run_django, scope, set_apart, thread_locals, unsettled
from django_bridge.flowing import Flowing, beneath_a_plain_thread, flowing, why_not
from django_bridge.scopes import entered

HERE = Path(__file__).resolve().parent
REQUESTS = 32
ROWS = 3

# -- what stands for the object --------------------------------------------------------------------------------------


class _Stack(threading.local):
    """As packages have it: attributes of the class, ``__init__`` with arguments, methods, properties, ``super()``."""

    kind = "stack"

    def __init__(self, first: str, *, size: int = 1) -> None:
        super().__init__()
        self.items = [first] * size

    @property
    def top(self) -> str:
        return self.items[-1]

    @top.setter
    def top(self, value: str) -> None:
        self.items = [*self.items[:-1], value]

    def push(self, value: str) -> None:
        self.items.append(value)


class _Deeper(_Stack):
    def push(self, value: str) -> None:
        super().push(value.upper())

    def __getattr__(self, name: str) -> str:
        return f"no {name}"


class _Counting(threading.local):
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value * 2)


async def in_a_request(function: Callable[..., Any], *args: Any) -> Any:
    """As Django's handler opens one."""
    async with ThreadSensitiveContext():
        return await function(*args)


def in_a_plain_thread(function: Callable[..., Any], *args: Any) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(contextvars.Context().run, function, *args).result(20)


async def test_a_class_of_its_own_keeps_methods_and_begins_anew_in_each_request() -> None:
    stack: Any = flowing(_Deeper("a", size=2))

    async def request(name: str) -> Any:
        before = list(stack.items)
        stack.push(name)
        await sync_to_async(stack.push)(name)
        stack.top = f"{stack.top}!"
        return before, stack.items, stack.kind, stack.missing, isinstance(stack, _Stack), "items" in vars(stack)

    found = await asyncio.gather(*(in_a_request(request, name) for name in "xy"))
    assert found == [(["a", "a"], ["a", "a", n, f"{n}!"], "stack", "no missing", True, True) for n in "XY"]


async def test_what_a_class_makes_of_setting_an_attribute_holds() -> None:
    counting: Any = flowing(_Counting())
    counting.number = 2
    assert counting.number == 4
    del counting.number
    assert not hasattr(counting, "number")
    with pytest.raises(AttributeError):
        del counting.number


async def test_attributes_flow_into_threads_and_back_and_into_child_tasks_but_not_out_of_them() -> None:
    local: Any = flowing(threading.local())

    def in_the_thread() -> str:
        seen = local.user
        local.user = "thread's"
        async_to_sync(on_the_loop)()
        return f"{seen}, {local.user}"

    async def on_the_loop() -> None:
        local.user += ", then the loop's"

    async def child(name: str) -> str:
        seen = local.user
        local.user = name
        await asyncio.sleep(0)
        return f"{seen} {local.user}"

    async def request() -> Any:
        local.user = "loop's"
        seen = await sync_to_async(in_the_thread)()
        children = await asyncio.gather(*map(child, "ab"))
        return seen, local.user, children

    last = "thread's, then the loop's"
    assert await in_a_request(request) == (f"loop's, {last}", last, [f"{last} a", f"{last} b"])
    assert vars(local) == {}


async def test_a_request_sees_nothing_of_what_was_set_outside_of_it() -> None:
    old = threading.local()
    old.stack = in_the_main_thread = ["import"]
    local: Any = flowing(old)
    assert not hasattr(local, "stack")  # a loop runs in the main thread: an import's value is not a request's
    local.stack = ["server"]

    async def request() -> Any:
        return getattr(local, "stack", None), await sync_to_async(getattr)(local, "stack", None)

    assert await in_a_request(request) == (None, None)
    assert local.stack == ["server"]
    assert old.stack is in_the_main_thread


def test_plain_threads_and_what_waits_beneath_them_have_the_original_object() -> None:
    old = threading.local()
    local: Any = flowing(old)
    local.user = "command"

    async def beneath() -> Any:
        def in_the_caller() -> str:
            seen: str = local.user
            local.user = f"{seen}'s"
            return seen

        return await sync_to_async(in_the_caller)()

    with beneath_a_plain_thread():
        assert async_to_sync(beneath)() == "command"
    assert old.user == local.user == "command's"
    assert not in_a_plain_thread(hasattr, local, "user")
    contextvars.Context().run(setattr, local, "user", "another context, the same thread")
    assert local.user == "another context, the same thread"


async def test_a_thread_of_its_own_begins_with_nothing_even_where_it_inherits_the_context() -> None:
    local: Any = flowing(threading.local())

    async def request() -> Any:
        local.user = "me"
        context = contextvars.copy_context()  # as Python 3.14 does with thread_inherit_context
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(context.run, getattr, local, "user", None).result(20)

    assert await in_a_request(request) is None


async def test_child_tasks_share_what_is_listed_as_shared() -> None:
    local: Any = flowing(threading.local(), shared=("number",))

    async def child() -> int:
        local.number += 1
        await asyncio.sleep(0)
        return local.number

    async def request() -> Any:
        local.number = 0
        await asyncio.gather(*(child() for _ in range(3)))
        return local.number

    assert await asyncio.gather(*(in_a_request(request) for _ in range(3))) == [3, 3, 3]


async def test_what_is_listed_for_a_scope_is_no_child_tasks() -> None:
    class Blocks(threading.local):
        @property
        def open(self) -> list[str]:
            if not hasattr(self, "_open"):
                self._open: list[str] = []
            return self._open

    local: Any = flowing(Blocks(), per_scope=("_open",))

    async def child(name: str) -> list[str]:
        async with scope():
            local.open.append(name)
            await asyncio.sleep(0)
            return list(local.open)

    async def request() -> Any:
        async with scope() as place:
            local.open.append("parent's")
            with entered(place):
                found = await asyncio.gather(*map(child, "ab"))
            return found, local.open

    assert await in_a_request(request) == ([["a"], ["b"]], ["parent's"])


def test_what_cannot_flow_is_told_with_its_reason() -> None:
    class Slots(threading.local):
        __slots__ = ("handle",)

    class Own(threading.local):
        def __getattribute__(self, name: str) -> Any:
            return super().__getattribute__(name)

    assert why_not(threading.local()) is None
    assert why_not(_Deeper("a")) is None
    assert "__slots__" in str(why_not(Slots()))
    assert "__getattribute__" in str(why_not(Own()))


@pytest.mark.parametrize("interval", [0.005, 1e-6])
async def test_many_requests_at_once_see_their_own(interval: float) -> None:
    local: Any = flowing(_Stack("a"))
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)

    def push(name: str) -> None:
        for _ in range(20):
            local.push(name)

    async def request(name: str) -> set[str]:
        for _ in range(3):
            await sync_to_async(push)(name)
            push(name)
            await asyncio.sleep(0)
        return {item for item in local.items if item not in ("a", name)}

    try:
        found = await asyncio.gather(*(in_a_request(request, f"u{n}") for n in range(REQUESTS)))
    finally:
        sys.setswitchinterval(before)
    assert found == [set()] * REQUESTS


# -- a project's own module ------------------------------------------------------------------------------------------

SOURCE = """
import threading
from contextlib import contextmanager
from django.db import models, transaction
from django.http import JsonResponse
from django.urls import path

_state = threading.local()
threads = []
Row = None


@contextmanager
def context(user):
    before = getattr(_state, "user", None)
    _state.user = user
    try:
        yield
    finally:
        _state.user = before


def current():
    return getattr(_state, "user", None)


def service(user, rows):
    with context(user), transaction.atomic():
        for _ in range(rows):
            Row.objects.create(text=f"{user} {_state.user}")
    return current()


def remember(get_response):
    def middleware(request):
        _state.user = request.headers["X-User"]
        try:
            return get_response(request)
        finally:
            del _state.user
    return middleware


async def view(request):
    for _ in range(3):
        await Row.objects.acreate(text=request.headers["X-User"])
    return JsonResponse({})


class Kept(models.Manager):
    def get_queryset(self):
        threads.append(threading.get_ident())
        return super().get_queryset().filter(text=current())


urlpatterns = [path("", view)]
"""
RECEIVERS = """
import threading

threads = []


def mark(sender, instance, **kwargs):
    from remembered_middleware import current
    threads.append(threading.get_ident())
    instance.text = f"{instance.text} {current()}"


def log(sender, instance, created, **kwargs):
    from remembered_middleware import current
    if instance.number == 0:
        sender.objects.create(number=1, text=f"{instance.text} {current()}")
"""


class Remembered:
    """A project's modules: a middleware that keeps the user, and receivers that ask it by an import in a function."""

    middleware: Any
    receivers: Any


@pytest.fixture
def remembered(tmp_path: Path, project: Callable[..., None]) -> Iterator[Callable[..., Remembered]]:
    """``remembered(ASYNC_DB_THREAD_LOCALS=…)``: the modules are imported, and looked at as the process's start does."""
    tmp_path.joinpath("remembered_middleware.py").write_text(SOURCE)
    tmp_path.joinpath("remembered_receivers.py").write_text(RECEIVERS)
    names = ("remembered_middleware", "remembered_receivers")

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: Any) -> Any:
            return spec_from_file_location(name, tmp_path / f"{name}.py") if name in names else None

    sys.meta_path.append(Finder)

    def use(*, late: bool = False, **settings: Any) -> Remembered:
        made = Remembered()
        project(
            MIDDLEWARE=["django_bridge.middleware.ScopeMiddleware", "remembered_middleware.remember"],
            ROOT_URLCONF="remembered_middleware",
            ALLOWED_HOSTS=["*"],
            **settings,
        )
        if late:
            again()
        made.middleware, made.receivers = map(importlib.import_module, names)
        if not late:
            again()
        return made

    def again() -> None:
        set_apart.uninstall()
        set_apart.install()

    try:
        yield use
    finally:
        set_apart.uninstall()
        sys.meta_path.remove(Finder)
        for name in names:
            sys.modules.pop(name, None)
        set_apart.install()


NAMED = {"ASYNC_DB_THREAD_LOCALS": ["remembered_middleware._state"]}
HOW = pytest.mark.parametrize("named", [NAMED, {}], ids=["named", "unsettled"])


@HOW
async def test_no_row_is_marked_with_another_tasks_user(
    named: dict[str, Any], shop: Any, remembered: Callable[..., Remembered]
) -> None:
    """The case that was found: a context manager around a block, in tasks that run at once."""
    module = remembered(**named).middleware
    module.Row = shop.models.Row
    await shop.create(module.Row)

    async def task(user: str) -> Any:
        async with scope():
            return await run_django(module.service, user, 5)

    left = await asyncio.gather(*(task(f"u{n}") for n in range(8)))
    rows = [row.text.split() async for row in module.Row.objects.all()]
    assert len(rows) == 40
    assert [row for row in rows if row[0] != row[1]] == []
    assert left == [None] * 8
    assert not hasattr(module._state, "user") or module._state.user is None


@HOW
@pytest.mark.parametrize("receiver", ["mark", "log"])
async def test_native_calls_see_what_a_sync_middleware_has_set(
    named: dict[str, Any], receiver: str, shop: Any, remembered: Callable[..., Remembered]
) -> None:
    made = remembered(**named)
    Row = made.middleware.Row = shop.models.Row  # noqa: N806
    await shop.create(Row)
    signal = pre_save if receiver == "mark" else post_save
    signal.connect(getattr(made.receivers, receiver), sender=Row)
    try:
        handler = ASGIHandler()
        statuses = await asyncio.gather(*(_asked(handler, f"u{n}") for n in range(REQUESTS)))
    finally:
        signal.disconnect(getattr(made.receivers, receiver), sender=Row)
    assert statuses == [200] * REQUESTS
    rows = [row.text.split() async for row in Row.objects.filter(number=0 if receiver == "mark" else 1)]
    assert sorted(rows) == sorted([f"u{n}", f"u{n}"] for n in range(REQUESTS) for _ in range(3))


async def _asked(handler: Any, user: str) -> int:
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/"}
    scope |= {"query_string": b"", "headers": [(b"host", b"here"), (b"x-user", user.encode())]}
    await handler(scope, receive, send)
    status: int = sent[0]["status"]
    return status


async def test_a_receiver_of_an_unsettled_module_runs_in_the_requests_thread_in_the_transaction(
    shop: Any, remembered: Callable[..., Remembered]
) -> None:
    made = remembered()
    Row = shop.models.Row  # noqa: N806
    await shop.create(Row)
    post_save.connect(made.receivers.log, sender=Row)
    pre_save.connect(made.receivers.mark, sender=Row)

    def both(*, fail: bool) -> list[int]:
        here = threading.get_ident()
        try:
            with transaction.atomic():
                Row.objects.create(text="block")
                if fail:
                    raise LookupError
        except LookupError:
            pass
        return [here, Row.objects.count()]

    async def request() -> Any:
        async with scope():
            await sync_to_async(made.middleware._state.__setattr__)("user", "me")
            thread = await sync_to_async(threading.get_ident)()
            return thread, await run_django(both, fail=True), await run_django(both, fail=False)

    try:
        thread, failed, done = await in_a_request(request)
    finally:
        post_save.disconnect(made.receivers.log, sender=Row)
        pre_save.disconnect(made.receivers.mark, sender=Row)
    here = threading.get_ident()
    assert failed == [here, 0]
    assert done == [here, 2]
    assert set(made.receivers.threads) == {thread} != {here}
    assert sorted([row.text async for row in Row.objects.all()]) == ["block me", "block me me me"]


async def test_the_manager_of_an_unsettled_module_filters_in_native_code_as_in_the_requests_thread(
    shop: Any, remembered: Callable[..., Remembered], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = remembered()
    Row = shop.models.Row  # noqa: N806
    await shop.create(Row)
    manager = made.middleware.Kept()
    manager.name, manager.model, manager.auto_created = "kept", Row, False
    monkeypatch.setitem(vars(Row._meta), "managers", (*Row._meta.managers, manager))
    set_apart.uninstall()
    set_apart.install()
    for name in ("me", "me", "you"):
        await Row.objects.acreate(text=name)

    def count() -> tuple[int, int]:
        return threading.get_ident(), sum(1 for _ in manager.all())

    async def request() -> Any:
        async with scope():
            await sync_to_async(made.middleware._state.__setattr__)("user", "me")
            thread = await sync_to_async(threading.get_ident)()
            # Not of the module: a function that is handed its manager.
            apart = types.FunctionType(
                count.__code__, {**globals(), "__name__": "elsewhere"}, None, None, count.__closure__
            )
            apart.__module__ = "elsewhere"
            return thread, await run_django(apart)

    thread, (ran_in, number) = await in_a_request(request)
    assert ran_in == threading.get_ident()
    assert number == 2
    assert set(made.middleware.threads) == {thread}
    set_apart.uninstall()
    assert not hasattr(made.middleware.Kept.get_queryset, "__wrapped__")


# -- what is replaced, and what is said of the others ----------------------------------------------------------------


def ours() -> list[CheckMessage]:
    found = [message for message in run_checks() if message.id in ("django_bridge.W006", "django_bridge.W007")]
    assert not any(message.is_serious() for message in found)
    return found


@pytest.mark.parametrize("late", [False, True])
def test_a_named_object_is_replaced_whenever_its_module_is_imported(
    late: bool, remembered: Callable[..., Remembered]
) -> None:
    module = remembered(late=late, **NAMED).middleware
    assert isinstance(module._state, Flowing)
    assert ours() == []
    set_apart.uninstall()
    assert type(module._state) is threading.local


def test_all_names_of_an_object_are_replaced_and_given_back(remembered: Callable[..., Remembered]) -> None:
    made = remembered()
    state = made.middleware._state
    made.receivers.other_name = state
    assert remembered(**NAMED).receivers.other_name is made.middleware._state is not state
    set_apart.uninstall()
    assert made.receivers.other_name is made.middleware._state is state


def test_the_check_names_each_that_is_neither_named_nor_harmless(remembered: Callable[..., Remembered]) -> None:
    remembered()
    (message,) = ours()
    assert message.id == "django_bridge.W006"
    assert message.msg.startswith("remembered_middleware._state is a threading.local")
    assert "ASYNC_DB_THREAD_LOCALS = ['remembered_middleware._state']" in str(message.hint)


def test_nothing_is_said_of_one_that_stays_with_its_thread_by_the_projects_word(
    remembered: Callable[..., Remembered],
) -> None:
    module = remembered(ASYNC_DB_THREAD_LOCALS={"remembered_middleware._state": "thread"}).middleware
    assert type(module._state) is threading.local
    assert ours() == []
    assert not unsettled.is_of_unsettled("remembered_receivers")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("remembered_middleware._state", "must be a list"),
        (["_state"], "no dotted path"),
        ({"remembered_middleware._state": "request"}, "'context', 'thread'"),
        (["remembered_middleware._missing"], "there is no threading.local of that name"),
        (["remembered_middleware.current"], "there is no threading.local of that name"),
        (["no_such_module._state"], "there is no threading.local of that name"),
    ],
)
def test_a_wrong_setting_is_a_warning(said: Any, words: str, remembered: Callable[..., Remembered]) -> None:
    remembered(ASYNC_DB_THREAD_LOCALS=said)
    assert [words in message.msg for message in ours() if message.id == "django_bridge.W007"] == [True]


@pytest.mark.parametrize("before", [(1,), (9999,)])
def test_a_release_that_was_not_tried_is_left_alone_and_named(
    before: tuple[int, ...], remembered: Callable[..., Remembered], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = thread_locals.Known("django", "remembered_middleware", "_state", (0,), before, "this one")
    monkeypatch.setattr(thread_locals, "KNOWN", (known,))
    tried = before == (9999,)
    assert isinstance(remembered().middleware._state, Flowing) is tried
    said = [message.msg for message in ours()]
    assert said == [] if tried else "was not tried, only 0 to below 1" in said[0]


def test_one_of_a_class_or_an_instance_is_found_and_replaced_by_its_path(
    remembered: Callable[..., Remembered],
) -> None:
    made = remembered(ASYNC_DB_THREAD_LOCALS={"remembered_middleware._state": "thread"})
    exec(
        "import threading\nclass Tracker:\n    shared = threading.local()\n"
        "    def __init__(self):\n        self.own = threading.local()\ntracker = Tracker()\n",
        vars(made.receivers),
    )
    set_apart.uninstall()
    set_apart.install()
    paths = {f"remembered_receivers.{name}" for name in ("Tracker.shared", "tracker.own")}
    assert set(unsettled.unsettled()) >= paths or unsettled.is_of_unsettled("remembered_receivers")
    remembered(ASYNC_DB_THREAD_LOCALS=[*paths])
    assert isinstance(made.receivers.Tracker.shared, Flowing)
    assert isinstance(made.receivers.tracker.own, Flowing)


def test_the_start_of_the_application_says_it_too(
    remembered: Callable[..., Remembered], caplog: pytest.LogCaptureFixture
) -> None:
    from django_bridge.asgi import get_asgi_application

    remembered()
    with caplog.at_level(logging.WARNING, "django_bridge.asgi"):
        get_asgi_application()
    assert ["remembered_middleware._state" in record.getMessage() for record in caplog.records] == [True]


def test_handles_of_djangos_own_are_known_and_never_replaced() -> None:
    assert {path.rpartition(".")[0] for path in thread_locals.HARMLESS} >= {
        "django.contrib.gis.geos.prototypes.io",
        "django.contrib.gis.geos.prototypes.threadsafe",
    }
    for path in thread_locals.HARMLESS:
        module, _, name = path.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except Exception:  # no libgeos here
            continue
        assert isinstance(found, threading.local)
        assert not isinstance(found, Flowing)


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("SELECT set_config('a', %s, true), set_config('b', %s, true); INSERT INTO t (a) VALUES (%s)", False),
        ("SELECT set_config('a', %s, true); SAVEPOINT s", False),
        ("SELECT set_config('a', %s, true); ROLLBACK TO SAVEPOINT s", False),
        ("SELECT set_config('a', %s, false); INSERT INTO t (a) VALUES (%s)", True),
        ("SELECT set_config('a', %s, true); SET x = 1", True),
        ("SELECT 1; BEGIN", True),
        ("SELECT 1; ROLLBACK", True),
    ],
)
def test_what_a_package_puts_before_a_statement_keeps_no_connection(statement: str, left: bool) -> None:
    assert residue(statement).left is left


# -- packages, stock beside bridged ----------------------------------------------------------------------------------


def _run(url: str, packages: str, paths: list[str], **environment: str) -> subprocess.Popen[str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("COVERAGE", "DJANGO", "PYTEST", "PYTHONDEVMODE"))}
    project = HERE / "thread_locals"
    path = os.pathsep.join([str(project), str(HERE.parents[1])])
    told = {"NOTED_PACKAGES": packages, "NOTED_DATABASE_URL": url, "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, str(project / "run.py"), *paths],
        cwd=project,
        env={**kept, **told, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _result(process: subprocess.Popen[str]) -> Any:
    try:
        output, errors = process.communicate(timeout=110)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-6000:]
    return json.loads(output)


@pytest.fixture
def beside(family: str, server_url: str, server: Any, tmp_path: Path) -> Iterator[Callable[..., tuple[Any, Any]]]:
    """Runs the requests with the bridge and, at the same time, without it on a second database."""
    other = f"{server_url}_stock"
    if server is not None:
        server.create_database(other.rpartition("/")[2])

    def run(packages: str, paths: str, **environment: str) -> tuple[Any, Any]:
        bridged = _run(server_url, packages, paths.split(), NOTED_BRIDGED="1", **environment)
        stock = _run(other, packages, paths.split(), NOTED_BRIDGED="0")
        try:
            return _result(stock), _result(bridged)
        finally:
            for process in (stock, bridged):
                process.kill()
                process.wait()

    try:
        yield run
    finally:
        if server is not None:
            server.drop_database(other.rpartition("/")[2])


def _same(stock: Any, bridged: Any, replaced: set[str]) -> None:
    assert set(bridged["answers"].pop("replaced")) >= replaced
    assert bridged["answers"].pop("left") == {}
    for part in ("answers", "rows"):
        for name, expected in stock[part].items():
            assert bridged[part][name] == expected, f"{part}: {name}"


def _of_their_own_user(rows: Any) -> bool:
    return all(row[0].partition("-")[0] == seen.partition("-")[0] for row in rows for seen in row[1:])


@pytest.mark.verify("mariadb", "mysql", "sqlite")
def test_crum_and_multitenant_and_pghistory_do_as_on_stock(family: str, beside: Callable[..., tuple[Any, Any]]) -> None:
    replaced = {"crum._thread_locals", "django_multitenant.utils._thread_locals"}
    packages, paths = "crum,multitenant", "written impersonated tenants"
    if family == "postgresql":
        replaced |= {"pghistory.runtime._tracker", "pgtrigger.runtime._ignore", "pgtrigger.runtime._schema"}
        packages, paths = f"{packages},pghistory", f"{paths} history"
    stock, bridged = beside(packages, paths)
    assert len(bridged["rows"]["products"]) == REQUESTS * 10
    assert _of_their_own_user(bridged["rows"]["notes"])
    assert _of_their_own_user(bridged["rows"]["products"])
    _same(stock, bridged, replaced)


@pytest.mark.verify
def test_cachalot_keeps_nothing_of_a_block_that_was_rolled_back(beside: Callable[..., tuple[Any, Any]]) -> None:
    _same(*beside("cachalot", "cached"), {"cachalot.cache.cachalot_caches"})


@pytest.mark.verify
def test_silk_records_the_queries_of_each_request_with_it(beside: Callable[..., tuple[Any, Any]]) -> None:
    stock, bridged = beside("silk", "recorded")
    assert len(bridged["rows"]["recorded"]) == REQUESTS
    _same(stock, bridged, {"silk.collector.DataCollector.instance.local"})


@pytest.mark.verify
@pytest.mark.parametrize("how", ["named", "unsettled"])
def test_a_projects_own_object_does_as_on_stock(how: str, beside: Callable[..., tuple[Any, Any]]) -> None:
    stock, bridged = beside("own", "written", NOTED_OWN=how)
    assert _of_their_own_user([[name, seen] for name, _, seen in bridged["rows"]["notes"]])
    _same(stock, bridged, {"noted.own._state"} if how == "named" else set())
