"""A project's own wrapper: what it keeps on itself is met by nobody else, and its hooks run as on stock."""

from __future__ import annotations

import asyncio
import importlib
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, ProgrammingError, connection, transaction
from django.utils.functional import cached_property
from sqlalchemy import text

from asyncdb.errors import ConnectFailed
from django_bridge import atomic, database, run_django, scope
from django_bridge.errors import ScopeOwnedByTask
from tests.bridge.conftest import ENGINES

SETTING = {
    "mysql": ("SET SESSION max_sort_length = {}", "SELECT @@max_sort_length"),
    "postgresql": ("SET app.tenant = '{}'", "SELECT ('0' || COALESCE(current_setting('app.tenant', true), ''))::int"),
    "sqlite": ("PRAGMA cache_size = {}", "PRAGMA cache_size"),
}


def kin(family: str) -> str:
    return "mysql" if family == "mariadb" else family


@pytest.fixture
def engine(family: str, shop: Any) -> Iterator[Callable[..., type[Any]]]:
    """``engine(Mixin)``: the database's wrapper is of a class made of ``Mixin`` and the family's own."""
    made = "tests_use_backend"

    base = importlib.import_module(f"{ENGINES[kin(family)]}.base").DatabaseWrapper

    def use(*mixins: type[Any], **options: Any) -> type[Any]:
        module = types.ModuleType(f"{made}.base")
        module.DatabaseWrapper = type("DatabaseWrapper", (*mixins, base), {"__module__": module.__name__})  # type: ignore[attr-defined]
        package = types.ModuleType(made)
        package.base = module  # type: ignore[attr-defined]
        sys.modules[made], sys.modules[module.__name__] = package, module
        shop.configure(ENGINE=made, **options)
        return module.DatabaseWrapper  # type: ignore[attr-defined,no-any-return]

    use.base = base  # type: ignore[attr-defined]
    try:
        yield use
    finally:
        sys.modules.pop(made, None)
        sys.modules.pop(f"{made}.base", None)


