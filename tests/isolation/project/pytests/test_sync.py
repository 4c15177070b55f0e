"""pytest's way, sync: fixtures make rows, clients read them."""

import pytest
from asgiref.sync import async_to_sync
from django.core import mail
from django.core.management import call_command
from django.db import connection

from bookshop.factories import BookFactory
from catalogue import views
from catalogue.models import Book, Genre
from orders.models import Event
from orders.services import OutOfStock, place_order

pytestmark = pytest.mark.django_db


async def count():
    return await Book.objects.acount()


@pytest.mark.parametrize("path", ["/books/", "/async/books/"])
def test_the_client_sees_the_rows_of_fixtures(client, momo, path):
    assert [book["title"] for book in client.get(path).json()["books"]] == ["Momo"]


@pytest.mark.parametrize("number", range(3))
def test_each_case_starts_alike(client, momo, number):
    BookFactory.create_batch(number)
    assert len(client.get("/async/books/").json()["books"]) == number + 1


def test_queries_are_counted(client, momo, django_assert_num_queries):
    with django_assert_num_queries(2):
        client.get("/async/books/")


def test_too_many_queries_are_told(django_assert_max_num_queries):
    with pytest.raises(pytest.fail.Exception), django_assert_max_num_queries(1):
        async_to_sync(count)()
        Book.objects.count()


def test_hooks_are_captured(momo, reader, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True) as hooks:
        place_order(reader, {momo.pk: 1}, reference="A1")
    assert (len(hooks), [sent.subject for sent in mail.outbox]) == (1, ["Order A1"])


def test_hooks_do_not_run_by_themselves(momo, reader):
    place_order(reader, {momo.pk: 1})
    assert mail.outbox == []


def test_a_refused_order_leaves_nothing(momo, reader):
    with pytest.raises(OutOfStock):
        place_order(reader, {momo.pk: 9})
    assert not Event.objects.exists()


@pytest.mark.parametrize("path", ["/checkout/", "/async/checkout/"])
def test_a_reader_buys(client, momo, reader, path):
    client.force_login(reader)
    assert client.post(path, {momo.pk: 2}).status_code == 201
    momo.refresh_from_db()
    assert momo.stock == 1


def test_a_view_called_by_hand(rf, momo):
    assert b"Momo" in async_to_sync(views.abook_detail)(rf.get("/"), pk=momo.pk).content


def test_the_admin_is_there(admin_client, momo):
    assert b"Momo" in admin_client.get("/admin/catalogue/book/").content


def test_the_command_restocks(momo, capsys):
    call_command("restock", "--below", "5", "--to", "7")
    momo.refresh_from_db()
    assert (momo.stock, capsys.readouterr().out) == (7, "Momo\n")


def test_the_base_data_of_the_run_are_there():
    assert Genre.objects.filter(name="House choice").exists()


def test_settings_are_overridden(client, settings):
    settings.LOGIN_URL = "/elsewhere/"
    assert client.get("/async/orders/x/").headers["Location"].startswith("/elsewhere/")


@pytest.mark.django_db(transaction=True)
def test_a_transactional_test_commits(client, momo, reader):
    assert not connection.in_atomic_block
    client.force_login(reader)
    client.post("/async/checkout/", {momo.pk: 1})
    assert len(mail.outbox) == 1


def test_the_live_server_serves(live_server, transactional_db):
    from urllib.request import urlopen

    BookFactory(title="Momo")
    with urlopen(f"{live_server.url}/async/books/", timeout=30) as reply:
        assert b"Momo" in reply.read()
