"""No async method of Django's that waits for the database alone goes to a thread, on any family."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import django
import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django import shortcuts
from django.contrib import auth
from django.contrib.auth import backends, hashers
from django.contrib.auth import middleware as auth_middleware
from django.contrib.auth.models import AnonymousUser, Group, Permission, User, UserManager
from django.contrib.contenttypes.models import ContentType
from django.core import paginator
from django.core.cache.backends.db import DatabaseCache
from django.core.management import call_command
from django.db import models as orm
from django.db.models import Count, Model, Prefetch, QuerySet, aprefetch_related_objects
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse

from django_bridge import hooks, run_django, scope

from .hops import counted

pytestmark = pytest.mark.native_only("it asserts that nothing goes to a thread")

HASHING = {"verify_password", "set_password"}
"""What Django 6.1 sends to a thread on purpose, because it computes instead of waiting."""


def is_async(value: Any) -> bool:
    return inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)


def async_names(owner: Any) -> set[str]:
    """Every public async name of a class or a module; a manager's are plain functions that return coroutines."""
    found = {name for name in dir(owner) if name.startswith("a") and is_async(getattr(owner, name, None))}
    if isinstance(owner, type) and issubclass(owner, orm.Manager):
        found |= {name for name in async_names(QuerySet) if hasattr(owner, name)}
    return found


class Recorder:
    """Awaits each thing under its name, and notes what went to a thread meanwhile."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.hops: dict[str, list[str]] = {}

    async def __call__(self, name: str, awaitable: Awaitable[Any]) -> Any:
        self.seen.add(name)
        with counted() as hops:
            result = await awaitable
        if found := [hop for hop in hops if not (django.VERSION >= (6, 1) and hop in HASHING)]:
            self.hops.setdefault(name, []).extend(found)
        return result


async def all_of(iterator: Any) -> list[Any]:
    return [one async for one in iterator]


# What is exercised. Each function calls every async method of what it is named for, and nothing before its tables are.


async def of_rows(do: Recorder, rows: Any, model: Any) -> None:
    """The methods of a queryset and of a manager."""
    one = await do("acreate", rows.acreate(number=1))
    await do("abulk_create", rows.abulk_create([model(number=n) for n in range(2, 6)]))
    await do("abulk_create", rows.abulk_create([model(number=n) for n in range(6, 9)], batch_size=1))
    some = await do("async for", all_of(rows.all()))
    assert len(some) == 8
    for changed in some:
        changed.text = "x"
    await do("abulk_update", rows.abulk_update(some, ["text"]))
    assert await do("acount", rows.acount()) == 8
    assert await do("aaggregate", rows.aaggregate(n=Count("pk"))) == {"n": 8}
    assert await do("acontains", rows.acontains(one))
    assert (await do("aearliest", rows.aearliest("number"))).number == 1
    assert (await do("alatest", rows.alatest("number"))).number == 8
    assert await do("aexists", rows.aexists())
    assert await do("aexplain", rows.aexplain())
    assert (await do("afirst", rows.order_by("number").afirst())).number == 1
    assert (await do("alast", rows.order_by("number").alast())).number == 8
    assert (await do("aget", rows.aget(number=1))).pk == one.pk
    with pytest.raises(model.DoesNotExist):
        await do("aget", rows.aget(number=77))
    with pytest.raises(model.MultipleObjectsReturned):
        await do("aget", rows.aget(text="x"))
    for made in (True, False):
        assert (await do("aget_or_create", rows.aget_or_create(number=9)))[1] is made
    for made in (True, False):
        assert (await do("aupdate_or_create", rows.aupdate_or_create(number=10, defaults={"text": "y"})))[1] is made
    assert set(await do("ain_bulk", rows.ain_bulk([one.pk]))) == {one.pk}
    assert len(await do("aiterator", all_of(rows.aiterator(chunk_size=3)))) == 10
    assert len(await do("values", all_of(rows.values_list("number", flat=True).aiterator()))) == 10
    assert len(await do("slice", all_of(rows.all()[2:5]))) == 3
    assert len(await do("raw", all_of_raw(rows, model))) == 10 if hasattr(rows, "raw") else True
    assert await do("aupdate", rows.filter(number=1).aupdate(text="z")) == 1
    assert await do("adelete", rows.filter(number__gt=5).adelete()) == (5, {"shelf.Row": 5})


async def all_of_raw(rows: Any, model: Any) -> list[Any]:
    return [one async for one in rows.raw(f"SELECT * FROM {model._meta.db_table}")]


async def of_queryset(do: Recorder, shop: Any) -> type:
    await shop.create(shop.models.Row)
    await of_rows(do, shop.models.Row.objects.all(), shop.models.Row)
    return QuerySet


async def of_manager(do: Recorder, shop: Any) -> type:
    await shop.create(shop.models.Row)
    await of_rows(do, shop.models.Row.objects, shop.models.Row)
    return type(shop.models.Row.objects)


async def of_model(do: Recorder, shop: Any) -> type:
    await shop.create(shop.models.Row)
    one = shop.models.Row(number=1)
    await do("asave", one.asave())
    one.number = 2
    await do("asave", one.asave(update_fields=["number"]))
    await do("asave", one.asave(force_update=True))
    one.number = 3
    await do("arefresh_from_db", one.arefresh_from_db())
    assert one.number == 2
    await do("arefresh_from_db", one.arefresh_from_db(fields=["number"]))
    assert await do("adelete", one.adelete()) == (1, {"shelf.Row": 1})
    return Model


async def of_related(do: Recorder, manager: Any, model: Any, **through: Any) -> type:
    """The methods of a related manager, and the queryset's that it inherits."""
    one = await do("acreate", manager.acreate(**through))
    for made in (True, False):
        assert (await do("aget_or_create", manager.aget_or_create(**through | CHANGED[model.__name__])))[1] is made
    for made in (True, False):
        found = await do("aupdate_or_create", manager.aupdate_or_create(**through | OTHER[model.__name__]))
        assert found[1] is made
    assert await do("acount", manager.acount()) == 3
    if hasattr(manager, "aremove"):
        await do("aremove", manager.aremove(one))
        assert await manager.acount() == 2
        if model.__name__ == "Mark":  # a generic relation's remove deletes
            one = model(word="new")
            await do("aadd", manager.aadd(one, bulk=False))
        else:
            await do("aadd", manager.aadd(one))
        assert await manager.acount() == 3
        await do("aset", manager.aset([one]))
        assert [got.pk async for got in manager.all()] == [one.pk]
        await do("aclear", manager.aclear())
        assert not await manager.aexists()
    return type(manager)


