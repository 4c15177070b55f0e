"""The same endpoints on the bridge: async views, SQLAlchemy on Django's models, typed rows, and no thread."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import aliased, joinedload, selectinload

from asyncdb import Session
from django_bridge import atomic, database, mapped, session, with_session

from . import geo, models
from .export import ROWS_AT_ONCE, csv_answer, csv_lines_async
from .inputs import MAX_ID, Countries, Export, Nearest, NotFound, Search, answer, answers_errors, new_visit
from .schemas import CityOut, CountryOut, NearbyCityOut, RecordedVisitOut, VisitedCityOut, VisitOut
from .stock import city_detail_row

City, Country, Visit = mapped(models.City), mapped(models.Country), mapped(models.Visit)

CITY_COLUMNS = (
    City.id,
    City.name,
    City.country_id.label("country"),
    City.population,
    City.latitude,
    City.longitude,
)


@require_GET
@answers_errors
@with_session
async def search(request: HttpRequest, *, db: Session) -> JsonResponse:
    """Cities by the beginning of their names."""
    asked = Search.of(request)
    found = (
        select(*CITY_COLUMNS)
        .where(City.search_name.startswith(asked.prefix, autoescape=True))
        .order_by(City.population.desc(), City.id)
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
    total = func.coalesce(func.sum(City.population), 0)
    largest = aliased(City)
    largest_name = (
        select(largest.name)
        .where(largest.country_id == Country.code)
        .order_by(largest.population.desc(), largest.id)
        .limit(1)
        .scalar_subquery()
    )
    found = (
        select(
            Country.code,
            Country.name,
            Country.continent,
            func.count(City.id).label("city_count"),
            total.label("urban_population"),
            func.max(City.population).label("largest_population"),
            largest_name.label("largest_city"),
        )
        .outerjoin(Country.cities)
        .group_by(Country.code)
        .order_by(total.desc(), Country.code)
        .limit(asked.limit)
    )
    if asked.continent:
        found = found.where(Country.continent == asked.continent)
    return answer_with(await db.fetch_all(found, into=CountryOut))


@require_GET
@answers_errors
async def city(_request: HttpRequest, pk: int) -> JsonResponse:
    """One city with its surroundings."""
    if pk > MAX_ID:
        raise NotFound.city(pk)
    one = (
        select(City)
        .options(joinedload(City.country), joinedload(City.time_zone), selectinload(City.alternative_names))
        .where(City.id == pk)
    )
    async with session() as db:
        found = await db.scalar(one)
    if found is None:
        raise NotFound.city(pk)
    return answer(city_detail_row(found, [other.name for other in found.alternative_names]))


@csrf_exempt
@require_POST
@answers_errors
async def record_visit(request: HttpRequest) -> JsonResponse:
    """Records a visit and counts it, both or neither."""
    asked = new_visit(request)
    of_city = City.id == asked.city_id
    counted = update(City).where(of_city).values(visit_count=City.visit_count + 1)
    visited = select(City.id, City.name, City.visit_count).where(of_city)
    async with atomic() as db:
        if not (await db.execute(counted)).rowcount:
            raise NotFound.city(asked.city_id)
        visit = Visit(city_id=asked.city_id, note=asked.note)
        db.add(visit)
        await db.flush()  # the time of the visit is the model's default
        city_now = await db.fetch_one(visited, into=VisitedCityOut)
    recorded = RecordedVisitOut(visit=VisitOut.model_validate(visit, from_attributes=True), city=city_now)
    return answer(recorded.model_dump(), status=201)


@require_GET
@answers_errors
async def cities_csv(request: HttpRequest) -> StreamingHttpResponse:
    """Cities as a file."""
    asked = Export.of(request)
    found = select(*CITY_COLUMNS).order_by(City.population.desc(), City.id).limit(asked.limit)
    return csv_answer(csv_lines_async(database().stream(found, batch=ROWS_AT_ONCE)))


def is_within(box: geo.Box) -> ColumnElement[bool]:
    """The condition that a city lies in a box."""
    latitude, longitude = City.latitude, City.longitude
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
