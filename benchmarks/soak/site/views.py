"""Views of each kind. Each says what its session knows of tenants: it must be the request's own, and nothing else.

``?tenant=`` says whose, ``?token=`` is unique; the answer has every tenant that was seen, in any way, and the token.
"""

import asyncio
import gc
import json
import os
import random
import threading
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from sqlalchemy import text

from django_bridge import atomic, database, mapped, run_django, threads

from .middleware import log, told
from .models import Account, Item, Transfer
from .tenancy import asked_tenant, change_setting, found_tenant, set_tenant, setting

_last = {}


def _say_tenant(request, *, local=False):
    if not hasattr(request, "has_tenant"):
        set_tenant(int(request.GET["tenant"]), local=local)


def _answer(request, seen):
    return JsonResponse({"seen": sorted(seen, key=str), "token": request.GET["token"]})


async def _pause():
    await asyncio.sleep(random.random() * 0.02)


# Tenants


def sync_read(request):
    """Settings made outside a transaction, rows read several ways, and a block in which nothing is asked."""
    _say_tenant(request)
    seen = {item.tenant for item in Item.objects.all()} | {asked_tenant()}
    with transaction.atomic():
        pass
    seen |= {item.tenant for item in Item.objects.iterator(chunk_size=2)}
    with transaction.atomic():
        seen |= set(Item.objects.values_list("tenant", flat=True))
        change_setting()
    seen.add(asked_tenant())
    return _answer(request, seen)


def sync_local(request):
    """The tenant of a transaction alone; where there is no such thing (MySQL) it is the session's."""
    with transaction.atomic():
        _say_tenant(request, local=True)
        seen = {item.tenant for item in Item.objects.all()} | {asked_tenant()}
    return _answer(request, seen)


async def async_read(request):
    """The same on the loop, with pauses between statements in which others run."""
    await run_django(_say_tenant, request)
    await _pause()
    seen = {item.tenant async for item in Item.objects.all()}
    await _pause()
    seen |= {item.tenant async for item in Item.objects.aiterator(chunk_size=2)}
    seen.add(await run_django(asked_tenant))
    await run_django(change_setting)
    await _pause()
    seen |= {item.tenant for item in await sync_to_async(list)(Item.objects.all())}
    if not await Item.objects.acount():
        seen.add("no rows")
    return _answer(request, seen)


async def broken_read(request):
    """Wrong on purpose: the tenant is kept where all requests share it. Only there to see that it is found out."""
    _last["tenant"] = int(request.GET["tenant"])
    await _pause()
    await run_django(set_tenant, _last["tenant"])
    return _answer(request, {item.tenant async for item in Item.objects.all()})


async def mixed_read(request):
    """One transaction by both ORMs, a thread, and sync code on the loop."""
    token = request.GET["token"]

    def in_thread():
        with transaction.atomic():
            return {item.tenant for item in Item.objects.all()} | {asked_tenant()}

    await run_django(_say_tenant, request)
    async with atomic() as db:
        seen = set(await db.scalars(text("SELECT tenant FROM tenant_item")))
        item = await Item.objects.acreate(tenant=int(request.GET["tenant"]), name=token)
        seen |= await sync_to_async(in_thread)()
        await _pause()
        seen |= await run_django(in_thread)
        assert await Item.objects.filter(name=token).acount() == 1
        await item.adelete()
    await _pause()
    seen |= await sync_to_async(in_thread)()
    return _answer(request, seen)


async def events(request):
    """A stream of events: a query of the ORM and one of the session store for each, with the request's tenant."""
    await run_django(_say_tenant, request)

    async def body():
        try:
            for number in range(5):
                seen = {item.tenant async for item in Item.objects.all()} | {await run_django(asked_tenant)}
                owner = await request.session.aget("client")
                yield json.dumps({"seen": sorted(seen, key=str), "owner": owner, "event": number}) + "\n"
                await _pause()
        except Exception as err:
            log.exception("%s", request.path)
            yield json.dumps(told(err)) + "\n"

    return StreamingHttpResponse(body(), content_type="text/event-stream")


async def temporary(request):
    """A table of the session's own, and a lock, used by several statements."""
    token = request.GET["token"]

    def make():
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE mine (token varchar(40))")
            cursor.execute("INSERT INTO mine VALUES (%s)", [token])

    def read():
        with connection.cursor() as cursor:
            cursor.execute("SELECT token FROM mine")
            return [row[0] for row in cursor.fetchall()]

    await run_django(make)
    await _pause()
    found = await run_django(read) + await sync_to_async(read)()
    return JsonResponse({"found": found, "token": token})


def probe(request):
    """What a session has that nobody said anything to: no tenant, no rows, the server's own setting."""
    return JsonResponse({"tenant": found_tenant(), "rows": Item.objects.count(), "setting": setting()})


# Sessions


def sync_session(request):
    """The client's own counter. ``?who=`` is written into a new session."""
    if not request.session.get("client"):
        request.session["client"] = request.GET["who"]
    return JsonResponse({"owner": request.session["client"]})


async def async_session(request):
    if not await request.session.aget("client"):
        await request.session.aset("client", request.GET["who"])
    await _pause()
    return JsonResponse({"owner": await request.session.aget("client")})


# The ledger


class Refused(Exception):
    """There is not enough on the account: all of it is rolled back."""


def _asked(request):
    return request.GET["token"], int(request.GET["source"]), int(request.GET["target"]), int(request.GET["amount"])


def _move(key, source, target, amount):
    accounts = {
        account.pk: account
        for account in Account.objects.select_for_update().filter(pk__in=[source, target]).order_by("pk")
    }
    Transfer.objects.create(key=key, source_id=source, target_id=target, amount=amount)
    accounts[target].balance += amount
    accounts[target].save()
    if accounts[source].balance < amount:
        raise Refused
    accounts[source].balance -= amount
    accounts[source].save()


def sync_transfer(request):
    try:
        with transaction.atomic():
            _move(*_asked(request))
    except Refused:
        return HttpResponse(status=409)
    return HttpResponse(status=200)


async def native_transfer(request):
    """The sync function on the loop."""

    def move():
        with transaction.atomic():
            _move(*_asked(request))

    try:
        await run_django(move)
    except Refused:
        return HttpResponse(status=409)
    return HttpResponse(status=200)


async def both_transfer(request):
    """A part by each ORM, and a part in a thread, in one transaction."""
    key, source, target, amount = _asked(request)
    mapped_transfer = mapped(Transfer)
    try:
        async with atomic() as db:
            accounts = {
                account.pk: account
                async for account in Account.objects.select_for_update().filter(pk__in=[source, target]).order_by("pk")
            }
            db.add(mapped_transfer(key=key, source_id=source, target_id=target, amount=amount))
            accounts[target].balance += amount
            await sync_to_async(accounts[target].save)()
            if accounts[source].balance < amount:
                raise Refused
            accounts[source].balance -= amount
            await accounts[source].asave()
    except Refused:
        return HttpResponse(status=409)
    return HttpResponse(status=200)


# The process


def _rss_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def state(request):
    """What this process holds now."""
    gc.collect()
    stats, of_threads = database().stats(), threads.stats()
    return JsonResponse(
        {
            "checked_out": stats.checked_out + (of_threads.checked_out if of_threads else 0),
            "waiting": stats.waiting + (of_threads.waiting if of_threads else 0),
            "size": stats.size,
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
            "rss_mib": _rss_mib(),
        }
    )


TENANT_VIEWS = {"sync": sync_read, "local": sync_local, "async": async_read, "mixed": mixed_read}
if settings.BROKEN:
    TENANT_VIEWS["broken"] = broken_read
