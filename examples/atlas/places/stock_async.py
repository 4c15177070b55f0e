"""The endpoints as a team has them today: async views on the ``a*`` methods of Django's ORM."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from . import geo
from .export import ROWS_AT_ONCE, csv_answer, csv_lines_async
from .inputs import Countries, Export, Nearest, NotFound, Search, answer, answers_errors, new_visit
from .stock import (
    by_distance,
    cities_by_size,
    cities_named,
    cities_within,
    city_detail_row,
    city_row,
    city_with_surroundings,
    countries_with_totals,
    country_row,
    store_visit,
)


@require_GET
@answers_errors
async def search(request: HttpRequest) -> JsonResponse:
    """Cities by the beginning of their names."""
    return answer([city_row(city) async for city in cities_named(Search.of(request))])


@require_GET
@answers_errors
async def nearest(request: HttpRequest) -> JsonResponse:
    """Cities around a place."""
    asked = Nearest.of(request)
    for radius_km in geo.RADII_KM:
        cities = [city async for city in cities_within(asked, radius_km)]
        found = by_distance(asked, cities, radius_km)
        if len(found) >= asked.limit:
            break
    return answer(found[: asked.limit])


@require_GET
@answers_errors
async def countries(request: HttpRequest) -> JsonResponse:
    """Countries and what their cities add up to."""
    return answer([country_row(country) async for country in countries_with_totals(Countries.of(request))])


@require_GET
@answers_errors
async def city(_request: HttpRequest, pk: int) -> JsonResponse:
    """One city with its surroundings."""
    found = await city_with_surroundings(pk).afirst()
    if found is None:
        raise NotFound.city(pk)
    return answer(city_detail_row(found, [other.name async for other in found.alternative_names.all()]))


@csrf_exempt
@require_POST
@answers_errors
async def record_visit(request: HttpRequest) -> JsonResponse:
    """Records a visit and counts it, both or neither: Django has no transaction for async code, so in a thread."""
    return answer(await sync_to_async(store_visit)(new_visit(request)), status=201)


@require_GET
@answers_errors
async def cities_csv(request: HttpRequest) -> StreamingHttpResponse:
    """Cities as a file."""
    # Not values_list(): Django 5.2 and 6.1 run its query on the loop, and refuse it there.
    found = cities_by_size(Export.of(request)).aiterator(chunk_size=ROWS_AT_ONCE)
    return csv_answer(csv_lines_async(city_row(city).values() async for city in found))
