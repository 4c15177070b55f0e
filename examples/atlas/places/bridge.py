"""The same endpoints on the bridge: async views, SQLAlchemy statements, typed rows, and no thread."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, func, insert, or_, select, update

from asyncdb import Session
from django_bridge import atomic, database, session, with_session

from . import geo
from .export import ROWS_AT_ONCE, csv_answer, csv_lines_async
from .inputs import MAX_ID, Countries, Export, Nearest, NotFound, Search, answer, answers_errors, new_visit
from .schemas import CityDetailOut, CityOut, CountryOut, NearbyCityOut, RecordedVisitOut, VisitedCityOut, VisitOut
from .tables import alternative_name, country, time_zone, visit
from .tables import city as city_table

CITY_COLUMNS = (
    city_table.c.id,
    city_table.c.name,
    city_table.c.country_id.label("country"),
    city_table.c.population,
    city_table.c.latitude,
    city_table.c.longitude,
)


@require_GET
@answers_errors
@with_session
async def search(request: HttpRequest, *, db: Session) -> JsonResponse:
    """Cities by the beginning of their names."""
    asked = Search.of(request)
    found = (
        select(*CITY_COLUMNS)
        .where(city_table.c.search_name.startswith(asked.prefix, autoescape=True))
        .order_by(city_table.c.population.desc(), city_table.c.id)
        .limit(asked.limit)
    )
    return answer_with(await db.fetch_all(found, into=CityOut))


@require_GET
@answers_errors
@with_session
async def nearest(request: HttpRequest, *, db: Session) -> JsonResponse:
    """Cities around a place."""
    asked = Nearest.of(request)
    for radius_km in geo.RADII_KM:
        within = select(*CITY_COLUMNS).where(is_within(geo.box_around(asked.lat, asked.lon, radius_km)))
        found = by_distance(asked, await db.fetch_all(within, into=NearbyCityOut), radius_km)
        if len(found) >= asked.limit:
            break
    return answer_with(found[: asked.limit])


@require_GET
@answers_errors
@with_session
async def countries(request: HttpRequest, *, db: Session) -> JsonResponse:
    """Countries and what their cities add up to."""
    asked = Countries.of(request)
    total = func.coalesce(func.sum(city_table.c.population), 0)
    largest = city_table.alias("largest")
    largest_name = (
        select(largest.c.name)
        .where(largest.c.country_id == country.c.code)
        .order_by(largest.c.population.desc(), largest.c.id)
        .limit(1)
        .scalar_subquery()
    )
    found = (
        select(
            *country.c,
            func.count(city_table.c.id).label("city_count"),
            total.label("urban_population"),
            func.max(city_table.c.population).label("largest_population"),
            largest_name.label("largest_city"),
        )
        .outerjoin_from(country, city_table)
        .group_by(country.c.code)
        .order_by(total.desc(), country.c.code)
        .limit(asked.limit)
    )
    if asked.continent:
        found = found.where(country.c.continent == asked.continent)
    return answer_with(await db.fetch_all(found, into=CountryOut))


@require_GET
@answers_errors
async def city(_request: HttpRequest, pk: int) -> JsonResponse:
    """One city with its surroundings."""
    if pk > MAX_ID:
        raise NotFound.city(pk)
    one = (
        select(
            *CITY_COLUMNS,
            country.c.name.label("country_name"),
            time_zone.c.name.label("time_zone"),
            city_table.c.visit_count,
        )
        .select_from(city_table.join(country).join(time_zone))
        .where(city_table.c.id == pk)
    )
    others = select(alternative_name.c.name).where(alternative_name.c.city_id == pk).order_by(alternative_name.c.id)
    async with session() as db:
        found = await db.fetch_one_or_none(one, into=CityDetailOut)
        if found is None:
            raise NotFound.city(pk)
        found.alternative_names = await db.fetch_all(others, into=str)
    return answer(found.model_dump())


@csrf_exempt
@require_POST
@answers_errors
async def record_visit(request: HttpRequest) -> JsonResponse:
    """Records a visit and counts it, both or neither."""
    asked = new_visit(request)
    values = {"city_id": asked.city_id, "note": asked.note, "created_at": timezone.now()}
    of_city = city_table.c.id == asked.city_id
    counted = update(city_table).where(of_city).values(visit_count=city_table.c.visit_count + 1)
    visited = select(city_table.c.id, city_table.c.name, city_table.c.visit_count).where(of_city)
    async with atomic() as db:
        if not (await db.execute(counted)).rowcount:
            raise NotFound.city(asked.city_id)
        (pk,) = (await db.execute(insert(visit).values(values))).inserted_primary_key
        city_now = await db.fetch_one(visited, into=VisitedCityOut)
    recorded = RecordedVisitOut(visit=VisitOut.model_validate({"id": pk, **values}), city=city_now)
    return answer(recorded.model_dump(), status=201)


@require_GET
@answers_errors
async def cities_csv(request: HttpRequest) -> StreamingHttpResponse:
    """Cities as a file."""
    asked = Export.of(request)
    found = select(*CITY_COLUMNS).order_by(city_table.c.population.desc(), city_table.c.id).limit(asked.limit)
    return csv_answer(csv_lines_async(database().stream(found, batch=ROWS_AT_ONCE)))


def is_within(box: geo.Box) -> ColumnElement[bool]:
    """The condition that a city lies in a box."""
    latitude, longitude = city_table.c.latitude, city_table.c.longitude
    spans = (and_(longitude >= west, longitude <= east) for west, east in box.spans)
    return and_(or_(*spans), latitude >= box.south, latitude <= box.north)


def by_distance(asked: Nearest, cities: list[NearbyCityOut], radius_km: float) -> list[NearbyCityOut]:
    """The cities within the circle, the nearest first."""
    measured = ((geo.distance_km(asked.lat, asked.lon, city.latitude, city.longitude), city) for city in cities)
    within = sorted(((km, city.id, city) for km, city in measured if km <= radius_km), key=lambda item: item[:2])
    return [city.model_copy(update={"distance_km": round(km, 3)}) for km, _, city in within]


def answer_with(rows: Sequence[BaseModel]) -> JsonResponse:
    """Returns rows as JSON."""
    return answer([row.model_dump() for row in rows])