CHANGED = {"Item": {"name": "b"}, "Label": {"name": "b"}, "Shelf": {"name": "b"}, "Mark": {"word": "b"}}
OTHER = {"Item": {"name": "c"}, "Label": {"name": "c"}, "Shelf": {"name": "c"}, "Mark": {"word": "c"}}


async def shelf_of(shop: Any) -> Any:
    models = shop.models
    await shop.create(ContentType, models.Label, models.Shelf, models.Item, models.Mark)
    return await models.Shelf.objects.acreate(name="top")


async def of_foreign_key(do: Recorder, shop: Any) -> type:
    return await of_related(do, (await shelf_of(shop)).items, shop.models.Item)


async def of_many_to_many(do: Recorder, shop: Any) -> type:
    return await of_related(do, (await shelf_of(shop)).labels, shop.models.Label)


async def of_many_to_many_backwards(do: Recorder, shop: Any) -> type:
    await shelf_of(shop)
    return await of_related(do, (await shop.models.Label.objects.acreate()).shelves, shop.models.Shelf)


async def of_generic_relation(do: Recorder, shop: Any) -> type:
    shelf = await shelf_of(shop)
    manager = await run_django(lambda: shelf.marks)
    return await of_related(do, manager, shop.models.Mark)


async def users(shop: Any) -> Any:
    await shop.create(ContentType, Permission, Group, User)
    user = await User.objects.acreate_user("ende", password="momo")
    about = await ContentType.objects.acreate(app_label="shelf", model="row")
    await user.user_permissions.aadd(await Permission.objects.acreate(codename="read", name="r", content_type=about))
    group = await Group.objects.acreate(name="g")
    await group.permissions.aadd(await Permission.objects.acreate(codename="write", name="w", content_type=about))
    await user.groups.aadd(group)
    return await User.objects.aget()


