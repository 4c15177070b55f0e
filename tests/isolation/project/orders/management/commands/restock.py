from django.core.management.base import BaseCommand
from django.db import transaction

from catalogue.models import Book
from orders.models import Event


class Command(BaseCommand):
    help = "Orders more of the books that run out."

    def add_arguments(self, parser):
        parser.add_argument("--below", type=int, default=2)
        parser.add_argument("--to", type=int, default=10)

    @transaction.atomic
    def handle(self, *, below, to, **options):
        for book in Book.objects.select_for_update().filter(stock__lt=below):
            book.stock = to
            book.save(update_fields=["stock"])
            Event.objects.create(kind="restocked", reference=book.isbn)
            self.stdout.write(book.title)
