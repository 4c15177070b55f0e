"""What one client does, step by step; a step that does not find its form is given up, and the next one goes on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from .browser import Browser, Page
from .fixture import PASSWORD

MODELS = ["author", "book", "copy", "genre", "loan", "note", "publisher", "reader", "review", "shelf"]


@dataclass(frozen=True)
class Client:
    """``number`` says whose objects; ``alone``, whether lists that show everybody's objects are looked at as well."""

    number: int
    alone: bool
    links_of_a_kind: int = 1
    """How many links are followed that are the same but for numbers and values."""

    @property
    def base(self) -> int:
        return 100 * self.number

    @property
    def of(self) -> str:
        return f"of {self.number}"

    def book(self, k: int, page: str = "change/") -> str:
        return f"/admin/library/book/{self.base + k}/{page}"


Step = Callable[[Browser, Client], Awaitable[object]]
STEPS: list[Step] = []


def step(function: Step) -> Step:
    STEPS.append(function)
    return function


def only_alone(function: Step) -> Step:
    """For steps that look at, or change, what is everybody's."""

    async def do(b: Browser, me: Client) -> None:
        if me.alone:
            await function(b, me)

    do.__name__ = function.__name__
    return do


async def crawl(browser: Browser, me: Client) -> list[tuple[str, list[dict]]]:
    """Each step's name, and the answers that it got."""
    seen = []
    for function in STEPS:
        browser.answers = []
        try:
            await function(browser, me)
        except Exception as err:
            browser.answers.append({"asked": "given up", "failed": f"{type(err).__name__}: {err}"})
        seen.append((function.__name__, browser.answers))
    return seen


async def sign_in(b: Browser, name: str, password: str = PASSWORD, at: str = "/admin/login/?next=/admin/") -> Page:
    page = await b.get(at)
    return await b.submit(page, "username", {"username": name, "password": password})


# Signing in and out


@step
async def nobody_is_sent_to_the_login(b: Browser, me: Client) -> None:
    await b.get("/admin/")
    await b.get(me.book(1))
    await b.get("/books/add/")
    await b.post("/admin/library/book/add/", {"title": "x"})
    await b.get(f"/visits/?of={me.of}")


@step
async def wrong_and_right_passwords(b: Browser, me: Client) -> None:
    await sign_in(b, f"admin-of-{me.number}", "wrong")
    await sign_in(b, f"reader-of-{me.number}")  # right, but not of the staff
    await sign_in(b, "nobody-at-all")
    await sign_in(b, f"reader-of-{me.number}", at=f"/accounts/login/?next=/visits/%3Fof={me.of}")
    await b.get(f"/visits/?of={me.of}")
    await b.post("/accounts/logout/")
    await b.get(f"/visits/?of={me.of}")


@step
async def clerks_see_what_they_may(b: Browser, me: Client) -> None:
    await sign_in(b, f"clerk-of-{me.number}")
    await b.get(me.book(1))
    await b.get("/admin/library/loan/")
    await b.post(me.book(1), {"title": "mine"})
    page = await b.get(f"/admin/library/author/{me.base + 1}/change/")
    await b.submit(page, "author_form", {"born": "1970-01-01"}, "_save")
    await b.post("/admin/logout/")


@step
async def the_admin_signs_in(b: Browser, me: Client) -> None:
    await sign_in(b, f"admin-of-{me.number}")


# Every page that is linked to


@step
@only_alone
async def each_link_of_the_admin(b: Browser, me: Client) -> None:
    waiting, kinds = ["/admin/"], Counter()
    for path in waiting:
        page = await b.get(path)
        for link in page.links:
            place = urlsplit(link)._replace(fragment="")
            names = [name for name, _ in parse_qsl(place.query, keep_blank_values=True)]
            if not place.path.startswith("/admin/") or "_changelist_filters" in names or (names and "?" in path):
                continue  # filters of filters have no end
            kind = re.sub(r"/\d+/", "/N/", place.path), *names
            kinds[kind] += 1
            if kinds[kind] <= me.links_of_a_kind and place.geturl() not in waiting:
                waiting.append(place.geturl())


