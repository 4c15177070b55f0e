"""Fixtures of the project's own tests."""

import pytest
from django.test import SimpleTestCase

from bookshop import factories
from bookshop.leftovers import counts
from catalogue.models import Genre


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """One row more for the whole run, as projects load their base data."""
    with django_db_blocker.unblock():
        Genre.objects.create(name="House choice")


@pytest.fixture(autouse=True)
def _starts_empty(request):
    """Unittest's classes see to it themselves."""
    of_unittest = request.cls is not None and issubclass(request.cls, SimpleTestCase)
    asks = request.node.get_closest_marker("django_db") or {"db", "transactional_db"} & set(request.fixturenames)
    if asks and not of_unittest:
        request.getfixturevalue("db")
        assert counts() == {}, "left by an earlier test"


@pytest.fixture
def author(db):
    return factories.AuthorFactory(name="Ende")


@pytest.fixture
def momo(author):
    return factories.BookFactory(title="Momo", isbn="111", author=author)


@pytest.fixture
def reader(db):
    return factories.UserFactory()