async def of_user(do: Recorder, shop: Any) -> type:
    await users(shop)

    async def fresh() -> Any:
        return await User.objects.aget()

    assert await do("ahas_perm", (await fresh()).ahas_perm("shelf.read"))
    assert await do("ahas_perms", (await fresh()).ahas_perms(["shelf.read", "shelf.write"]))
    assert await do("ahas_module_perms", (await fresh()).ahas_module_perms("shelf"))
    assert await do("aget_all_permissions", (await fresh()).aget_all_permissions()) == {"shelf.read", "shelf.write"}
    assert await do("aget_group_permissions", (await fresh()).aget_group_permissions()) == {"shelf.write"}
    assert await do("aget_user_permissions", (await fresh()).aget_user_permissions()) == {"shelf.read"}
    user = await fresh()
    assert await do("acheck_password", user.acheck_password("momo"))
    assert not await do("acheck_password", user.acheck_password("jim"))
    await do("arefresh_from_db", user.arefresh_from_db())
    await do("asave", user.asave())
    await do("adelete", user.adelete())
    return User


async def of_anonymous_user(do: Recorder, shop: Any) -> type:
    await users(shop)
    nobody = AnonymousUser()
    await do("ahas_perm", nobody.ahas_perm("shelf.read"))
    await do("ahas_perms", nobody.ahas_perms(["shelf.read"]))
    await do("ahas_module_perms", nobody.ahas_module_perms("shelf"))
    for name in ("aget_all_permissions", "aget_group_permissions", "aget_user_permissions"):
        await do(name, getattr(nobody, name)())
    return AnonymousUser


async def of_user_manager(do: Recorder, shop: Any) -> set[str]:
    await shop.create(ContentType, Permission, Group, User)
    await do("acreate_user", User.objects.acreate_user("a", password="p"))
    await do("acreate_superuser", User.objects.acreate_superuser("b", password="p"))
    assert (await do("aget_by_natural_key", User.objects.aget_by_natural_key("b"))).is_superuser
    return async_names(UserManager) - async_names(orm.Manager.from_queryset(QuerySet))


def of_backend(backend: Any) -> Callable[..., Any]:
    async def exercise(do: Recorder, shop: Any) -> type:
        await users(shop)
        remote = isinstance(backend, backends.RemoteUserBackend)
        asked = {"remote_user": "ende"} if remote else {"username": "ende", "password": "momo"}
        user = await do("aauthenticate", backend.aauthenticate(HttpRequest(), **asked))
        assert user.username == "ende"
        if remote:
            await do("aauthenticate", backend.aauthenticate(HttpRequest(), remote_user="new"))
            await do("aconfigure_user", backend.aconfigure_user(HttpRequest(), user))
        else:
            assert await do("aauthenticate", backend.aauthenticate(HttpRequest(), username="x", password="y")) is None
        assert await do("aget_user", backend.aget_user(user.pk)) == user
        for name, expected in [
            ("aget_user_permissions", {"shelf.read"}),
            ("aget_group_permissions", {"shelf.write"}),
            ("aget_all_permissions", {"shelf.read", "shelf.write"}),
        ]:
            assert await do(name, getattr(backend, name)(await User.objects.aget(pk=user.pk))) == expected
        assert await do("ahas_perm", backend.ahas_perm(await User.objects.aget(pk=user.pk), "shelf.read"))
        assert await do("ahas_module_perms", backend.ahas_module_perms(await User.objects.aget(pk=user.pk), "shelf"))
        return type(backend)

    return exercise


async def of_auth(do: Recorder, shop: Any) -> Any:
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session

    await users(shop)
    await shop.create(Session)
    request = HttpRequest()
    request.session = SessionStore()
    user = await do("aauthenticate", auth.aauthenticate(request, username="ende", password="momo"))
    assert user is not None
    assert await do("aauthenticate", auth.aauthenticate(request, username="ende", password="jim")) is None
    await do("alogin", auth.alogin(request, user))
    await request.session.asave()
    assert await do("aget_user", auth.aget_user(request)) == user
    later = HttpRequest()
    later.session = SessionStore(request.session.session_key)
    assert await do("aget_user", auth.aget_user(later)) == user
    user.set_password("new")
    await user.asave()
    auth_middleware.AuthenticationMiddleware(HttpResponse).process_request(request)
    request.user = await request.auser()  # Django < 6.1 reads it
    await do("aupdate_session_auth_hash", auth.aupdate_session_auth_hash(request, user))
    await do("alogout", auth.alogout(request))
    assert not (await auth.aget_user(request)).is_authenticated
    if hasattr(auth, "acheck_password_with_timing_attack_mitigation"):
        checked = auth.acheck_password_with_timing_attack_mitigation(user, "new")
        await do("acheck_password_with_timing_attack_mitigation", checked)
    return auth