@step
async def lists_searched_ordered_and_paged(b: Browser, me: Client) -> None:
    books, of = "/admin/library/book/?", f"q=of+{me.number}"
    for query in (
        "",
        "&p=2",
        "&p=99",
        "&all=",
        "&o=3.-4",
        "&status__exact=p&rare__exact=1",
        "&genres__code__exact=crime",
    ):
        await b.get(f"{books}{of}{query}")
    await b.get(f"{books}{of}&published__year=2020&published__month=3")
    await b.get(f"{books}q=978-{me.base + 4}")
    await b.get(f"{books}nonsense=1")
    await b.get(f"{books}publisher__id__exact=nonsense")
    await b.get(f"/admin/library/author/?q=B%C3%A9la+{me.number}")


@step
@only_alone
async def each_models_pages(b: Browser, me: Client) -> None:
    for model in MODELS:
        place = f"/admin/library/{model}/"
        for query in ("?o=-2", "?all=&q=of", "?e=1"):
            await b.get(place + query)
        page = await b.get(f"{place}add/")
        await b.submit(page, f"{model}_form", {}, "_save")  # nothing filled in
        key = {"genre": "crime", "publisher": "1", "shelf": "S1"}.get(model, str(me.base + 2))
        page = await b.get(f"{place}{key}/change/")
        await b.submit(page, f"{model}_form", {}, "_continue")  # nothing changed
    await b.get("/admin/library/book/999999/change/")
    await b.get("/admin/library/nothing/")


@step
async def completions(b: Browser, me: Client) -> None:
    place = "/admin/autocomplete/?app_label=library&"
    await b.get(f"{place}model_name=book&field_name=author&term=of+{me.number}")
    await b.get(f"{place}model_name=review&field_name=book&term=x")
    await b.get(f"{place}model_name=loan&field_name=copy&term={me.number}-")
    await b.get(f"{place}model_name=nothing&field_name=author")


# Writing


@step
async def a_book_is_added_with_its_inlines(b: Browser, me: Client) -> None:
    page = await b.get("/admin/library/book/add/")
    filled = {
        "title": f"New {me.of}",
        "isbn": f"979-{me.base}",
        "author": str(me.base + 1),
        "publisher": "2",
        "genres": ["crime", "poetry"],
        "published": "2020-03-01",
        "price": "12.50",
        "details": '{"a": [1, "\u00e9"]}',
        "copies-0-shelf": "S1",
        "copies-0-barcode": f"{me.number}-new",
        "copies-0-bought_0": "2020-03-02",
        "copies-0-bought_1": "10:20:30",
        "reviews-0-reader": str(me.base + 2),
        "reviews-0-stars": "4",
        "library-note-content_type-object_id-0-text": f"a note {me.of}",
    }
    wrong = {**filled, "price": "-1", "details": "{", "published": "no day", "copies-0-barcode": f"{me.number}-1-0"}
    await b.submit(page, "book_form", wrong, "_save")
    await b.submit(page, "book_form", {**filled, "reviews-0-stars": "9"}, "_save")
    await b.submit(page, "book_form", {**filled, "isbn": f"978-{me.base + 1}"}, "_save")
    await b.submit(page, "book_form", {**filled, "title": f"Book 2 {me.of}"}, "_save")  # a title that its author has
    await b.submit(page, "book_form", {**filled, "copies-TOTAL_FORMS": None}, "_save")
    await b.submit(page, "book_form", filled, "_continue")
    await b.submit(page, "book_form", filled, "_save")  # once more: its number is taken now


