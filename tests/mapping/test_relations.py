"""Each relation of the mapped classes gives what Django's own accessor gives."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from django_bridge import mapped, session, sync_session


@pytest.fixture
async def stocked(shop: Any) -> Any:
    shop.in_plain_thread(fill, shop.relations)
    return shop.relations


def fill(m: Any) -> None:
    ann, bob, cid = (m.Author.objects.create(name=name) for name in ("Cid", "Ann", "Bob"))
    ann.mentor = bob
    ann.save()
    cid.mentor = bob
    cid.save()
    genres = [m.Genre.objects.create(label=label) for label in ("crime", "sea", "art")]
    for number, title in enumerate(("Zoo", "Art", "Sea", "Art")):
        book = m.Book.objects.create(
            title=title,
            author=(ann, bob)[number % 2],
            editor=(None, cid)[number % 2],
            translator=(bob, None)[number % 2],
            hidden=ann,
        )
        book.genres.set(genres[: number % 4])
        book.secret_genres.set(genres[:1])
        m.Tag.objects.create(word=f"tag {number}", content_object=book)
        m.Tag.objects.create(word=f"author {number}", content_object=book.author)
        m.Reading.objects.create(book=book, reader=cid, recommended_by=ann, stars=number)
        if number:
            m.Reading.objects.create(book=book, reader=bob, stars=number)
    books = list(m.Book.objects.order_by("pk"))
    m.Shade.objects.create(cover=m.Cover.objects.create(book=books[1], colour="red"), depth=3)
    m.Cover.objects.create(book=books[2], colour="blue")
    people = [m.Person.objects.create(name=name) for name in ("p", "q", "r")]
    people[0].friends.add(people[1], people[2])
    people[0].follows.add(people[1])
    people[2].follows.add(people[0], people[1])
    m.Colleague.objects.create(left=people[0], right=people[2])
    m.Country.objects.create(code="DE", name="Germany")
    m.Country.objects.create(code="PL", name="Poland")
    for name, code in (("Bonn", "DE"), ("Ulm", "DE"), ("Nowhere", "XX")):
        m.Town.objects.create(name=name, code=code)
    m.LineOfAuthor.objects.create(author=ann, number=1)
    m.LineOfAuthor.objects.create(author=ann, number=2)
    place = m.Place.objects.create(name="Bench", owner=ann)
    place.labels.set(genres)
    grill = m.Restaurant.objects.create(name="Grill", stars=2, chef=bob, owner=ann)
    grill.labels.set(genres[:2])
    pizza = m.Pizzeria.objects.create(name="Da Ugo", stars=1, oven="wood", chef=cid)
    bar = m.Bar.objects.create(name="Bar", beers=7)
    m.Visit.objects.create(place=place)
    m.Visit.objects.create(place=grill, restaurant=grill)
    m.Visit.objects.create(place=pizza.place_ptr, restaurant=pizza)
    m.Visit.objects.create(place=bar)
    m.Letter.objects.create(writer=m.Writer.objects.get(pk=ann.pk))


# (model, relation): those of Django's accessors that must be there.
TO_ONE = [
    ("Author", "mentor"),
    ("Book", "author"),
    ("Book", "editor"),
    ("Book", "translator"),
    ("Book", "hidden"),
    ("Book", "cover"),
    ("Reading", "book"),
    ("Reading", "reader"),
    ("Reading", "recommended_by"),
    ("Cover", "book"),
    ("Cover", "shade"),
    ("Shade", "cover"),
    ("Colleague", "left"),
    ("Town", "country"),
    ("Tag", "content_type"),
    ("LineOfAuthor", "author"),
    ("Place", "owner"),
    ("Place", "restaurant"),
    ("Place", "as_bar"),
    ("Restaurant", "owner"),
    ("Restaurant", "chef"),
    ("Restaurant", "place_ptr"),
    ("Restaurant", "pizzeria"),
    ("Pizzeria", "chef"),
    ("Pizzeria", "restaurant_ptr"),
    ("Bar", "spot"),
    ("Visit", "place"),
    ("Visit", "restaurant"),
    ("Letter", "writer"),
    ("StarRestaurant", "chef"),
    ("StarPlace", "owner"),
]
TO_MANY = [
    ("Author", "pupils"),
    ("Author", "book_set"),
    ("Author", "edited"),
    ("Author", "translated"),
    ("Author", "reads"),
    ("Author", "readings"),
    ("Author", "recommendations"),
    ("Author", "lines"),
    ("Author", "owned_place"),
    ("Author", "kitchens"),
    ("Genre", "books"),
    ("Genre", "places"),
    ("Book", "genres"),
    ("Book", "secret_genres"),
    ("Book", "readers"),
    ("Book", "reading_set"),
    ("Book", "tags"),
    ("Person", "friends"),
    ("Person", "follows"),
    ("Person", "followers"),
    ("Person", "colleagues"),
    ("Country", "towns"),
    ("Place", "labels"),
    ("Place", "visits"),
    ("Restaurant", "labels"),
    ("Restaurant", "visits"),
    ("Restaurant", "dinners"),
    ("Pizzeria", "dinners"),
    ("Pizzeria", "visits"),
    ("StarPlace", "labels"),
    ("StarPlace", "visits"),
    ("StarRestaurant", "dinners"),
    ("Writer", "letters"),
    ("Writer", "book_set"),
    ("Writer", "edited"),
    ("Bar", "visits"),
]
ORDERED = {"Book", "Author", "Genre", "Place"}
"""Whose ``Meta.ordering`` says the order of a collection."""


def key_of(row: Any) -> Any:
    if row is None:
        return None
    opts = (getattr(row, "__django_model__", None) or type(row))._meta
    return type(row).__name__, tuple(getattr(row, field.attname) for field in opts.pk_fields)


def of_django(model: Any, name: str, *, many: bool) -> dict[Any, Any]:
    found = {}
    for row in model._base_manager.all():
        missing = AttributeError if many else model._meta.get_field(name).related_model.DoesNotExist
        try:
            value = getattr(row, name)
        except missing:
            value = None
        if many:
            rows = [key_of(one) for one in value.all()]
            found[key_of(row)] = rows if rows_are_ordered(value) else sorted(rows)
        else:
            found[key_of(row)] = key_of(value)
    return found


def rows_are_ordered(manager: Any) -> bool:
    return bool(manager.model._meta.ordering)


def of_sqlalchemy(rows: Any, name: str, *, many: bool, ordered: bool) -> dict[Any, Any]:
    found = {}
    for row in rows:
        value = getattr(row, name)
        if many:
            keys = [key_of(one) for one in value]
            found[key_of(row)] = keys if ordered else sorted(keys)
        else:
            found[key_of(row)] = key_of(value)
    return found


RELATIONS = [*((model, name, False) for model, name in TO_ONE), *((model, name, True) for model, name in TO_MANY)]


@pytest.mark.contract
async def test_each_relation_gives_what_django_gives(stocked: Any, shop: Any) -> None:
    wrong: list[str] = []
    for label, name, many in RELATIONS:
        model = getattr(stocked, label)
        Mapped = mapped(model)
        wanted = shop.in_plain_thread(lambda model=model, name=name, many=many: of_django(model, name, many=many))
        assert wanted, label
        relation = getattr(Mapped, name)
        ordered = many and bool(relation.property.mapper.class_.__django_model__._meta.ordering)
        for load in (selectinload, joinedload):
            async with session() as db:
                rows = (await db.scalars(select(Mapped).options(load(relation)))).unique().all()
                found = of_sqlalchemy(rows, name, many=many, ordered=ordered)
                if found != wanted:
                    wrong.append(f"{label}.{name} by {load.__name__}: {found} is not {wanted}")

        def lazily(Mapped: Any = Mapped, name: str = name, many: bool = many, ordered: bool = ordered) -> Any:
            with sync_session() as db:
                return of_sqlalchemy(db.scalars(select(Mapped)).all(), name, many=many, ordered=ordered)

        found = shop.in_plain_thread(lazily)
        if found != wanted:
            wrong.append(f"{label}.{name} lazily: {found} is not {wanted}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("label", sorted({label for label, _, _ in RELATIONS}))
def test_all_accessors_of_django_are_there_and_no_other(label: str) -> None:
    from tests.mapping.conftest import relations

    model = getattr(relations, label)
    wanted = set()
    for field in model._meta.get_fields():
        if not field.is_relation or field.related_model is None:
            continue
        if not field.auto_created or field.concrete:
            wanted.add(field.name)
        elif (accessor := field.get_accessor_name()) is not None and hasattr(model, accessor):
            wanted.add(accessor)
    found = set(mapped(model).__mapper__.relationships.keys())
    from_parents = {
        name
        for parent in model._meta.all_parents
        for name in mapped(parent).__mapper__.relationships.keys()  # noqa: SIM118
    }
    assert wanted <= found
    assert found - wanted <= from_parents


async def test_a_generic_relation_is_of_its_own_content_type(stocked: Any, shop: Any) -> None:
    Book, Tag = mapped(stocked.Book), mapped(stocked.Tag)
    async with session() as db:
        books = (await db.scalars(select(Book).options(selectinload(Book.tags)))).all()
        assert all(tag.word.startswith("tag") for book in books for tag in book.tags)
        assert sum(len(book.tags) for book in books) == 4
        tags = (await db.scalars(select(Tag).options(joinedload(Tag.content_type)))).all()
        assert {tag.content_type.model for tag in tags} == {"book", "author"}
        found = await db.scalars(select(Book.title).join(Book.tags).where(Tag.word == "tag 0"))
        assert found.all() == ["Zoo"]
    assert ContentType is mapped(ContentType).__django_model__


async def test_relations_are_joined_and_asked_in_conditions(stocked: Any, shop: Any) -> None:
    Author, Book, Genre, Person, Restaurant = (
        mapped(getattr(stocked, name)) for name in ("Author", "Book", "Genre", "Person", "Restaurant")
    )
    async with session() as db:
        by_author = select(Book.title).join(Book.author).where(Author.name == "Ann").order_by(Book.title)
        assert (await db.scalars(by_author)).all() == ["Art", "Art"]
        any_genre = select(Book.title).where(Book.genres.any(Genre.label == "art"))
        assert (await db.scalars(any_genre)).all() == ["Art"]
        no_editor = select(Book.title).where(~Book.editor.has())
        assert sorted((await db.scalars(no_editor)).all()) == ["Sea", "Zoo"]
        author = (await db.scalars(select(Author).where(Author.name == "Ann"))).one()
        assert sorted((await db.scalars(select(Book.title).where(Book.author == author))).all()) == ["Art", "Art"]
        pupils = select(Author.name).where(Author.pupils.any())
        assert (await db.scalars(pupils)).all() == ["Ann"]
        friends = select(Person.name).where(Person.friends.any(Person.name == "q"))
        assert (await db.scalars(friends)).all() == ["p"]
        starred = select(Restaurant.name).where(Restaurant.stars == 2, Restaurant.owner.has(Author.name == "Cid"))
        assert (await db.scalars(starred)).all() == ["Grill"]


async def test_options_reach_through_several_relations(stocked: Any) -> None:
    Author, Book, Reading, Pizzeria = (
        mapped(getattr(stocked, name)) for name in ("Author", "Book", "Reading", "Pizzeria")
    )
    statement = (
        select(Author)
        .order_by(Author.name)
        .options(
            selectinload(Author.book_set).selectinload(Book.reading_set).joinedload(Reading.reader),
            joinedload(Author.mentor),
        )
    )
    async with session() as db:
        ann, bob, cid = (await db.scalars(statement)).all()
        assert cid.mentor is ann
        assert [book.title for book in cid.book_set] == ["Sea", "Zoo"]
        assert {reading.reader.name for book in ann.book_set for reading in book.reading_set} == {"Bob", "Ann"}
        assert ann.book_set[0].reading_set
        assert bob.mentor is ann
        pizzeria = (await db.scalars(select(Pizzeria).options(joinedload(Pizzeria.chef)))).one()
        assert (pizzeria.name, pizzeria.stars, pizzeria.oven, pizzeria.chef.name) == ("Da Ugo", 1, "wood", "Bob")