async def of_auth_middleware(do: Recorder, shop: Any) -> Any:
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session

    user = await users(shop)
    await shop.create(Session)
    request = HttpRequest()
    request.session = SessionStore()
    await auth.alogin(request, user)
    await request.session.asave()
    request = HttpRequest()
    request.session = SessionStore((await Session.objects.aget()).session_key)
    auth_middleware.AuthenticationMiddleware(HttpResponse).process_request(request)
    assert await do("auser", request.auser()) == user
    return auth_middleware


async def of_hashers(do: Recorder, shop: Any) -> Any:
    assert await do("acheck_password", hashers.acheck_password("a", hashers.make_password("a")))
    return hashers


async def of_shortcuts(do: Recorder, shop: Any) -> Any:
    from django.http import Http404

    await shop.create(shop.models.Row)
    await shop.models.Row.objects.acreate(number=1)
    assert (await do("aget_object_or_404", shortcuts.aget_object_or_404(shop.models.Row, number=1))).number == 1
    assert len(await do("aget_list_or_404", shortcuts.aget_list_or_404(shop.models.Row, number=1))) == 1
    with pytest.raises(Http404):
        await do("aget_object_or_404", shortcuts.aget_object_or_404(shop.models.Row, number=2))
    with pytest.raises(Http404):
        await do("aget_list_or_404", shortcuts.aget_list_or_404(shop.models.Row, number=2))
    return shortcuts


async def of_prefetching(do: Recorder, shop: Any) -> Any:
    shelf = await shelf_of(shop)
    models = shop.models
    await shelf.items.acreate(name="i")
    await shelf.labels.aadd(await models.Label.objects.acreate(name="l"))
    await (await run_django(lambda: shelf.marks)).acreate(word="m")
    wanted = ["labels", "marks", Prefetch("items", queryset=models.Item.objects.order_by("pk"), to_attr="found")]
    await do("aprefetch_related_objects", aprefetch_related_objects([shelf], *wanted))
    assert [len(shelf.labels.all()), len(shelf.marks.all()), len(shelf.found)] == [1, 1, 1]
    rows = models.Shelf.objects.prefetch_related(*wanted)
    for again in (await do("async for", all_of(rows)), await do("aiterator", all_of(rows.aiterator(chunk_size=1)))):
        assert [len(again[0].labels.all()), len(again[0].marks.all()), len(again[0].found)] == [1, 1, 1]
    marks = await do("async for", all_of(models.Mark.objects.prefetch_related("content_object")))
    assert marks[0].content_object == shelf
    items = await do("async for", all_of(models.Item.objects.select_related("shelf")))
    assert items[0].shelf == shelf
    return orm


async def of_sessions(do: Recorder, shop: Any) -> type:
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session

    await shop.create(Session)
    session = SessionStore()
    await do("acreate", session.acreate())
    await do("aset", session.aset("k", 1))
    await do("asave", session.asave())
    assert await do("aexists", session.aexists(session.session_key))

    def again() -> Any:
        return SessionStore(session.session_key)

    assert await do("aload", again().aload()) == {"k": 1}
    assert await do("aget", again().aget("k")) == 1
    assert await do("ahas_key", again().ahas_key("k"))
    assert list(await do("akeys", again().akeys())) == ["k"]
    assert list(await do("avalues", again().avalues())) == [1]
    assert list(await do("aitems", again().aitems())) == [("k", 1)]
    assert await do("apop", again().apop("k")) == 1
    assert await do("asetdefault", again().asetdefault("new", 2)) == 2
    await do("aupdate", again().aupdate({"k": 3}))
    await do("aset_test_cookie", again().aset_test_cookie())
    tested = again()
    await tested.aset_test_cookie()
    assert await do("atest_cookie_worked", tested.atest_cookie_worked())
    await do("adelete_test_cookie", tested.adelete_test_cookie())
    await do("aset_expiry", again().aset_expiry(60))
    assert await do("aget_expiry_age", again().aget_expiry_age()) > 0
    await do("aget_expiry_date", again().aget_expiry_date())
    assert await do("aget_expire_at_browser_close", again().aget_expire_at_browser_close()) is False
    before = session.session_key
    await do("acycle_key", session.acycle_key())
    assert session.session_key != before
    await do("aclear_expired", SessionStore.aclear_expired())
    await do("adelete", session.adelete())
    assert (await do("acreate_model_instance", session.acreate_model_instance({}))).pk == session.session_key
    await session.acreate()
    await do("aflush", session.aflush())
    assert not await Session.objects.aexists()
    return SessionStore


