from django.contrib import admin

from .models import Author, Book, Genre

admin.site.register([Author, Genre])


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    list_display = ["title", "author", "stock"]
    list_select_related = ["author"]
