"""Rows of more than one table, and the order of collections."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.test.utils import isolate_apps
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from django_bridge import atomic, mapped, session


async def test_a_child_of_two_tables_is_read_and_written(shop: Any) -> None:
    m = shop.relations
    shop.in_plain_thread(lambda: m.FoodTruck.objects.create(name="t", stars=3, wheels=6, route="north"))
    FoodTruck, Restaurant, Vehicle = mapped(m.FoodTruck), mapped(m.Restaurant), mapped(m.Vehicle)
    async with atomic() as db:
        truck = (await db.scalars(select(FoodTruck))).one()
        assert (truck.name, truck.stars, truck.wheels, truck.route) == ("t", 3, 6, "north")
        assert (await db.scalars(select(Vehicle))).one().wheels == 6
        assert (await db.scalars(select(Restaurant))).one().stars == 3
        truck.wheels, truck.name = 8, "changed"
        await db.flush()
        assert (await db.scalars(select(FoodTruck.route).where(FoodTruck.wheels == 8))).all() == ["north"]
    row = await m.FoodTruck.objects.aget()
    assert (row.name, row.wheels) == ("changed", 8)
    async with atomic() as db:
        db.add(FoodTruck(name="new", stars=1, wheels=4, route="south"))
    row = await m.FoodTruck.objects.aget(name="new")
    assert (row.wheels, row.stars, row.route, row.stamp) == (4, 1, "south", "stamp")
    async with atomic() as db:
        await db.delete((await db.scalars(select(FoodTruck).where(FoodTruck.name == "new"))).one())
    assert await m.FoodTruck.objects.acount() == 1
    assert await m.Vehicle.objects.acount() == 1
    assert await m.Place.objects.acount() == 1


def test_classes_inherit_as_models_do(request: Any) -> None:
    from tests.mapping.conftest import relations as m

    Place, Restaurant, Pizzeria, StarPlace, StarRestaurant = (
        mapped(getattr(m, name)) for name in ("Place", "Restaurant", "Pizzeria", "StarPlace", "StarRestaurant")
    )
    assert issubclass(Pizzeria, Restaurant)
    assert issubclass(Restaurant, Place)
    assert StarPlace is not Place
    assert StarPlace.__table__ is Place.__table__
    assert {"id", "name", "stamp", "owner_id"} <= set(Place.__mapper__.columns.keys())
    assert {"id", "name", "stars", "oven", "place_ptr_id"} <= set(Pizzeria.__mapper__.columns.keys())
    assert {"stars", "chef_id"} <= set(StarRestaurant.__mapper__.columns.keys())


@isolate_apps("tests.mapping.shop")
def test_a_second_parent_may_have_a_parent_itself() -> None:
    class Machine(models.Model):
        machine_id = models.AutoField(primary_key=True)
        volts = models.IntegerField(default=1)

        class Meta:
            app_label = "shop"

    class Oven(Machine):
        heat = models.IntegerField(default=1)

        class Meta:
            app_label = "shop"

    class Room(models.Model):
        size = models.IntegerField(default=1)

        class Meta:
            app_label = "shop"

    class Bakery(Room, Oven):
        class Meta:
            app_label = "shop"

    Mapped = mapped(Bakery)
    bakery = Mapped(size=1, heat=2, volts=3)
    assert (bakery.size, bakery.heat, bakery.volts) == (1, 2, 3)
    printed = str(select(Mapped).where(Mapped.oven_ptr_id == 1, Mapped.volts == 2))
    for table in ("shop_room", "shop_bakery", "shop_oven", "shop_machine"):
        assert f'"{table}"' in printed


async def test_a_select_of_the_parent_gives_parents_only(shop: Any) -> None:
    m = shop.relations
    shop.in_plain_thread(lambda: [m.Place.objects.create(name="a"), m.Restaurant.objects.create(name="b", stars=1)])
    Place, Restaurant = mapped(m.Place), mapped(m.Restaurant)
    async with session() as db:
        rows = (await db.scalars(select(Place).order_by(Place.name).options(joinedload(Place.restaurant)))).all()
        assert [type(row) for row in rows] == [Place, Place]
        assert rows[0].restaurant is None
        assert type(rows[1].restaurant) is Restaurant
        assert rows[1].restaurant.stars == 1
        found = (await db.scalars(select(Restaurant).where(Restaurant.name == "b"))).all()
        assert [row.stars for row in found] == [1]


async def test_collections_have_the_order_of_the_meta(shop: Any) -> None:
    m = shop.relations

    def fill() -> Any:
        author = m.Author.objects.create(name="A")
        books = [m.Book.objects.create(title=title, author=author) for title in ("b", "a", "c", "a")]
        genres = [m.Genre.objects.create(label=label) for label in ("x", "z", "y")]
        books[0].genres.set(genres)
        return [(book.title, book.pk) for book in author.book_set.all()]

    wanted = shop.in_plain_thread(fill)
    Author, Book = mapped(m.Author), mapped(m.Book)
    for load in (selectinload, joinedload):
        async with session() as db:
            author = (await db.scalars(select(Author).options(load(Author.book_set)))).unique().one()
            assert [(book.title, book.id) for book in author.book_set] == wanted
            statement = select(Book).where(Book.title == "b").options(load(Book.genres))
            book = (await db.scalars(statement)).unique().one()
            assert [genre.label for genre in book.genres] == ["z", "y", "x"]