def ask(family: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(SETTING[kin(family)][1])
        return int(cursor.fetchone()[0])


def tenant_set(family: str, tenant: int) -> int:
    connection.tenant = tenant  # type: ignore[attr-defined]  # as a middleware does at the start of each request
    return ask(family)


class Remembering:
    """Sends a setting once for each connection, as tenant packages do."""

    tenant: int | None = None
    sent: int | None = None

    def close(self) -> None:
        self.sent = None
        super().close()  # type: ignore[misc]

    def _cursor(self, name: str | None = None) -> Any:
        cursor = super()._cursor(name)  # type: ignore[misc]
        if self.tenant is not None and self.sent != self.tenant:
            self.sent = self.tenant
            plain = self.connection.cursor() if name else cursor  # type: ignore[attr-defined]
            plain.execute(SETTING[self.vendor][0].format(self.tenant))  # type: ignore[attr-defined]
            if name:
                plain.close()
        return cursor


def in_a_task(function: Callable[..., Any], *args: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(function(*args))


# -- what a wrapper keeps on itself ----------------------------------------------------------------------------------


async def test_a_wrapper_that_remembers_its_tenant_has_it_in_each_request(engine: Any, family: str) -> None:
    engine(Remembering)

    async def by_scope() -> int:
        async with scope():
            return await run_django(tenant_set, family, 777)

    async def by_atomic() -> int:
        async with atomic():
            return await run_django(tenant_set, family, 777)

    async def by_itself() -> int:
        return await run_django(tenant_set, family, 777)

    for way in (by_scope, by_atomic, by_scope, by_itself):
        assert [await in_a_task(way) for _ in range(3)] == [777] * 3, way.__name__


async def test_a_request_without_a_tenant_meets_none_of_an_earlier_ones(engine: Any, family: str) -> None:
    engine(Remembering)
    untouched = await run_django(ask, family)

    async def one(tenant: int) -> tuple[int, int]:
        async with scope():
            return await run_django(tenant_set, family, tenant), await run_django(ask, family)

    for number in range(3):
        assert await asyncio.gather(*(one(100 + n) for n in range(number))) == [(100 + n,) * 2 for n in range(number)]
        assert await in_a_task(run_django, ask, family) == untouched

    def and_close() -> None:
        assert tenant_set(family, 777) == 777
        connection.close()

    for _ in range(2):
        await run_django(and_close)
        assert await run_django(ask, family) == untouched


@pytest.mark.families("sqlite")
async def test_what_was_put_on_djangos_own_wrapper_is_not_there_in_the_next_scope(shop: Any) -> None:
    def put() -> Any:
        connection.tenant = "a"  # type: ignore[attr-defined]
        connection.features.tenant = "a"  # type: ignore[attr-defined]
        return vars(connection)["_connections"]

    def found() -> list[bool]:
        return [hasattr(connection, "tenant"), hasattr(connection.features, "tenant")]

    for _ in range(3):
        assert await run_django(found) == [False, False]
        await run_django(put)
        async with scope():
            assert await run_django(found) == [False, False]
            await run_django(put)
            assert await run_django(found) == [True, True]


@pytest.mark.families("sqlite")
async def test_djangos_own_wrappers_are_used_again(shop: Any) -> None:
    def which() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return id(connection.features)

    assert len({await run_django(which) for _ in range(5)}) == 1


@pytest.mark.families("sqlite")
async def test_what_a_projects_cached_property_found_is_of_its_wrapper_alone(engine: Any) -> None:
    class Asks:
        asked = 0

        @cached_property
        def number(self) -> int:
            type(self).asked += 1
            return type(self).asked

    engine(Asks)

    def number() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return connection.number  # type: ignore[attr-defined]

    assert [await run_django(number) for _ in range(3)] == [1, 2, 3]


class Keeps:
    """Has in an object of its own what is true of the connection that is there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.state = types.SimpleNamespace(connection=None)

    def close(self) -> None:
        self.state.connection = None
        super().close()  # type: ignore[misc]

    def _cursor(self, name: str | None = None) -> Any:
        cursor = super()._cursor(name)  # type: ignore[misc]
        if self.state.connection is None:
            self.state.connection = physical()
        return cursor


def physical() -> Any:
    return connection.seat.taken()  # type: ignore[attr-defined]


def kept() -> tuple[Any, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return connection.state.connection, physical()  # type: ignore[attr-defined]


async def test_a_wrapper_that_keeps_something_of_its_connection_keeps_the_connection(engine: Any) -> None:
    engine(Keeps, async_db={"pool_size": 3})
    async with scope():
        first, _ = await run_django(kept)
        async with database().session() as other:  # it would get the one that was given back
            await other.execute(text("SELECT 1"))
            assert await run_django(kept) == (first, first)
        await run_django(connection.close)
        assert database().stats().checked_out == 0


@pytest.mark.families("mariadb", "mysql", "postgresql")
async def test_a_connection_that_was_lost_is_not_replaced_under_a_wrapper_that_remembers(
    engine: Any, family: str
) -> None:
    engine(Remembering)
    async with scope():
        assert await run_django(tenant_set, family, 777) == 777
        await run_django(lambda: physical().abort())
        for _ in range(2):
            with pytest.raises((OperationalError, InterfaceError, ProgrammingError)):
                await run_django(ask, family)
        await run_django(connection.close)
        assert await run_django(ask, family) == 777


async def test_a_child_task_does_not_read_without_the_tenant(engine: Any, family: str) -> None:
    engine(Remembering)
    async with scope():
        await run_django(lambda: setattr(connection, "tenant", 777))
        with pytest.raises(ScopeOwnedByTask):
            await in_a_task(run_django, ask, family)
        assert await run_django(ask, family) == 777


async def test_threads_of_many_requests_have_each_the_tenant_of_its_own(engine: Any, family: str) -> None:
    engine(Remembering, async_db={"pool_size": 3})

    async def request(tenant: int) -> list[int]:
        async with scope():
            found = [await sync_to_async(tenant_set)(family, tenant), await run_django(ask, family)]
            return [*found, await sync_to_async(ask)(family)]

    async def in_its_own_thread(tenant: int) -> list[int]:
        async with ThreadSensitiveContext():
            return await request(tenant)

    await asyncio.gather(*(in_a_task(run_django, tenant_set, family, 100 + number % 2) for number in range(16)))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        found = await asyncio.gather(*(in_a_task(in_its_own_thread, 100 + number % 2) for number in range(16)))
    finally:
        sys.setswitchinterval(before)
    assert found == [[100 + number % 2] * 3 for number in range(16)]


async def test_a_stream_of_a_wrapper_that_has_a_tenant_has_it_too(engine: Any, family: str) -> None:
    engine(Remembering)

    def stream() -> list[int]:
        connection.tenant = 777  # type: ignore[attr-defined]
        with connection.chunked_cursor() as cursor:
            cursor.execute(SETTING[kin(family)][1])
            return [int(row[0]) for row in cursor]

    async with scope():
        assert await run_django(stream) == [777]


# -- hooks -----------------------------------------------------------------------------------------------------------


class Counting:
    """Counts connections, and makes a setting of each."""

    seen: ClassVar[Counter[str]] = Counter()

    def get_new_connection(self, conn_params: Any) -> Any:
        self.seen["new"] += 1
        return super().get_new_connection(conn_params)  # type: ignore[misc]

    def init_connection_state(self) -> None:
        super().init_connection_state()  # type: ignore[misc]
        self.seen["init"] += 1
        with self.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute(SETTING[self.vendor][0].format(505))  # type: ignore[attr-defined]


async def two_at_once(work: Callable[[], Any]) -> list[Any]:
    both = asyncio.Barrier(2)

    async def one() -> Any:
        async with database().session() as db:
            found = await db.scalar(text(work()))
            await both.wait()
            return int(found)

    return await asyncio.gather(in_a_task(one), in_a_task(one))


async def test_each_physical_connection_is_initialised_once(engine: Any, family: str) -> None:
    engine(Counting, async_db={"pool_size": 2})
    Counting.seen.clear()
    for _ in range(3):
        assert await two_at_once(lambda: SETTING[kin(family)][1]) == [505, 505]
        assert await run_django(ask, family) == 505
    assert Counting.seen == {"new": 2, "init": 2}


async def test_what_was_initialised_is_there_again_after_a_reset(engine: Any, family: str) -> None:
    engine(Counting, async_db={"pool_size": 1})

    def change() -> int:
        with connection.cursor() as cursor:
            cursor.execute(SETTING[kin(family)][0].format(909))
        return ask(family)

    for _ in range(3):
        async with scope():
            assert await run_django(ask, family) == 505
            assert await run_django(change) == 909
    assert await run_django(ask, family) == 505
    assert database().stats().checked_out == 0


async def test_what_get_new_connection_said_to_the_server_is_never_lost(engine: Any, family: str) -> None:
    class Says:
        def get_new_connection(self, conn_params: Any) -> Any:
            made = super().get_new_connection(conn_params)  # type: ignore[misc]
            cursor = made.cursor()
            cursor.execute(SETTING[self.vendor][0].format(505))  # type: ignore[attr-defined]
            cursor.close()
            return made

    engine(Says, async_db={"pool_size": 1})

    def change() -> int:
        with connection.cursor() as cursor:
            cursor.execute(SETTING[kin(family)][0].format(909))
        return ask(family)

    for _ in range(2):
        async with scope():
            assert await run_django(ask, family) == 505
            assert await run_django(change) == 909


async def test_a_tenant_that_init_connection_state_reads_of_its_wrapper_is_the_requests(
    engine: Any, family: str
) -> None:
    class AtConnect:
        tenant: int | None = None

        def init_connection_state(self) -> None:
            super().init_connection_state()  # type: ignore[misc]
            if self.tenant is not None:
                with self.cursor() as cursor:  # type: ignore[attr-defined]
                    cursor.execute(SETTING[self.vendor][0].format(self.tenant))  # type: ignore[attr-defined]

    engine(AtConnect, async_db={"pool_size": 2})
    untouched = await run_django(ask, family)

    async def one(tenant: int) -> int:
        async with scope():
            return await run_django(tenant_set, family, tenant)

    for tenant in (103, 104, 105):
        assert await in_a_task(one, tenant) == tenant
        assert await run_django(ask, family) == untouched


@pytest.mark.families("sqlite")
async def test_what_the_hooks_put_on_the_wrapper_is_on_each_that_gets_the_connection(engine: Any) -> None:
    class Numbered:
        made = 0

        def get_connection_params(self) -> Any:
            self.asked = True
            return super().get_connection_params()  # type: ignore[misc]

        def get_new_connection(self, conn_params: Any) -> Any:
            type(self).made += 1
            self.number = type(self).made
            return super().get_new_connection(conn_params)  # type: ignore[misc]

    engine(Numbered, async_db={"pool_size": 1})

    def numbers() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return connection.number, connection.asked  # type: ignore[attr-defined]

    assert [await run_django(numbers) for _ in range(3)] == [(1, True)] * 3


async def test_a_proxy_around_the_connection_is_what_django_uses(engine: Any, family: str) -> None:
    class Proxy:
        cursors = 0

        def __init__(self, wrapped: Any) -> None:
            self.wrapped = wrapped

        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            type(self).cursors += 1
            return self.wrapped.cursor(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.wrapped, name)

    class Proxied:
        def get_new_connection(self, conn_params: Any) -> Any:
            return Proxy(super().get_new_connection(conn_params))  # type: ignore[misc]

        def create_cursor(self, name: str | None = None) -> Any:
            return self.connection.cursor()  # type: ignore[attr-defined]

    engine(Proxied, async_db={"pool_size": 1})
    for number in range(1, 4):
        before = Proxy.cursors
        async with scope():
            assert isinstance(await run_django(ask, family), int)
            assert Proxy.cursors > before, number


async def test_a_connection_that_a_wrapper_opens_itself_is_refused_by_name(engine: Any, shop: Any) -> None:
    class Opens:
        def get_new_connection(self, conn_params: Any) -> Any:
            super()  # it reads as one that leads on
            return engine.base.get_new_connection(self, conn_params)

    engine(Opens)
    with pytest.raises(ConnectFailed, match=r"'default'.*of its wrapper failed.*TypeError"):
        await database().fetch_val(text("SELECT 1"))
    assert shop.checked_out() == 0


@pytest.mark.families("sqlite")
async def test_a_hook_that_opens_its_own_connection_is_left_out_and_said_so(engine: Any, family: str) -> None:
    class Opens:
        def get_new_connection(self, conn_params: Any) -> Any:
            raise AssertionError("it was called")

    from django_bridge.checks import check_wrappers

    engine(Opens)
    assert isinstance(await run_django(ask, family), int)
    assert await in_a_task(run_django, ask, family) is not None
    (said,) = [one for one in check_wrappers(None) if one.id == "django_bridge.W008"]
    assert "'default'" in said.msg
    assert "Opens.get_new_connection()" in said.msg
    assert not said.is_serious()


@pytest.mark.families("sqlite")
async def test_parameters_that_are_changed_for_one_connection_are_refused_by_name(engine: Any) -> None:
    class Tokens:
        def get_new_connection(self, conn_params: Any) -> Any:
            return super().get_new_connection({**conn_params, "password": "a-secret"})  # type: ignore[misc]

    engine(Tokens)
    with pytest.raises(ConnectFailed) as caught:
        await database().fetch_val(text("SELECT 1"))
    assert "password" in str(caught.value.orig)
    assert "secret" not in f"{caught.value} {caught.value.orig}"


async def test_a_database_of_the_tenants_own_is_refused_rather_than_mistaken(engine: Any, family: str) -> None:
    name = "dbname" if family == "postgresql" else "database"

    class OfTenant:
        tenant: int | None = None

        def get_connection_params(self) -> Any:
            found = super().get_connection_params()  # type: ignore[misc]
            return found if self.tenant is None else {**found, name: f"{found[name]}_{self.tenant}"}

    engine(OfTenant)
    assert isinstance(await run_django(ask, family), int)
    async with scope():
        with pytest.raises(ImproperlyConfigured, match=name):
            await run_django(tenant_set, family, 7)


@pytest.mark.families("sqlite")
async def test_an_error_of_a_hook_is_the_projects_own(engine: Any, family: str) -> None:
    class Refused(Exception):
        pass

    class Refuses:
        def init_connection_state(self) -> None:
            raise Refused

    engine(Refuses)
    with pytest.raises(Refused):
        await run_django(ask, family)
    with pytest.raises(ConnectFailed, match=r"Refuses.init_connection_state of its wrapper failed"):
        await database().fetch_val(text("SELECT 1"))
    assert database().stats().checked_out == 0


# -- packages --------------------------------------------------------------------------------------------------------


async def test_django_prometheus_counts_as_on_stock(shop: Any, family: str) -> None:
    shop.configure(ENGINE=ENGINES[kin(family)].replace("django.db", "django_prometheus.db"), async_db={"pool_size": 2})
    from django_prometheus.db import connections_total, execute_total

    def counted() -> tuple[float, float]:
        return tuple(  # type: ignore[return-value]
            one.labels("default", kin(family))._value.get() for one in (connections_total, execute_total)
        )

    def statements() -> None:
        for _ in range(3):
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchall()

    shop.in_plain_thread(ask, family)  # whatever is asked once for each process
    before = counted()
    shop.in_plain_thread(statements)
    stock = tuple(now - then for now, then in zip(counted(), before, strict=True))
    before = counted()
    await run_django(statements)
    first = tuple(now - then for now, then in zip(counted(), before, strict=True))
    assert first == stock
    before = counted()
    await run_django(statements)
    await two_at_once(lambda: SETTING[kin(family)][1])
    assert counted()[0] - before[0] == 1, "the pool's second one"
    assert counted()[1] - before[1] >= 3


class Upper(str):
    """A value that only the adapters of :class:`Adapting` know."""

    __slots__ = ()


class Adapting:
    """Registers types with each connection, as PostGIS's wrapper does."""

    def get_new_connection(self, conn_params: Any) -> Any:
        from psycopg.types import TypeInfo
        from psycopg.types.string import StrDumper, TextLoader

        class Dump(StrDumper):
            def dump(self, obj: Any) -> Any:
                return super().dump(obj.upper())

        class Load(TextLoader):
            def load(self, data: Any) -> Any:
                return ["loaded", super().load(data)]

        made = super().get_new_connection(conn_params)  # type: ignore[misc]
        info = TypeInfo.fetch(made, "point")
        assert info is not None
        info.register(made)
        made.adapters.register_loader(info.oid, Load)
        made.adapters.register_dumper(Upper, Dump)
        return made


@pytest.mark.families("postgresql")
async def test_adapters_that_a_wrapper_registers_are_those_of_each_connection(engine: Any, shop: Any) -> None:
    engine(Adapting, async_db={"pool_size": 2})

    def adapted() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT point(1, 2), %s", [Upper("momo")])
            return cursor.fetchone()

    stock = shop.in_plain_thread(adapted)
    assert stock == (["loaded", "(1,2)"], "MOMO")
    for _ in range(2):
        assert await asyncio.gather(*(in_a_task(run_django, adapted) for _ in range(2))) == [stock, stock]

    def reset() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET work_mem = '1MB'")
        return adapted()

    for _ in range(3):
        assert await in_a_task(run_django, reset) == stock


@pytest.mark.families("postgresql")
async def test_django_tenants_has_the_schema_of_each_request(shop: Any, project: Any) -> None:
    project(TENANT_MODEL="shelf.Author", TENANT_DOMAIN_MODEL="shelf.Book", SHARED_APPS=["shelf"], TENANT_APPS=["shelf"])
    shop.configure(ENGINE="django_tenants.postgresql_backend", async_db={"pool_size": 3})

    def prepare() -> None:
        with connection.cursor() as cursor:
            for schema in ("public", "a", "b", "c"):
                if schema != "public":
                    cursor.execute(f"CREATE SCHEMA {schema}")
                cursor.execute(f"CREATE TABLE {schema}.thing (name text)")
                cursor.execute(f"INSERT INTO {schema}.thing VALUES ('{schema}')")

    def name() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM thing")
            return cursor.fetchone()[0]

    def streamed() -> Any:
        with connection.chunked_cursor() as cursor:
            cursor.execute("SELECT name FROM thing")
            return cursor.fetchone()[0]

    async def request(schema: str) -> list[Any]:
        async with scope():
            await run_django(lambda: connection.set_schema(schema))  # type: ignore[attr-defined]
            found = [await run_django(streamed)]
            for _ in range(3):
                found.append(await run_django(name))
                await asyncio.sleep(0)
            async with atomic():
                found.append(await run_django(name))
            found.append(await run_django(streamed))
            return found

    shop.in_plain_thread(prepare)
    for _ in range(3):
        assert await asyncio.gather(*map(request, "abc")) == [[schema] * 6 for schema in "abc"]
        assert await in_a_task(run_django, name) == "public"


# -- the order -------------------------------------------------------------------------------------------------------


class Recording:
    """Notes the calls of everything that a wrapper may override."""

    calls: ClassVar[list[str]] = []
    NAMES = (
        "connect check_settings get_connection_params get_new_connection init_connection_state ensure_connection "
        "check_database_version_supported cursor _cursor _prepare_cursor create_cursor make_cursor make_debug_cursor "
        "chunked_cursor set_autocommit _set_autocommit get_autocommit _commit _rollback commit rollback close _close "
        "_savepoint _savepoint_commit _savepoint_rollback savepoint savepoint_commit savepoint_rollback on_commit "
        "run_and_clear_commit_hooks validate_no_atomic_block validate_thread_sharing is_usable ensure_timezone "
        "close_if_unusable_or_obsolete close_if_health_check_failed set_rollback "
    ).split()


def _recorded(name: str) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        Recording.calls.append(name)
        return getattr(super(Recording, self), name)(*args, **kwargs)

    return call


for _name in Recording.NAMES:
    setattr(Recording, _name, _recorded(_name))


def work() -> None:
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchall()
    with transaction.atomic():
        transaction.on_commit(lambda: None)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 2")
            cursor.fetchall()
    try:
        with transaction.atomic():
            try:
                with transaction.atomic():
                    raise LookupError
            except LookupError:
                pass
            raise LookupError
    except LookupError:
        pass
    connection.close()


LEFT_OUT = ("check_settings", "get_connection_params")
OF_CURSORS = (
    "cursor", "_cursor", "create_cursor", "_prepare_cursor", "make_cursor", "close_if_health_check_failed",
    "ensure_connection", "validate_thread_sharing",
)  # fmt: skip


def comparable(calls: list[str], family: str) -> list[str]:
    """The calls but for what is known to differ: parameters are asked for before, and autocommit without connecting.

    (On SQLite Django sends BEGIN by a cursor of the wrapper's, the bridge by the driver.)
    """
    found = [
        name
        for before, name in zip(["", *calls], calls, strict=False)
        if name not in LEFT_OUT and (before, name) != ("get_autocommit", "ensure_connection")
    ]
    return [name for name in found if family != "sqlite" or name not in OF_CURSORS]


async def test_all_that_a_wrapper_may_override_is_called_in_the_order_of_stock(
    engine: Any, shop: Any, family: str
) -> None:
    engine(Recording, async_db={"pool_size": 1})
    Recording.calls.clear()
    shop.in_plain_thread(work)
    stock = comparable(Recording.calls, family)
    while stock[-1] != "_close":  # what closes the thread's connections
        stock.pop()
    Recording.calls.clear()
    async with scope():
        await run_django(work)
    assert comparable(Recording.calls, family) == stock
    assert stock.index("connect") < stock.index("get_new_connection") < stock.index("init_connection_state")

    Recording.calls.clear()
    async with scope():
        await run_django(work)
    assert "get_new_connection" not in Recording.calls
