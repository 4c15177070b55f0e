from functools import partial
from uuid import uuid4

from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F

from catalogue.models import Book

from .models import Line, Order
from .signals import order_placed


class OutOfStock(Exception):
    pass


@transaction.atomic
def place_order(customer, wanted, *, reference=None):
    """``wanted``: how many of which book, by its key."""
    order = Order.objects.create(customer=customer, reference=reference or uuid4().hex)
    books = Book.objects.select_for_update().in_bulk(wanted)
    for pk, quantity in wanted.items():
        if books[pk].stock < quantity:
            raise OutOfStock(books[pk].title)
        Line.objects.create(order=order, book=books[pk], quantity=quantity)
        Book.objects.filter(pk=pk).update(stock=F("stock") - quantity)
    order_placed.send(sender=Order, order=order)
    transaction.on_commit(partial(confirm, order.reference))
    return order


def confirm(reference):
    send_mail(f"Order {reference}", "Thank you.", None, ["reader@example.org"])
