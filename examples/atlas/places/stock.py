"""The endpoints as a team has them today: sync views on Django's ORM."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Max, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from . import geo
from .export import ROWS_AT_ONCE, csv_answer, csv_lines
from .inputs import MAX_ID, Countries, Export, Nearest, NotFound, Search, answer, answers_errors, new_visit
from .models import City, Country, Visit
from .schemas import NewVisit, RecordedVisitOut

CITY_COLUMNS = ("id", "name", "country_id", "population", "latitude", "longitude")


@require_GET
@answers_errors
def search(request: HttpRequest) -> JsonResponse:
    """Cities by the beginning of their names."""
    return answer([city_row(city) for city in cities_named(Search.of(request))])


@require_GET
@answers_errors
def nearest(request: HttpRequest) -> JsonResponse:
    """Cities around a place."""
    asked = Nearest.of(request)
    for radius_km in geo.RADII_KM:
        found = by_distance(asked, cities_within(asked, radius_km), radius_km)
        if len(found) >= asked.limit:
            break
    return answer(found[: asked.limit])


@require_GET
@answers_errors
def countries(request: HttpRequest) -> JsonResponse:
    """Countries and what their cities add up to."""
    return answer([country_row(country) for country in countries_with_totals(Countries.of(request))])


@require_GET
@answers_errors
def city(_request: HttpRequest, pk: int) -> JsonResponse:
    """One city with its surroundings."""
    found = city_with_surroundings(pk).first()
    if found is None:
        raise NotFound.city(pk)
    return answer(city_detail_row(found, [other.name for other in found.alternative_names.all()]))


@csrf_exempt
@require_POST
@answers_errors
def record_visit(request: HttpRequest) -> JsonResponse:
    """Records a visit and counts it, both or neither."""
    return answer(store_visit(new_visit(request)), status=201)


@require_GET
@answers_errors
def cities_csv(request: HttpRequest) -> StreamingHttpResponse:
    """Cities as a file."""
    found = cities_by_size(Export.of(request)).iterator(chunk_size=ROWS_AT_ONCE)
    return csv_answer(csv_lines(city_row(city).values() for city in found))


def store_visit(asked: NewVisit) -> dict[str, Any]:
    """Writes one visit in a transaction of its own."""
    with transaction.atomic():
        if not City.objects.filter(pk=asked.city_id).update(visit_count=F("visit_count") + 1):
            raise NotFound.city(asked.city_id)
        visit = Visit.objects.create(city_id=asked.city_id, note=asked.note)
        visited = City.objects.only("name", "visit_count").get(pk=asked.city_id)
    return RecordedVisitOut.model_validate(
        {
            "visit": {"id": visit.pk, "city_id": visit.city_id, "note": visit.note, "created_at": visit.created_at},
            "city": {"id": visited.pk, "name": visited.name, "visit_count": visited.visit_count},
        }
    ).model_dump()


# The querysets and rows, which the async views share.


def cities_named(asked: Search) -> QuerySet[City]:
    """The cities of a search, the largest first."""
    found = City.objects.filter(search_name__prefix=asked.prefix).only(*CITY_COLUMNS)
    return found.order_by("-population", "id")[: asked.limit]


def cities_by_size(asked: Export) -> QuerySet[City]:
    """The cities of an export, the largest first."""
    return City.objects.only(*CITY_COLUMNS).order_by("-population", "id")[: asked.limit]


def cities_within(asked: Nearest, radius_km: float) -> QuerySet[City]:
    """The cities in the box around a place."""
    box = geo.box_around(asked.lat, asked.lon, radius_km)
    spans = reduce(or_, (Q(longitude__gte=west, longitude__lte=east) for west, east in box.spans))
    found = City.objects.filter(spans, latitude__gte=box.south, latitude__lte=box.north)
    return found.only(*CITY_COLUMNS).order_by()


def by_distance(asked: Nearest, cities: Any, radius_km: float) -> list[dict[str, Any]]:
    """The cities within the circle, the nearest first."""
    measured = ((geo.distance_km(asked.lat, asked.lon, city.latitude, city.longitude), city) for city in cities)
    within = sorted(((km, city.pk, city) for km, city in measured if km <= radius_km), key=lambda item: item[:2])
    return [city_row(city) | {"distance_km": round(km, 3)} for km, _, city in within]


def countries_with_totals(asked: Countries) -> QuerySet[Country]:
    """The countries with the sums over their cities."""
    largest = City.objects.filter(country=OuterRef("pk")).order_by("-population", "id").values("name")[:1]
    found = Country.objects.filter(continent=asked.continent) if asked.continent else Country.objects.all()
    return found.annotate(
        city_count=Count("cities"),
        urban_population=Coalesce(Sum("cities__population"), 0),
        largest_population=Max("cities__population"),
        largest_city=Subquery(largest),
    ).order_by("-urban_population", "code")[: asked.limit]


def city_with_surroundings(pk: int) -> QuerySet[City]:
    """One city or none, with its country, time zone and other names: two queries."""
    if pk > MAX_ID:
        return City.objects.none()
    return City.objects.filter(pk=pk).select_related("country", "time_zone").prefetch_related("alternative_names")


def city_row(city: City) -> dict[str, Any]:
    """A city in a list."""
    return {
        "id": city.id,
        "name": city.name,
        "country": city.country_id,
        "population": city.population,
        "latitude": city.latitude,
        "longitude": city.longitude,
    }


def city_detail_row(city: City, alternative_names: list[str]) -> dict[str, Any]:
    """A city with its surroundings."""
    return city_row(city) | {
        "country_name": city.country.name,
        "time_zone": city.time_zone.name,
        "visit_count": city.visit_count,
        "alternative_names": alternative_names,
    }


def country_row(country: Any) -> dict[str, Any]:
    """A country with the annotations of :func:`countries_with_totals`."""
    names = ("code", "name", "continent", "city_count", "urban_population", "largest_city", "largest_population")
    return {name: getattr(country, name) for name in names}
