"""Every kind of relation that Django has, and every kind of inheritance."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

# -- plain relations ---------------------------------------------------------------------------------------------------


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)
    mentor = models.ForeignKey("self", models.SET_NULL, null=True, related_name="pupils")

    class Meta:
        ordering: ClassVar = ["name"]


class Tag(models.Model):
    word = models.CharField(max_length=50)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    content_object = GenericForeignKey()


class Remark(models.Model):
    """About anything, other remarks included."""

    text = models.CharField(max_length=50)
    about_type = models.ForeignKey(ContentType, models.CASCADE)
    about_key = models.CharField(max_length=36)
    about = GenericForeignKey("about_type", "about_key")
    replies = GenericRelation("self", "about_key", "about_type", related_query_name="replied_to")


class Genre(models.Model):
    label = models.CharField(max_length=50)

    class Meta:
        ordering: ClassVar = ["-label"]


class Book(models.Model):
    title = models.CharField(max_length=50)
    author = models.ForeignKey(Author, models.CASCADE, db_column="AuthorID")
    editor = models.ForeignKey(Author, models.SET_NULL, null=True, related_name="edited")
    translator = models.ForeignKey(
        Author, models.DO_NOTHING, null=True, to_field="name", related_name="translated", db_constraint=False
    )
    hidden = models.ForeignKey(Author, models.CASCADE, null=True, related_name="+")
    genres = models.ManyToManyField(Genre, related_name="books")
    readers = models.ManyToManyField(Author, through="Reading", through_fields=("book", "reader"), related_name="reads")
    secret_genres = models.ManyToManyField(Genre, related_name="+", db_table="shop_secret")
    tags = GenericRelation(Tag, related_query_name="book")

    class Meta:
        ordering: ClassVar = ["title", "-pk"]


class Reading(models.Model):
    """An explicit ``through`` with two keys to the same model."""

    book = models.ForeignKey(Book, models.CASCADE)
    reader = models.ForeignKey(Author, models.CASCADE, related_name="readings")
    recommended_by = models.ForeignKey(Author, models.CASCADE, null=True, related_name="recommendations")
    stars = models.IntegerField(default=0)


class Cover(models.Model):
    book = models.OneToOneField(Book, models.CASCADE)
    colour = models.CharField(max_length=20, default="")


class Shade(models.Model):
    """A one-to-one that is the primary key, on one that has its own."""

    cover = models.OneToOneField(Cover, models.CASCADE, primary_key=True, related_name="shade")
    depth = models.IntegerField(default=0)


class Person(models.Model):
    name = models.CharField(max_length=50)
    friends = models.ManyToManyField("self")
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")
    colleagues = models.ManyToManyField("self", through="Colleague", through_fields=("left", "right"))


class Colleague(models.Model):
    left = models.ForeignKey(Person, models.CASCADE, related_name="+")
    right = models.ForeignKey(Person, models.CASCADE, related_name="+")


class Country(models.Model):
    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=50)


class Town(models.Model):
    """Two columns of its own make the key of the other side: ``ForeignObject``."""

    name = models.CharField(max_length=50)
    code = models.CharField(max_length=2)
    year = models.IntegerField(default=0)
    country = models.ForeignObject(
        Country, models.DO_NOTHING, from_fields=["code"], to_fields=["code"], related_name="towns", null=True
    )


class Shelf(models.Model):
    name = models.CharField(max_length=50)


class Deed(models.Model):
    """One key for each ``on_delete``."""

    name = models.CharField(max_length=50, default="")
    cascade = models.ForeignKey(Shelf, models.CASCADE, null=True, related_name="by_cascade")
    protect = models.ForeignKey(Shelf, models.PROTECT, null=True, related_name="by_protect")
    restrict = models.ForeignKey(Shelf, models.RESTRICT, null=True, related_name="by_restrict")
    set_null = models.ForeignKey(Shelf, models.SET_NULL, null=True, related_name="by_set_null")
    nothing = models.ForeignKey(Shelf, models.DO_NOTHING, null=True, related_name="by_nothing")


# -- keys and tables ---------------------------------------------------------------------------------------------------


class Line(models.Model):
    pk = models.CompositePrimaryKey("order", "number")
    order = models.CharField(max_length=20)
    number = models.IntegerField()
    text = models.CharField(max_length=50, default="")


class LineOfAuthor(models.Model):
    pk = models.CompositePrimaryKey("author_id", "number")
    number = models.IntegerField()
    author = models.ForeignKey(Author, models.CASCADE, related_name="lines")


class Constrained(models.Model):
    a = models.IntegerField()
    b = models.IntegerField(db_index=True)
    c = models.CharField(max_length=10, unique=True, db_column="See")

    class Meta:
        db_table = "Odd Table"
        unique_together: ClassVar = [("a", "b")]
        constraints: ClassVar = [models.UniqueConstraint(fields=["b", "c"], name="b_and_c")]
        indexes: ClassVar = [models.Index(fields=["a", "-c"], name="a_then_c")]


class Unmanaged(models.Model):
    """A second model on a table, which somebody else made."""

    name = models.CharField(max_length=50, db_column="label")

    class Meta:
        managed = False
        db_table = "shop_genre"


class InSchema(models.Model):
    """PostgreSQL's tables of another schema, as teams write them."""

    name = models.CharField(max_length=50)
    author = models.ForeignKey(Author, models.CASCADE, related_name="+", null=True)

    class Meta:
        managed = False
        db_table = '"side"."thing"'


