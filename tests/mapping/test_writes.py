"""What a session writes through mapped objects, as Django sees it afterwards; and what ``delete()`` leaves."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError as DjangosIntegrityError
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import selectinload

from django_bridge import atomic, mapped, session, sync_session, table_for
from django_bridge.errors import GeneratedColumn, LazyLoadError

PLAIN = ["name", "constant", "called", "by_enum", "upper", "copied", "empty", "nothing", "number_in_db", "words_in_db",
         "both"]  # fmt: skip


def plain(model: Any) -> list[dict[str, Any]]:
    return list(model.objects.order_by("pk").values(*PLAIN))


@pytest.mark.parametrize(
    "values",
    [
        {"name": "n"},
        {"name": "n", "constant": 0, "empty": "e", "nothing": 5, "number_in_db": 3, "both": 9, "called": []},
        {"name": "n", "upper": "SAID", "copied": "said", "words_in_db": ""},
    ],
)
@pytest.mark.contract
async def test_an_insert_gives_the_row_that_djangos_create_gives(values: dict[str, Any], shop: Any) -> None:
    model = shop.values.Defaults
    Defaults, table = mapped(model), table_for(model)
    shop.in_plain_thread(lambda: model.objects.create(**values))
    async with atomic() as db:
        made = Defaults(**values)
        db.add(made)
        await db.flush()
        assert (made.constant, made.number_in_db, made.both) == (
            values.get("constant", 7),
            values.get("number_in_db", 18),
            values.get("both", 1),
        )
        assert made.words_in_db == values.get("words_in_db", "it's 100%")
        assert made.clock_in_db is not None
        await db.execute(insert(table).values(**values))
        await db.execute(insert(table), [values, values])
        await db.execute(insert(table).values([values, values]))
        db.add_all([Defaults(**values), Defaults(**values)])

    def in_sync() -> None:
        with sync_session() as db:
            db.add(Defaults(**values))

    shop.in_plain_thread(in_sync)
    found = shop.in_plain_thread(plain, model)
    assert len(found) == 10
    for row in found:
        assert row == found[0]

    def others() -> Any:
        rows = list(model.objects.all())
        assert len({row.by_uuid for row in rows}) == len(rows)
        return [
            (row.added.tzinfo, row.changed >= row.added, row.added_on, row.changed_at.tzinfo, row.clock_in_db.tzinfo)
            for row in rows
        ]

    assert len(set(shop.in_plain_thread(others))) == 1


async def test_an_update_moves_auto_now_and_nothing_else(shop: Any) -> None:
    model = shop.values.Defaults
    Defaults = mapped(model)
    shop.in_plain_thread(lambda: [model.objects.create(name=name) for name in ("a", "b", "c")])
    before = {row.name: row async for row in model.objects.all()}
    async with atomic() as db:
        a = (await db.scalars(select(Defaults).where(Defaults.name == "a"))).one()
        a.empty = "changed"
        await db.execute(update(Defaults).where(Defaults.name == "b").values(empty="changed"))
    after = {row.name: row async for row in model.objects.all()}
    for name in "ab":
        assert after[name].changed > before[name].changed
        assert after[name].added == before[name].added
        assert after[name].by_uuid == before[name].by_uuid
        assert after[name].upper == before[name].upper
        assert after[name].empty == "changed"
    assert after["c"].changed == before["c"].changed


async def test_a_generated_column_is_read_after_each_write_and_never_written(shop: Any) -> None:
    model = shop.values.Generated
    Generated = mapped(model)
    async with atomic() as db:
        row = Generated(width=4)
        db.add(row)
        await db.flush()
        assert row.area == 12
        row.height = 5
        await db.flush()
        await db.refresh(row)
        assert row.area == 20
        for statement in (
            insert(Generated).values(area=3),
            update(Generated).values(area=3),
            insert(table_for(model)).values(area=3),
        ):
            with pytest.raises(Exception, match=r"area") as caught:
                await db.execute(statement)
            assert isinstance(caught.value, GeneratedColumn) or isinstance(caught.value.__cause__, GeneratedColumn)
        assert (await db.scalars(select(Generated.area))).one() == 20
        assert (await db.scalars(select(Generated.width).where(Generated.area == 20))).one() == 4
    with pytest.raises(Exception, match=r"Generated\.area") as caught:
        async with atomic() as db:
            (await db.scalars(select(Generated))).one().area = 3
    assert isinstance(caught.value, GeneratedColumn) or isinstance(caught.value.__cause__, GeneratedColumn)
    assert [row.area async for row in model.objects.all()] == [20]


async def test_relations_are_written_in_both_directions(shop: Any) -> None:
    m = shop.relations
    Author, Book, Genre, Person, Cover, Shade = (
        mapped(getattr(m, name)) for name in ("Author", "Book", "Genre", "Person", "Cover", "Shade")
    )
    async with atomic() as db:
        ann, bob = Author(name="Ann"), Author(name="Bob")
        bob.mentor = ann
        book = Book(title="One", author=ann, editor=bob, hidden=ann, translator=bob, genres=[Genre(label="sea")])
        ann.book_set.append(Book(title="Two"))
        art = Genre(label="art")
        art.books.append(book)
        book.secret_genres.append(Genre(label="secret"))
        book.cover = Cover(colour="red", shade=Shade(depth=2))
        db.add_all([ann, bob, book])
        p, q = Person(name="p"), Person(name="q")
        p.follows.append(q)
        db.add_all([p, q])

    def check() -> None:
        one = m.Book.objects.get(title="One")
        assert (one.author.name, one.editor.name, one.hidden.name, one.translator.name) == ("Ann", "Bob", "Ann", "Bob")
        assert m.Book.objects.get(title="Two").author.name == "Ann"
        assert sorted(one.genres.values_list("label", flat=True)) == ["art", "sea"]
        assert list(one.secret_genres.values_list("label", flat=True)) == ["secret"]
        assert (one.cover.colour, one.cover.shade.depth) == ("red", 2)
        assert m.Author.objects.get(name="Bob").mentor.name == "Ann"
        assert [found.name for found in m.Person.objects.get(name="p").follows.all()] == ["q"]
        assert m.Person.objects.get(name="q").followers.get().name == "p"

    shop.in_plain_thread(check)
    async with atomic() as db:
        book = (await db.scalars(select(Book).where(Book.title == "One").options(selectinload(Book.genres)))).one()
        book.genres.pop()
        book.editor_id = None
    assert await m.Book.genres.through.objects.acount() == 1
    assert (await m.Book.objects.aget(title="One")).editor_id is None


async def test_children_are_written_with_their_parents_rows(shop: Any) -> None:
    m = shop.relations
    Place, Restaurant, Pizzeria, Bar, StarPlace = (
        mapped(getattr(m, name)) for name in ("Place", "Restaurant", "Pizzeria", "Bar", "StarPlace")
    )
    async with atomic() as db:
        db.add_all(
            [
                Place(name="bench"),
                Restaurant(name="grill", stars=2),
                Pizzeria(name="ugo", stars=1, oven="wood"),
                Bar(name="bar", beers=3),
                StarPlace(name="star"),
            ]
        )

    def check() -> None:
        assert [place.name for place in m.Place.objects.all()] == ["bar", "bench", "grill", "star", "ugo"]
        assert {place.stamp for place in m.Place.objects.all()} == {"stamp"}
        pizzeria = m.Pizzeria.objects.get()
        assert (pizzeria.name, pizzeria.stars, pizzeria.oven) == ("ugo", 1, "wood")
        assert m.Restaurant.objects.get(name="grill").stars == 2
        assert m.Bar.objects.get().beers == 3
        assert m.StarPlace.objects.get(name="star").stamp == "stamp"

    shop.in_plain_thread(check)
    async with atomic() as db:
        pizzeria = (await db.scalars(select(Pizzeria))).one()
        pizzeria.name, pizzeria.oven = "da ugo", "gas"
        await db.flush()
        grill = (await db.scalars(select(Restaurant).where(Restaurant.name == "grill"))).one()
        await db.delete(grill)

    def check_again() -> None:
        assert m.Pizzeria.objects.get().name == "da ugo"
        assert m.Place.objects.filter(name="grill").count() == 0
        assert m.Restaurant.objects.count() == 1

    shop.in_plain_thread(check_again)


async def test_parent_and_child_of_one_row_are_two_objects(shop: Any) -> None:
    m = shop.relations
    shop.in_plain_thread(lambda: m.Pizzeria.objects.create(name="ugo", stars=1, oven="wood"))
    Place, Restaurant, Pizzeria, StarPlace = (
        mapped(getattr(m, name)) for name in ("Place", "Restaurant", "Pizzeria", "StarPlace")
    )
    async with session() as db:
        for order in ((Place, Restaurant, Pizzeria, StarPlace), (Pizzeria, StarPlace, Restaurant, Place)):
            db.expunge_all()
            found = [(await db.scalars(select(one))).one() for one in order]
            assert [type(row) for row in found] == list(order)
            assert len({id(row) for row in found}) == 4
            pk = found[0].id
            again = [await db.get(one, pk) for one in order]
            assert all(one is other for one, other in zip(found, again, strict=True))


async def test_deleting_a_parents_object_takes_its_childs_row_too_or_is_refused(shop: Any) -> None:
    m = shop.relations
    shop.in_plain_thread(lambda: m.Restaurant.objects.create(name="grill", stars=2))
    Place = mapped(m.Place)
    try:
        async with atomic() as db:
            place = (await db.scalars(select(Place))).one()
            await db.delete(place)
    except (IntegrityError, DjangosIntegrityError):
        assert await m.Restaurant.objects.acount() == 1
        assert await m.Place.objects.acount() == 1
    else:
        assert await m.Place.objects.acount() == 0
        assert await m.Restaurant.objects.acount() == 0


@pytest.mark.parametrize("rule", ["cascade", "set_null", "protect", "restrict", "nothing"])
async def test_delete_follows_on_delete(rule: str, shop: Any) -> None:
    m = shop.relations
    shop.in_plain_thread(lambda: m.Deed.objects.create(name="d", **{rule: m.Shelf.objects.create(name="s")}))
    Shelf = mapped(m.Shelf)

    async def erase() -> None:
        async with atomic() as db:
            shelf = (await db.scalars(select(Shelf))).one()
            await db.delete(shelf)

    if rule in {"protect", "restrict", "nothing"}:
        with pytest.raises((IntegrityError, DjangosIntegrityError)):  # the database's own foreign key, or at the commit
            await erase()
        assert await m.Shelf.objects.acount() == 1
        assert await m.Deed.objects.acount() == 1
        return
    await erase()
    assert await m.Shelf.objects.acount() == 0
    assert await m.Deed.objects.acount() == (0 if rule == "cascade" else 1)
    if rule == "set_null":
        assert (await m.Deed.objects.aget()).set_null_id is None


async def test_delete_takes_the_rows_between_of_many_to_many(shop: Any) -> None:
    m = shop.relations

    def fill() -> None:
        book = m.Book.objects.create(title="t", author=m.Author.objects.create(name="a"))
        book.genres.add(m.Genre.objects.create(label="g"))
        book.secret_genres.add(m.Genre.objects.get())
        p, q = m.Person.objects.create(name="p"), m.Person.objects.create(name="q")
        p.follows.add(q)
        q.follows.add(p)

    shop.in_plain_thread(fill)
    Book, Person = mapped(m.Book), mapped(m.Person)
    async with atomic() as db:
        await db.delete((await db.scalars(select(Book))).one())
    assert await m.Book.objects.acount() == 0
    assert await m.Book.genres.through.objects.acount() == 0
    assert await m.Genre.objects.acount() == 1
    async with atomic() as db:
        await db.delete((await db.scalars(select(Person).where(Person.name == "p"))).one())
    assert await m.Person.objects.acount() == 1
    assert await m.Person.follows.through.objects.acount() == 0


async def test_composite_keys_are_written_and_found(shop: Any) -> None:
    m = shop.relations
    Line, LineOfAuthor, Author = mapped(m.Line), mapped(m.LineOfAuthor), mapped(m.Author)
    async with atomic() as db:
        db.add_all([Line(order="a", number=1, text="x"), Line(order="a", number=2), Line(order="b", number=1)])
        ann = Author(name="Ann")
        db.add(LineOfAuthor(author=ann, number=5))
        await db.flush()
        assert (await db.get(Line, ("a", 1))).text == "x"
        assert (await db.get(Line, {"order": "a", "number": 2})).number == 2
        assert (await db.get(LineOfAuthor, (ann.id, 5))).number == 5
    assert [line.pk async for line in m.Line.objects.order_by("pk")] == [("a", 1), ("a", 2), ("b", 1)]
    assert (await m.LineOfAuthor.objects.aget()).author_id == (await m.Author.objects.aget()).pk


async def test_bulk_statements_and_returning(shop: Any) -> None:
    m = shop.relations
    Author = mapped(m.Author)
    async with atomic() as db:
        if shop.family != "mysql":
            made = (await db.scalars(insert(Author).returning(Author), [{"name": "a"}, {"name": "b"}])).all()
            assert sorted(one.name for one in made) == ["a", "b"]
        else:  # which has no RETURNING
            await db.execute(insert(Author), [{"name": "a"}, {"name": "b"}])
        await db.execute(update(Author).where(Author.name == "a").values(name="c"))
        await db.execute(delete(Author).where(Author.name == "b"))
        assert (await db.scalars(select(func.count()).select_from(Author))).one() == 1
    assert [author.name async for author in m.Author.objects.all()] == ["c"]


async def test_after_a_rollback_the_same_session_goes_on(shop: Any) -> None:
    m = shop.relations
    shop.in_plain_thread(lambda: m.Author.objects.create(name="a"))
    Author = mapped(m.Author)
    async with session() as db:
        author = (await db.scalars(select(Author))).one()
        author.name = "changed"
        await db.flush()
        await db.rollback()
        with pytest.raises(LazyLoadError, match=r"Author\.\w+.*refresh"):
            _ = author.name
        await db.refresh(author)
        assert author.name == "a"
        author.name = "b"
        await db.commit()
    assert (await m.Author.objects.aget()).name == "b"