async def of_cache(do: Recorder, shop: Any) -> type:
    await run_django(call_command, "createcachetable", "cached", verbosity=0)
    cache: Any = DatabaseCache("cached", {})
    assert await do("aadd", cache.aadd("a", 1))
    assert await do("aget", cache.aget("a")) == 1
    await do("aset", cache.aset("b", 2))
    assert await do("aset_many", cache.aset_many({"c": 3, "d": 4})) == []
    assert await do("aget_many", cache.aget_many(["a", "b", "c"])) == {"a": 1, "b": 2, "c": 3}
    assert await do("atouch", cache.atouch("a", 60))
    assert await do("ahas_key", cache.ahas_key("a"))
    assert await do("aincr", cache.aincr("a")) == 2
    assert await do("adecr", cache.adecr("a")) == 1
    assert await do("aincr_version", cache.aincr_version("a")) == 2
    assert await do("adecr_version", cache.adecr_version("a", version=2)) == 1
    assert await do("aget_or_set", cache.aget_or_set("e", 5)) == 5
    assert await do("aget_or_set", cache.aget_or_set("f", lambda: 6)) == 6
    assert await do("adelete", cache.adelete("a"))
    await do("adelete_many", cache.adelete_many(["b", "c"]))
    await do("aclear", cache.aclear())
    assert await cache.aget("f") is None
    await do("aclose", cache.aclose())
    return DatabaseCache


async def of_paginator(do: Recorder, shop: Any) -> set[str]:
    await shop.create(shop.models.Row)
    await shop.models.Row.objects.abulk_create([shop.models.Row(number=n) for n in range(25)])
    pages = paginator.AsyncPaginator(shop.models.Row.objects.order_by("number"), 10)
    assert await do("acount", pages.acount()) == 25
    assert await do("anum_pages", pages.anum_pages()) == 3
    assert list(await do("apage_range", pages.apage_range())) == [1, 2, 3]
    assert await do("avalidate_number", pages.avalidate_number(2)) == 2
    await do("aget_page", pages.aget_page(2))
    await do("aget_elided_page_range", all_of(pages.aget_elided_page_range(1)))
    page = await do("apage", pages.apage(2))
    assert len(await do("aget_object_list", page.aget_object_list())) == 10
    assert len(await do("async for", all_of(await pages.apage(3)))) == 5
    for name in sorted(async_names(paginator.AsyncPage) - {"aget_object_list"}):
        await do(name, getattr(page, name)())
    return async_names(paginator.AsyncPaginator) | async_names(paginator.AsyncPage)


async def of_signal(do: Recorder, shop: Any) -> type:
    await shop.create(shop.models.Row)
    rows = shop.models.Row.objects
    signal = Signal()

    def sync_receiver(**_: Any) -> int:
        return rows.create(number=1).number

    async def async_receiver(**_: Any) -> int:
        return (await rows.acreate(number=2)).number

    def failing(**_: Any) -> None:
        raise LookupError

    signal.connect(sync_receiver)
    signal.connect(async_receiver)
    assert [got for _, got in await do("asend", signal.asend(object))] == [1, 2]
    signal.connect(failing)
    results = [got for _, got in await do("asend_robust", signal.asend_robust(object))]
    assert sorted(map(str, results)) == sorted(map(str, [1, 2, LookupError()]))
    assert await rows.acount() == 4
    return Signal


SUBJECTS = [
    of_queryset,
    of_manager,
    of_model,
    of_foreign_key,
    of_many_to_many,
    of_many_to_many_backwards,
    of_generic_relation,
    of_user,
    of_anonymous_user,
    of_user_manager,
    pytest.param(of_backend(backends.ModelBackend()), id="of_model_backend"),
    pytest.param(of_backend(backends.AllowAllUsersModelBackend()), id="of_allow_all_users_backend"),
    pytest.param(of_backend(backends.RemoteUserBackend()), id="of_remote_user_backend"),
    of_auth,
    of_auth_middleware,
    of_hashers,
    of_shortcuts,
    of_prefetching,
    of_sessions,
    of_cache,
    pytest.param(
        of_paginator,
        marks=pytest.mark.skipif(not hasattr(paginator, "AsyncPaginator"), reason="Django < 6.0 has no AsyncPaginator"),
    ),
    of_signal,
]
INHERITED = {
    # A related manager's queryset methods are the manager's, which have a test of their own.
    "of_foreign_key": async_names(QuerySet),
    "of_many_to_many": async_names(QuerySet),
    "of_many_to_many_backwards": async_names(QuerySet),
    "of_generic_relation": async_names(QuerySet),
}


