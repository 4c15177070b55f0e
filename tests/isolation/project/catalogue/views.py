import csv
import json

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from .models import Author, Book, Genre


def as_json(book):
    return {
        "id": book.pk,
        "title": book.title,
        "author": book.author.name,
        "stock": book.stock,
        "genres": sorted(genre.name for genre in book.genres.all()),
    }


@require_GET
def book_list(request: HttpRequest) -> HttpResponse:
    books = Book.objects.select_related("author").prefetch_related("genres").order_by("pk")
    return JsonResponse({"books": [as_json(book) for book in books]})


@require_GET
def book_detail(request: HttpRequest, pk: int) -> HttpResponse:
    return JsonResponse(as_json(get_object_or_404(Book.objects.select_related("author"), pk=pk)))


class Echo:
    """A file that gives back what is written to it."""

    def write(self, value):
        return value


@require_GET
def export(request: HttpRequest) -> HttpResponse:
    writer = csv.writer(Echo())
    rows = Book.objects.order_by("pk").values_list("title", "stock")
    return StreamingHttpResponse((writer.writerow(row) for row in rows.iterator()), content_type="text/csv")


@transaction.non_atomic_requests
async def abook_list(request: HttpRequest) -> HttpResponse:
    books = Book.objects.select_related("author").prefetch_related("genres").order_by("pk")
    return JsonResponse({"books": [as_json(book) async for book in books]})


@transaction.non_atomic_requests
async def abook_detail(request: HttpRequest, pk: int) -> HttpResponse:
    try:
        book = await Book.objects.select_related("author").prefetch_related("genres").aget(pk=pk)
    except Book.DoesNotExist:
        raise Http404 from None
    return JsonResponse(as_json(book))


@transaction.non_atomic_requests
@csrf_exempt
@require_POST
async def aadd_book(request: HttpRequest) -> HttpResponse:
    sent = json.loads(request.body)
    author, _ = await Author.objects.aget_or_create(name=sent["author"])
    book = await Book.objects.acreate(title=sent["title"], isbn=sent["isbn"], author=author, price=1, stock=1)
    for name in sent.get("genres", []):
        genre, _ = await Genre.objects.aget_or_create(name=name)
        await book.genres.aadd(genre)
    return JsonResponse({"id": book.pk}, status=201)


@transaction.non_atomic_requests
async def aexport(request: HttpRequest) -> HttpResponse:
    async def rows():
        writer = csv.writer(Echo())
        async for book in Book.objects.order_by("pk").aiterator():
            yield writer.writerow([book.title, book.stock])

    return StreamingHttpResponse(rows(), content_type="text/csv")


@method_decorator(csrf_exempt, name="dispatch")
class AuthorShelf(View):
    async def get(self, request, pk):
        author = await Author.objects.aget(pk=pk)
        return JsonResponse({"titles": [book.title async for book in author.books.order_by("pk")]})

    async def post(self, request, pk):
        author = await Author.objects.aget(pk=pk)
        book = await author.books.acreate(title=request.POST["title"], isbn=request.POST["isbn"], price=1)
        return JsonResponse({"id": book.pk, "books": await author.books.acount()}, status=201)


author_shelf = transaction.non_atomic_requests(AuthorShelf.as_view())