@step
async def inlines_are_changed_added_and_deleted(b: Browser, me: Client) -> None:
    page = await b.get(me.book(5))
    changes = {
        "title": f"Changed {me.of}",
        "genres": ["travel"],
        "copies-0-barcode": f"{me.number}-5-x",
        "copies-1-DELETE": "on",
        "copies-2-shelf": "S2",
        "copies-2-barcode": f"{me.number}-5-y",
        "reviews-0-DELETE": "on",
        "reviews-1-reader": str(me.base + 1),
        "reviews-1-stars": "2",
        "library-note-content_type-object_id-0-urgent": "true",
        "library-note-content_type-object_id-1-text": f"second {me.of}",
    }
    taken = {**changes, "copies-0-barcode": f"{me.number}-2-0"}
    await b.submit(page, "book_form", taken, "_save")
    await b.submit(page, "book_form", changes, "_save")
    await b.get(me.book(5, "history/"))
    page = await b.get(me.book(5))
    other = {"title": f"Saved as {me.of}", "isbn": f"980-{me.base}"}
    await b.submit(page, "book_form", other, "_saveasnew")  # its copies cannot be copied
    barcodes = {"copies-0-barcode": f"{me.number}-z", "copies-1-barcode": f"{me.number}-zz"}
    await b.submit(page, "book_form", {**other, **barcodes}, "_saveasnew")
    page = await b.get(f"/admin/library/reader/{me.base + 2}/change/")
    loan = {"loan_set-0-lent": "2020-05-05", "loan_set-0-returned": "2020-05-04"}  # returned before it was lent
    await b.submit(page, "reader_form", loan, "_save")
    loan = {"loan_set-0-returned": "2021-05-04", "loan_set-0-fine": "3 04:05:06.000007"}
    await b.submit(page, "reader_form", {**loan, "favourites": [str(me.base + 3)]}, "_addanother")


@step
async def lists_are_edited(b: Browser, me: Client) -> None:
    page = await b.get(f"/admin/library/book/?q=of+{me.number}&o=1")
    await b.submit(page, "changelist-form", {"form-0-price": "99.99", "form-1-status": "g"}, "_save")
    await b.submit(page, "changelist-form", {"form-0-price": "1e9", "form-1-status": "?"}, "_save")


async def act(b: Browser, url: str, action: str, *keys: int, across: str = "0") -> Page:
    page = await b.get(url)
    chosen = {"action": action, "_selected_action": [str(key) for key in keys], "select_across": across, "index": "0"}
    return await b.submit(page, "changelist-form", chosen)


@step
async def actions(b: Browser, me: Client) -> None:
    books = f"/admin/library/book/?q=of+{me.number}"
    await act(b, books, "print_them", me.base + 6, me.base + 7)
    await act(b, f"{books}&rare__exact=1", "print_them", me.base + 2, across="1")
    await act(b, books, "fail_halfway", me.base + 9, me.base + 11)
    await act(b, books, "print_them")
    await act(b, books, "no_such_action", me.base + 6)
    page = await act(b, books, "delete_selected", me.base + 6, me.base + 7)
    await b.submit(page, "_selected_action", {})
    authors = f"/admin/library/author/?q=of+{me.number}"
    await act(b, authors, "delete_selected", me.base + 1)  # protected by its books


@step
async def deletions(b: Browser, me: Client) -> None:
    page = await b.get(me.book(8, "delete/"))
    await b.submit(page, "post", {})
    await b.get(me.book(8))
    page = await b.get(f"/admin/library/author/{me.base + 2}/delete/")
    await b.post(page.url, {"post": "yes"})
    if me.alone:
        await b.post("/admin/library/shelf/S0/delete/", {"post": "yes"})  # restricted by everybody's copies
    await b.post(f"/admin/library/note/{me.base + 3}/delete/", {"post": "yes"})


@step
async def a_view_of_the_admin_with_a_transaction(b: Browser, me: Client) -> None:
    await b.get(f"/admin/library/author/{me.base + 1}/merge/{me.base + 3}/")
    await b.get(f"/admin/library/author/{me.base + 1}/merge/{me.base + 3}/")  # it is gone
    page = await b.get("/admin/library/author/add/")
    await b.submit(page, "author_form", {"name": f"Last {me.of}", "email": f"{me.number}@example.com"}, "_save")
    await b.submit(page, "author_form", {"name": f"Twin {me.of}", "email": f"{me.number}@example.com"}, "_save")
    await b.get(f"/admin/library/author/{me.base + 1}/merge/{me.base + 2}/")


