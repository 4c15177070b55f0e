from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import aget_object_or_404, get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from catalogue.models import Book

from .models import Event
from .services import OutOfStock, place_order


def wanted_of(request):
    return {int(pk): int(quantity) for pk, quantity in request.POST.items()}


@login_required
@require_POST
def checkout(request: HttpRequest) -> HttpResponse:
    try:
        order = place_order(request.user, wanted_of(request))
    except OutOfStock as err:
        return JsonResponse({"out of stock": str(err)}, status=409)
    return JsonResponse({"reference": order.reference}, status=201)


@login_required
def order_detail(request: HttpRequest, reference: str) -> HttpResponse:
    order = get_object_or_404(request.user.orders, reference=reference)
    lines = order.lines.select_related("book").order_by("pk")
    return JsonResponse({"lines": [[line.book.title, line.quantity] for line in lines]})


@transaction.non_atomic_requests
@login_required
@require_POST
async def acheckout(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    try:
        order = await sync_to_async(place_order)(user, wanted_of(request))
    except OutOfStock as err:
        return JsonResponse({"out of stock": str(err)}, status=409)
    return JsonResponse({"reference": order.reference}, status=201)


@transaction.non_atomic_requests
@login_required
async def aorder_detail(request: HttpRequest, reference: str) -> HttpResponse:
    user = await request.auser()
    order = await aget_object_or_404(user.orders, reference=reference)
    lines = order.lines.select_related("book").order_by("pk")
    return JsonResponse({"lines": [[line.book.title, line.quantity] async for line in lines]})


@transaction.non_atomic_requests
@login_required
@require_POST
async def aadd_line(request: HttpRequest, reference: str) -> HttpResponse:
    user = await request.auser()
    order = await aget_object_or_404(user.orders, reference=reference)
    for pk, quantity in wanted_of(request).items():
        await order.books.aadd(await Book.objects.aget(pk=pk), through_defaults={"quantity": quantity})
    return JsonResponse({"lines": await order.lines.acount()}, status=201)


@transaction.non_atomic_requests
@csrf_exempt
@require_POST
async def anote(request: HttpRequest, reference: str) -> HttpResponse:
    if reference == "nothing":
        raise Http404
    await Event.objects.acreate(kind="note", reference=reference)
    return JsonResponse({"notes": await Event.objects.filter(kind="note").acount()}, status=201)
