"""The admin of the library: inlines of each kind, actions, and a view of its own with a transaction."""

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.contrib.contenttypes.admin import GenericTabularInline
from django.db import transaction
from django.http import HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import path

from .models import Author, Book, Copy, Genre, Loan, Note, Publisher, Reader, Review, Shelf
from .own import OwnAdmin, own_name


class CopyInline(admin.TabularInline):
    model = Copy
    extra = 1


class ReviewInline(admin.StackedInline):
    model = Review
    extra = 1
    autocomplete_fields = ["reader"]


class NoteInline(GenericTabularInline):
    model = Note
    extra = 1


class LoanInline(admin.TabularInline):
    model = Loan
    extra = 1
    raw_id_fields = ["copy"]


@admin.register(Publisher)
class PublisherAdmin(admin.ModelAdmin):
    list_display = ["name", "country", "founded", "books"]
    list_filter = ["country"]
    radio_fields = {"country": admin.VERTICAL}
    search_fields = ["name"]

    def books(self, publisher):
        return publisher.book_set.count()


@admin.register(Author)
class AuthorAdmin(OwnAdmin):
    own = "name"
    list_display = ["name", "email", "born"]
    search_fields = ["name", "email"]
    inlines = [NoteInline]
    date_hierarchy = "born"

    def get_urls(self):
        own = path("<int:pk>/merge/<int:other>/", self.admin_site.admin_view(self.merge))
        return [own, *super().get_urls()]

    def merge(self, request, pk, other):
        """All or nothing: a title that both authors have is refused by the database."""
        try:
            with transaction.atomic():
                kept = get_object_or_404(Author.objects.select_for_update(), pk=pk)
                for book in Book.objects.filter(author_id=other).order_by("pk"):
                    with transaction.atomic():
                        book.author = kept
                        book.save()
                Author.objects.get(pk=other).delete()
                transaction.on_commit(lambda: messages.success(request, f"{kept} has {kept.books.count()} books"))
        except Author.DoesNotExist:
            messages.error(request, "there is no such author")
        except Exception as err:
            messages.error(request, f"not merged: {type(err).__name__}")
        with transaction.atomic():
            pass
        return HttpResponseRedirect("/admin/library/author/")


@admin.register(Genre)
class GenreAdmin(admin.ModelAdmin):
    list_display = ["code", "label", "parent"]
    prepopulated_fields = {"code": ["label"]}


@admin.register(Book)
class BookAdmin(OwnAdmin):
    own = "title"
    list_display = ["title", "author", "publisher", "price", "status", "published", "copies_now"]
    list_editable = ["price", "status"]
    list_filter = ["status", "rare", "genres", ("publisher", admin.RelatedOnlyFieldListFilter), "published"]
    list_per_page = 5
    list_max_show_all = 1000
    search_fields = ["title", "author__name", "=isbn"]
    date_hierarchy = "published"
    autocomplete_fields = ["author"]
    raw_id_fields = ["publisher"]
    filter_horizontal = ["genres"]
    readonly_fields = ["created", "changed"]
    inlines = [CopyInline, ReviewInline, NoteInline]
    actions = ["print_them", "fail_halfway"]
    save_as = True

    def copies_now(self, book):
        return ", ".join(copy.barcode for copy in book.copies.all())

    @admin.action(description="Print them")
    def print_them(self, request, queryset):
        count = queryset.update(status=Book.Status.PRINTED)
        self.message_user(request, f"{count} printed")

    @admin.action(description="Fail halfway")
    def fail_halfway(self, request, queryset):
        try:
            with transaction.atomic():
                queryset.update(rare=True)
                raise LookupError("halfway")
        except LookupError as err:
            self.message_user(request, f"{err}: {queryset.filter(rare=True).count()} are rare", messages.ERROR)


@admin.register(Shelf)
class ShelfAdmin(admin.ModelAdmin):
    list_display = ["code", "room", "metres"]
    list_display_links = None
    list_editable = ["room"]


@admin.register(Copy)
class CopyAdmin(OwnAdmin):
    own = "book__title"
    list_display = ["barcode", "book", "shelf", "bought"]
    list_select_related = ["book"]
    list_filter = ["shelf", ("bought", admin.EmptyFieldListFilter)]
    search_fields = ["barcode", "book__title"]


@admin.register(Reader)
class ReaderAdmin(OwnAdmin):
    own = "name"
    search_fields = ["name"]
    filter_vertical = ["favourites"]
    inlines = [LoanInline]


@admin.register(Loan)
class LoanAdmin(OwnAdmin):
    own = "reader__name"
    list_display = ["__str__", "lent", "returned"]
    autocomplete_fields = ["copy", "reader"]
    date_hierarchy = "lent"
    list_filter = [("reader", admin.RelatedOnlyFieldListFilter)]
    ordering = ["-lent", "pk"]


@admin.register(Review)
class ReviewAdmin(OwnAdmin):
    own = "book__title"
    list_display = ["book", "reader", "stars"]
    list_filter = ["stars"]


@admin.register(Note)
class NoteAdmin(OwnAdmin):
    own = "text"
    list_display = ["text", "about", "urgent"]
    list_filter = ["urgent", "content_type"]


admin.site.unregister(User)


@admin.register(User)
class OwnUserAdmin(UserAdmin):
    def get_queryset(self, request):
        return super().get_queryset(request).filter(username__endswith=own_name(request).replace(" ", "-"))