@step
async def class_based_views(b: Browser, me: Client) -> None:
    for query in ("", "&page=2", "&page=last", "&page=99"):
        await b.get(f"/books/?of={me.of}{query}")
    await b.get(f"/books/{me.base + 2}/")
    await b.get("/books/999999/")
    await b.get(f"/books/archive/?of={me.of}")
    await b.get(f"/books/2020/in/?of={me.of}")
    await b.get("/books/1999/in/")
    page = await b.get("/books/add/")
    book = {
        "title": f"By a view {me.of}",
        "isbn": f"981-{me.base}",
        "author": str(me.base + 1),
        "genres": ["poetry"],
        "price": "3",
        "details": "{}",
    }
    await b.submit(page, "title", {**book, "price": "", "author": "0", "genres": ["nothing"]})
    await b.submit(page, "title", book)
    await b.submit(page, "title", book)
    page = await b.get(f"/books/{me.base + 10}/change/")
    await b.submit(page, "title", {"price": "77.70", "published": "2020-06-06"})
    page = await b.get(f"/books/{me.base + 10}/delete/")
    await b.post(page.url)
    await b.get(f"/books/{me.base + 10}/")


@step
async def views_with_transactions(b: Browser, me: Client) -> None:
    for _ in range(3):
        await b.get(f"/visits/?of={me.of}")
        await b.get(f"/shelves/?of={me.of}")
        await b.get(f"/books/{me.base + 1}/rise/")
    await b.get("/books/999999/rise/")
    await b.get("/broken/")
    await b.get(f"/report/?of={me.of}")
    await b.get("/nowhere/")


# People


@step
async def people(b: Browser, me: Client) -> None:
    page = await b.get("/admin/auth/user/add/")
    name = f"new-of-{me.number}"
    await b.submit(page, "user_form", {"username": name, "password1": "abc", "password2": "abd"}, "_save")
    await b.submit(page, "user_form", {"username": name, "password1": PASSWORD, "password2": PASSWORD}, "_save")
    await b.submit(page, "user_form", {"username": name, "password1": PASSWORD, "password2": PASSWORD}, "_save")
    reader = f"/admin/auth/user/{me.base + 3}/"
    page = await b.get(f"{reader}change/")
    await b.submit(page, "user_form", {"first_name": "R", "is_staff": "on", "user_permissions": ["1", "2"]}, "_save")
    page = await b.get(f"{reader}password/")
    await b.submit(page, "user_form", {"password1": "short", "password2": "short"})
    await b.submit(page, "user_form", {"password1": "another horse", "password2": "another horse"})
    if me.alone:
        page = await b.get("/admin/auth/group/add/")
        await b.submit(page, "group_form", {"name": f"group of {me.number}", "permissions": ["3", "4"]}, "_save")
        await b.submit(page, "group_form", {"name": ""}, "_save")
    await b.get(f"/admin/auth/user/?q=of-{me.number}")


@step
async def the_own_password(b: Browser, me: Client) -> None:
    page = await b.get("/admin/password_change/")
    new = {"new_password1": "a new horse", "new_password2": "a new horse"}
    await b.submit(page, "old_password", {"old_password": "wrong", **new})
    await b.submit(page, "old_password", {"old_password": PASSWORD, **new, "new_password2": "other"})
    await b.submit(page, "old_password", {"old_password": PASSWORD, **new})
    await b.get("/admin/")  # still signed in
    await b.post("/admin/logout/")
    await b.get("/admin/")
    await sign_in(b, f"admin-of-{me.number}")
    await sign_in(b, f"admin-of-{me.number}", "a new horse")
    await b.post("/admin/logout/")
    await sign_in(b, f"reader-of-{me.number}", "another horse")
    await b.get("/accounts/logout/")  # GET is refused
    await b.post("/accounts/logout/")