# -- inheritance -------------------------------------------------------------------------------------------------------


class Stamped(models.Model):
    stamp = models.CharField(max_length=20, default="stamp")
    owner = models.ForeignKey(Author, models.CASCADE, null=True, related_name="owned_%(class)s")

    class Meta:
        abstract = True


class Place(Stamped):
    name = models.CharField(max_length=50)
    labels = models.ManyToManyField(Genre, related_name="places")

    class Meta:
        ordering: ClassVar = ["name"]


class Restaurant(Place):
    stars = models.IntegerField(default=0)
    chef = models.ForeignKey(Author, models.CASCADE, null=True, related_name="kitchens")


class Pizzeria(Restaurant):
    oven = models.CharField(max_length=20, default="")


class Vehicle(models.Model):
    vehicle_id = models.AutoField(primary_key=True)
    wheels = models.IntegerField(default=4)


class FoodTruck(Restaurant, Vehicle):
    """Two parents with tables."""

    route = models.CharField(max_length=20, default="")


class Bar(Place):
    """The link to the parent under a name of its own."""

    spot = models.OneToOneField(Place, models.CASCADE, parent_link=True, primary_key=True, related_name="as_bar")
    beers = models.IntegerField(default=0)


class Visit(models.Model):
    place = models.ForeignKey(Place, models.CASCADE, related_name="visits")
    restaurant = models.ForeignKey(Restaurant, models.CASCADE, null=True, related_name="dinners")


class StarPlace(Place):
    class Meta:
        proxy = True
        ordering: ClassVar = ["-name"]


class StarRestaurant(Restaurant):
    class Meta:
        proxy = True


class Writer(Author):
    class Meta:
        proxy = True


class Letter(models.Model):
    """A key to a proxy."""

    writer = models.ForeignKey(Writer, models.CASCADE, related_name="letters")


class Swapped(models.Model):
    class Meta:
        swappable = "SHOP_SWAPPED"


RELATIONS: list[type[Any]] = [
    Author,
    Tag,
    Remark,
    Genre,
    Book,
    Reading,
    Cover,
    Shade,
    Person,
    Colleague,
    Country,
    Town,
    Shelf,
    Deed,
    Line,
    LineOfAuthor,
    Constrained,
    Place,
    Restaurant,
    Pizzeria,
    Vehicle,
    FoodTruck,
    Bar,
    Visit,
    Letter,
]
