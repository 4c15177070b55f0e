"""One async view for each package; the same with the bridge and without it."""

import asyncio
from types import SimpleNamespace

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction
from django.http import JsonResponse
from django.urls import path

from .models import Entry, Note

ROWS = 3

if settings.BRIDGED:
    from django_bridge import run_django
else:

    async def run_django(function, *args):
        return await sync_to_async(function)(*args)


def names(rows, field):
    return sorted(rows.values_list(field, flat=True))


async def written(request):
    """Rows written one after the other, and by child tasks; what each is marked with."""
    me = request.headers["X-User"]
    for _ in range(ROWS):
        await Note.objects.acreate(name=me)
    await asyncio.gather(*(Note.objects.acreate(name=me) for _ in range(ROWS)))
    note = await Note.objects.filter(name=me).afirst()
    await note.asave()
    await run_django(in_a_block, me)
    mine, logged = Note.objects.filter(name=me), Entry.objects.filter(name=me)
    marks = [await run_django(names, mine, "seen_by"), await run_django(names, mine, "saved_by")]
    return JsonResponse({"user": me, "marks": [*marks, await run_django(names, logged, "seen_by")]})


def in_a_block(me):
    with transaction.atomic():
        for _ in range(ROWS):
            Note.objects.create(name=me)


async def impersonated(request):
    """What a function of native code sets, it sees to its end. (crum sets it on the request too, which tasks share.)"""
    me = request.headers["X-User"]
    seen = [await run_django(impersonate, f"{me}-{number}") for number in range(ROWS)]
    return JsonResponse({"user": me, "seen": seen, "after": await run_django(who)})


def impersonate(name):
    import crum

    with crum.impersonate(SimpleNamespace(username=name)):
        made = [Note.objects.create(name=name).seen_by for _ in range(ROWS)]
        return [crum.get_current_user().username, *made]


def who():
    import crum

    return crum.get_current_user().username


async def tenants(request):
    from .models import Product

    me = request.headers["X-User"]
    for number in range(ROWS):
        await Product.objects.acreate(name=f"{me}-{number}")
    await asyncio.gather(*(Product.objects.acreate(name=f"{me}-{10 + number}") for number in range(ROWS)))
    await run_django(more_products, me)
    seen = await run_django(lambda: names(Product.objects.all(), "name"))
    deleted = await run_django(lambda: Product.objects.filter(name__endswith="-0").delete()[0])
    left = await run_django(lambda: [(one.name, one.store.name) for one in Product.objects.order_by("name")])
    return JsonResponse({"user": me, "seen": seen, "deleted": deleted, "left": left})


def more_products(me):
    from .models import Product

    with transaction.atomic():
        for number in range(ROWS):
            Product.objects.create(name=f"{me}-{20 + number}")
        Product.objects.bulk_create([Product(name=f"{me}-30"), Product(name=f"{me}-31")])
    return Product.objects.update(name=models_concat())


def models_concat():
    from django.db.models import F, Value
    from django.db.models.functions import Concat

    return Concat(F("name"), Value(""))


async def history(request):
    """The events of triggers, with the context of the middleware and of the functions of the view."""
    from .models import Tracked

    me = request.headers["X-User"]
    one = await Tracked.objects.acreate(name=me)
    await asyncio.gather(*(Tracked.objects.acreate(name=me) for _ in range(ROWS)))
    await run_django(changed, me, one)
    one.name = f"{me}-again"
    await one.asave()
    await run_django(annotated, me)
    deleted = await run_django(ignoring, one) if request.headers["X-Ignores"] == "1" else await run_django(refused, one)
    return JsonResponse({"user": me, "deleted": deleted})


def changed(me, one):
    import pghistory

    with pghistory.context(view=me):
        one.name = f"{me}-changed"
        one.save()


def annotated(me):
    import pghistory

    from .models import Tracked

    with pghistory.context(function=me), transaction.atomic():
        return [Tracked.objects.create(name=f"{me}-annotated").pk for _ in range(ROWS)] and None


def ignoring(one):
    import pgtrigger

    with pgtrigger.ignore("noted.Tracked:keep"):
        return one.delete()[0]


def refused(one):
    from django.db import DatabaseError

    try:
        with transaction.atomic():
            return one.delete()[0]
    except DatabaseError as err:
        return "Cannot delete" in str(err)


async def cached(request):
    """Blocks that commit or roll back, with reads in them, which the cache keeps until the block's end."""
    me = request.headers["X-User"]
    results = [await run_django(in_a_cached_block, f"{me}-{number}", number % 2 == 0) for number in range(ROWS)]
    results += await asyncio.gather(
        *(run_django(in_a_cached_block, f"{me}-{10 + number}", number % 2 == 0) for number in range(ROWS))
    )
    return JsonResponse({"user": me, "inside": results, "after": await run_django(counted, me)})


class GoBack(Exception):
    pass


def in_a_cached_block(name, keep):
    before = Note.objects.filter(name=name).count()
    try:
        with transaction.atomic():
            Note.objects.create(name=name)
            inside = Note.objects.filter(name=name).count()
            try:
                with transaction.atomic():
                    Note.objects.create(name=name)
                    deeper = Note.objects.filter(name=name).count()
                    raise GoBack
            except GoBack:
                again = Note.objects.filter(name=name).count()
            if not keep:
                raise GoBack
    except GoBack:
        pass
    return [before, inside, deeper, again, Note.objects.filter(name=name).count()]


def counted(me):
    return {
        name: Note.objects.filter(name=name).count() for n in range(ROWS) for name in (f"{me}-{n}", f"{me}-{10 + n}")
    }


async def recorded(request):
    """Queries of the view and of its child tasks, which silk records with the request."""
    me = request.headers["X-User"]
    for _ in range(ROWS):
        await Note.objects.filter(name=me).acount()
    await asyncio.gather(*(Note.objects.filter(name=f"{me}-{number}").acount() for number in range(ROWS)))
    await run_django(lambda: list(Note.objects.filter(name=f"{me}-20")))
    return JsonResponse({"user": me})


urlpatterns = [
    path("written/", written),
    path("impersonated/", impersonated),
    path("tenants/", tenants),
    path("history/", history),
    path("cached/", cached),
    path("recorded/", recorded),
]
