"""The counter of the shop: async views on sessions and shared transactions."""

from functools import partial

from asgiref.sync import sync_to_async
from django.core import mail
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from sqlalchemy import func, insert, select, update

from catalogue.models import Book
from django_bridge import atomic, database, session, with_session
from orders.models import Event
from orders.services import confirm, place_order

from .tables import book, event


class Refused(Exception):
    pass


def to_sell(pk, quantity=1):
    return update(book).where(book.c.id == pk, book.c.stock >= quantity).values(stock=book.c.stock - quantity)


def happened(kind, reference):
    return insert(event).values(kind=kind, reference=str(reference))


async def stock(request: HttpRequest, pk: int) -> HttpResponse:
    async with session() as db:
        found = await db.fetch_one_or_none(
            select(book.c.title, book.c.stock).where(book.c.id == pk),
            into=dict,
        )
    if found is None:
        raise Http404
    return JsonResponse(found)


@with_session
async def titles(request: HttpRequest, *, db) -> HttpResponse:
    return JsonResponse({"titles": await db.fetch_all(select(book.c.title).order_by(book.c.id), into=str)})


async def census(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"books": await database().fetch_val(select(func.count()).select_from(book))})


class Shelf(View):
    """The two ORMs side by side: both see the same."""

    async def get(self, request):
        async with session() as db:
            ours = await db.fetch_all(select(book.c.title).order_by(book.c.id), into=str)
        theirs = [found.title async for found in Book.objects.order_by("pk")]
        return JsonResponse({"session": ours, "orm": theirs})


async def titles_csv(request: HttpRequest) -> HttpResponse:
    async def lines():
        async with session() as db, db.stream(select(book.c.title).order_by(book.c.id), into=str) as rows:
            async for title in rows:
                yield f"{title}\n"

    return StreamingHttpResponse(lines(), content_type="text/csv")


async def sell(request: HttpRequest, pk: int) -> HttpResponse:
    """A session that commits by itself."""
    async with session() as db:
        sold = await db.execute(to_sell(pk))
        if not sold.rowcount:
            await db.rollback()
            return JsonResponse({"error": "out of stock"}, status=409)
        await db.execute(happened("sold", pk))
        await db.commit()
    return JsonResponse({}, status=201)


async def sell_and_regret(request: HttpRequest, pk: int) -> HttpResponse:
    """A session that rolls back by itself, after a commit that stays."""
    async with session() as db:
        await db.execute(happened("asked", pk))
        await db.commit()
        await db.execute(to_sell(pk))
        await db.execute(happened("sold", pk))
        await db.rollback()
    return JsonResponse({}, status=200)


async def forget(request: HttpRequest, pk: int) -> HttpResponse:
    """A session that forgets its commit: UncommittedWrites."""
    async with session() as db:
        await db.execute(to_sell(pk))
    return JsonResponse({})


async def lend(request: HttpRequest, pk: int) -> HttpResponse:
    """Both ORMs and the hooks of both in one transaction."""
    async with atomic() as db:
        found = await Book.objects.select_related("author").aget(pk=pk)
        await db.execute(to_sell(pk))
        await Event.objects.acreate(kind="lent", reference=found.isbn)
        db.on_commit(partial(thank, found.author.name))
        transaction.on_commit(partial(confirm, found.isbn))
    return JsonResponse({"author": found.author.name}, status=201)


async def thank(name):
    mail.outbox.append(f"Thanks to {name}")


async def try_again(request: HttpRequest) -> HttpResponse:
    """The inner block raises, and loses its own rows alone."""
    async with atomic() as db:
        await db.execute(happened("outer", "core"))
        try:
            async with atomic() as inner:
                await inner.execute(happened("inner", "core"))
                await Event.objects.acreate(kind="inner", reference="orm")
                raise Refused
        except Refused:
            await Event.objects.acreate(kind="outer", reference="orm")
    return JsonResponse({}, status=201)


async def refuse(request: HttpRequest) -> HttpResponse:
    try:
        async with atomic() as db:
            await db.execute(happened("refused", "core"))
            await Event.objects.acreate(kind="refused", reference="orm")
            db.on_commit(partial(thank, "nobody"))
            raise Refused
    except Refused:
        return JsonResponse({}, status=409)


async def explode(request: HttpRequest) -> HttpResponse:
    async with atomic() as db:
        await db.execute(happened("exploded", "core"))
        raise Refused


async def checkout(request: HttpRequest) -> HttpResponse:
    """The sync service joins the transaction of the async view."""
    async with atomic() as db:
        user = await request.auser()
        wanted = {int(pk): int(quantity) for pk, quantity in request.POST.items()}
        order = await sync_to_async(place_order)(user, wanted)
        await db.execute(happened("checkout", order.reference))
    return JsonResponse({"reference": order.reference}, status=201)


@atomic
async def decorated(request: HttpRequest, pk: int, *, db) -> HttpResponse:
    await db.execute(to_sell(pk))
    left = (await Book.objects.aget(pk=pk)).stock
    return JsonResponse({"left": left})


async def per_request(request: HttpRequest, kind: str) -> HttpResponse:
    """With ATOMIC_REQUESTS in a transaction of the request, else each statement for itself."""
    await Event.objects.acreate(kind=kind, reference="orm")
    if kind == "missing":
        raise Http404
    return JsonResponse({}, status=201)


def plain(view):
    """The view without CSRF, and never in a transaction of the request."""
    return csrf_exempt(transaction.non_atomic_requests(view))
