"""What tests leave behind: nothing."""

from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session

from catalogue.models import Author, Book
from orders.models import Event, Line, Order


def counts():
    """How many rows each table has that no migration fills, of those that have any."""
    found = {
        model.__name__: model.objects.count() for model in (get_user_model(), Session, Author, Book, Order, Line, Event)
    }
    return {name: number for name, number in found.items() if number}


class StartsEmpty:
    """For a TestCase: nothing is there at first, and before each test exactly what ``setUpTestData`` has made."""

    made: dict[str, int] = {}

    @classmethod
    def setUpTestData(cls):
        left = counts()
        assert left == {}, f"left by an earlier test: {left}"
        cls.fill()
        cls.made = counts()

    @classmethod
    def fill(cls):
        """Makes the rows of the class."""

    def setUp(self):
        super().setUp()
        self.assertEqual(counts(), self.made, "an earlier test left or lost rows")


class StartsFlushed:
    """For a TransactionTestCase: nothing is there."""

    def setUp(self):
        super().setUp()
        self.assertEqual(counts(), {}, "an earlier test left rows")