def expected_names(exercise: Any, owner: Any) -> set[str]:
    names = owner if isinstance(owner, set) else async_names(owner)
    return names - INHERITED.get(exercise.__name__, set())


@pytest.mark.parametrize("exercise", SUBJECTS)
async def test_no_async_method_goes_to_a_thread(exercise: Any, shop: Any) -> None:
    do = Recorder()
    owner = await exercise(do, shop)
    assert do.hops == {}
    assert expected_names(exercise, owner) - do.seen == set(), "these were never called"
    assert shop.checked_out() == 0


@pytest.mark.parametrize("exercise", SUBJECTS)
async def test_none_does_in_an_open_scope(exercise: Any, shop: Any) -> None:
    do = Recorder()
    async with scope():
        await exercise(do, shop)
        assert shop.checked_out() == 0
    assert do.hops == {}


PURE = {"of_hashers", "of_anonymous_user"}
"""Nothing of these asks the database, or goes to a thread in Django itself."""


@pytest.mark.parametrize("exercise", [one for one in SUBJECTS if getattr(one, "__name__", "") not in PURE])
async def test_with_the_bridge_off_the_same_counter_counts(exercise: Any, shop: Any) -> None:
    do = Recorder()
    hooks.uninstall()
    try:
        await exercise(do, shop)
    finally:
        hooks.install()
    assert do.hops


async def test_run_django_goes_to_no_thread(shop: Any) -> None:
    await shop.create(shop.models.Row)
    with counted() as hops:
        assert (
            await run_django(lambda: (shop.models.Row.objects.create(number=4), shop.models.Row.objects.count())[1])
            == 1
        )
    assert hops == []


async def test_the_migrations_of_djangos_own_apps_run_on_the_loop(shop: Any) -> None:
    with counted() as hops:
        await run_django(call_command, "migrate", verbosity=0)
    assert hops == []
    assert await User.objects.acount() == 0
    assert await Permission.objects.aexists()


async def test_async_receivers_of_save_run_on_the_loop_and_join_its_transaction(shop: Any) -> None:
    await shop.create(shop.models.Row, shop.models.Named)

    async def receive(instance: Any, created: bool, **_: Any) -> None:
        await shop.models.Named.objects.acreate(name=str(instance.number))

    post_save.connect(receive, sender=shop.models.Row)
    try:
        with counted() as hops:
            await shop.models.Row.objects.acreate(number=7)
        assert hops == []
    finally:
        post_save.disconnect(receive, sender=shop.models.Row)
    assert [one.name async for one in shop.models.Named.objects.all()] == ["7"]


@pytest.mark.skipif(django.VERSION < (6, 1), reason="Django < 6.1 hashes on the loop")
async def test_the_one_exception_is_the_hashing_of_passwords() -> None:
    with counted() as hops:
        await hashers.acheck_password("a", hashers.make_password("a"))
    assert hops == ["verify_password"]


async def test_other_peoples_sync_to_async_still_goes_to_a_thread(shop: Any) -> None:
    with counted() as hops:
        assert await sync_to_async(threading.get_ident)() != threading.get_ident()
    assert hops == ["get_ident"]
    assert isinstance(sync_to_async(len), SyncToAsync)


@pytest.mark.families("mariadb", "postgresql", "mysql")
async def test_a_thousand_concurrent_tasks_start_no_thread(shop: Any) -> None:
    shop.configure(async_db={"pool_timeout": 60.0})
    await shop.create(shop.models.Row)
    rows = shop.models.Row.objects
    await rows.acreate(number=1)
    before = threading.active_count()
    most = before

    async def work(number: int) -> None:
        nonlocal most
        await rows.aget(number=1)
        most = max(most, threading.active_count())

    async with asyncio.TaskGroup() as tasks:
        for number in range(1000):
            tasks.create_task(work(number))
    assert most - before == 0
