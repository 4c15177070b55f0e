"""Class-based views, and one of each other kind that a project has."""

from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.views import generic

from .library.models import Author, Book, Copy, Loan, Shelf
from .library.own import own_name

FIELDS = ["title", "isbn", "author", "publisher", "genres", "price", "status", "published", "details"]


class Own:
    def get_queryset(self):
        return super().get_queryset().filter(title__endswith=own_name(self.request))


class BookList(Own, generic.ListView):
    model = Book
    paginate_by = 4
    title = "Books"


class BookDetail(generic.DetailView):
    model = Book


class BookCreate(LoginRequiredMixin, generic.CreateView):
    model = Book
    fields = FIELDS

    def form_valid(self, form):
        messages.info(self.request, "the book was made")
        return super().form_valid(form)


class BookUpdate(LoginRequiredMixin, generic.UpdateView):
    model = Book
    fields = FIELDS


class BookDelete(LoginRequiredMixin, generic.DeleteView):
    model = Book
    success_url = "/books/"


class BookArchive(Own, generic.ArchiveIndexView):
    model = Book
    date_field = "published"
    allow_future = True


class BookYear(Own, generic.YearArchiveView):
    model = Book
    date_field = "published"
    make_object_list = True
    allow_future = True


def visits(request):
    """A counter in the session, and a block in which nothing is asked."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    with transaction.atomic():
        pass
    books = {"books": Book.objects.filter(title__endswith=own_name(request)).count()}
    return JsonResponse({"visits": request.session["visits"], **books, "user": str(request.user)})


def rise(request, pk):
    """Half of it is undone: the inner block's writes are gone, the outer one's stay."""
    with transaction.atomic():
        book = Book.objects.select_for_update().get(pk=pk)
        book.price += 1
        book.save(update_fields=["price"])
        try:
            with transaction.atomic():
                Book.objects.filter(pk=pk).update(title="lost")
                raise KeyError
        except KeyError:
            pass
    return HttpResponseRedirect(book.get_absolute_url())


def broken(request):
    """A server error after a write that is rolled back, and one that is not."""
    Author.objects.filter(name=f"Nobody {own_name(request)}").update(biography="seen")
    with transaction.atomic():
        Author.objects.create(name="Never")
        raise RuntimeError("on purpose")


def report(request):
    """Rows read while the body is sent, each with a query of its own."""

    of = own_name(request)

    def lines():
        for loan in Loan.objects.filter(reader__name__endswith=of).iterator(chunk_size=2):
            yield f"{loan.copy.book.title};{loan.reader.name};{loan.lent}\n"

    return StreamingHttpResponse(lines(), content_type="text/csv")


async def shelves(request):
    """An async view among the sync ones, with the session and the user."""
    user = await request.auser()
    await request.session.aset("seen", await request.session.aget("seen", 0) + 1)
    own = Copy.objects.filter(book__title__endswith=request.GET["of"])
    found = [f"{shelf} {await own.filter(shelf=shelf).acount()}" async for shelf in Shelf.objects.order_by("code")]
    return HttpResponse(f"{user}: {found} {await request.session.aget('seen')}")
