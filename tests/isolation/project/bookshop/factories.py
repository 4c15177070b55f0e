"""The project's factories: sync, as factory_boy's are."""

import factory
from django.contrib.auth import get_user_model

from catalogue.models import Author, Book
from orders.models import Line, Order


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = get_user_model()

    username = factory.Sequence("reader{}".format)
    password = factory.django.Password("secret")


class AuthorFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Author

    name = factory.Faker("name")


class BookFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Book
        skip_postgeneration_save = True

    title = factory.Sequence("Book {}".format)
    isbn = factory.Sequence("978-{:09}".format)
    author = factory.SubFactory(AuthorFactory)
    price = "12.50"
    stock = 3

    @factory.post_generation
    def genres(self, create, extracted, **kwargs):
        if create and extracted:
            self.genres.add(*extracted)


class OrderFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Order

    reference = factory.Sequence("R{}".format)
    customer = factory.SubFactory(UserFactory)


class LineFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Line

    order = factory.SubFactory(OrderFactory)
    book = factory.SubFactory(BookFactory)
    quantity = 1
