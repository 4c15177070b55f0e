"""The same rows for each run, whoever serves them: everything of client 3 is named "... of 3", with ids from 300."""

import datetime

from django.contrib.auth.models import Permission, User
from django.db import connection, models

from .library.models import Author, Book, Copy, Genre, Loan, Note, Publisher, Reader, Review, Shelf

BOOKS = 12
PASSWORD = "correct horse"
FIRST_NEW_ID = 10001
"""Above it are the ids of what a crawl makes: crawls at once share them out by chance."""


def day(number: int) -> datetime.date:
    return datetime.date(2019, 11, 20) + datetime.timedelta(days=17 * number)


def fill(clients: int) -> None:
    publishers = [
        Publisher.objects.create(pk=n, name=name, country=country, founded=day(-90 * n))
        for n, (name, country) in enumerate([("Aal", "de"), ("Brie", "fr"), ("Cusco", "pe")], 1)
    ]
    genres = [Genre.objects.create(code=code, label=code.title()) for code in ("crime", "poetry", "travel")]
    genres.append(Genre.objects.create(code="noir", label="Noir", parent=genres[0]))
    shelves = [Shelf.objects.create(code=f"S{n}", room=f"room {n}") for n in range(3)]
    for n in range(1, clients + 1):
        _fill_for(n, publishers, genres, shelves)
    long_ago = datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC)
    Book.objects.update(created=long_ago, changed=long_ago)
    User.objects.update(date_joined=long_ago)
    _start_ids()


def _fill_for(n: int, publishers: list, genres: list, shelves: list) -> None:
    base = 100 * n
    User.objects.create_superuser(f"admin-of-{n}", "admin@example.com", PASSWORD, pk=base + 1)
    clerk = User.objects.create_user(f"clerk-of-{n}", password=PASSWORD, is_staff=True, pk=base + 2)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["view_book", "view_author", "change_author"]))
    User.objects.create_user(f"reader-of-{n}", password=PASSWORD, pk=base + 3)
    authors = [
        Author.objects.create(
            pk=base + k, name=f"{name} of {n}", born=day(-400 * k), biography="<b>no</b> & \u00e9\U0001f600"
        )
        for k, name in enumerate(["Adele", "B\u00e9la", "Nobody"], 1)
    ]
    readers = [
        Reader.objects.create(pk=base + k, name=f"{name} of {n}", joined=day(k)) for k, name in enumerate("XYZ", 1)
    ]
    for k in range(1, BOOKS + 1):
        book = Book.objects.create(
            pk=base + k,
            title=f"Book {k} of {n}",
            isbn=f"978-{base + k}",
            author=authors[k % 2],
            publisher=publishers[k % 3] if k % 4 else None,
            published=day(k) if k % 5 else None,
            price=f"{k}.{k:02}",
            status="dpg"[k % 3],
            details={"pages": k * 10, "tags": ["a", None, 1.5], "n\u00f6": {"x": k > 3}},
            rare=k % 2 == 0,
        )
        book.genres.set(genres[: k % 4])
        for c in range(k % 3):
            bought = datetime.datetime(2020, 2, k, 8, 30, tzinfo=datetime.UTC) if c else None
            copy = Copy.objects.create(
                pk=base + 2 * k + c, book=book, shelf=shelves[c], barcode=f"{n}-{k}-{c}", bought=bought
            )
            Loan.objects.create(
                pk=base + 2 * k + c,
                copy=copy,
                reader=readers[k % 3],
                lent=day(k),
                returned=day(k + 1) if c else None,
                fine=datetime.timedelta(hours=30 * k, microseconds=k) if c else None,
            )
        Review.objects.create(pk=base + k, book=book, reader=readers[k % 3], stars=1 + k % 5, text=f"{k}")
        Note.objects.create(pk=base + k, about=book if k % 2 else authors[k % 3], text=f"note {k} of {n}")
    readers[0].favourites.set(Book.objects.filter(pk__in=[base + 1, base + 2]))


def _start_ids() -> None:
    with connection.cursor() as cursor:
        for table, column in _generated():
            if connection.vendor == "postgresql":
                cursor.execute(
                    "SELECT setval(pg_get_serial_sequence(%s, %s), %s)", [f'"{table}"', column, FIRST_NEW_ID - 1]
                )
            elif connection.vendor == "mysql":
                cursor.execute(f"ALTER TABLE `{table}` AUTO_INCREMENT = {FIRST_NEW_ID}")
            else:
                cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
                cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, FIRST_NEW_ID - 1])


def _generated() -> list[tuple[str, str]]:
    from django.apps import apps

    return [
        (model._meta.db_table, model._meta.pk.column)
        for model in apps.get_models(include_auto_created=True)
        if isinstance(model._meta.pk, models.AutoField)
    ]
