"""Distances on a sphere, and the boxes that a database can search with two plain comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from math import asin, cos, degrees, hypot, radians, sin, sqrt

EARTH_KM = 6371.0088
FARTHEST_KM = 20_100.0
"""More than half the way round: no two places are farther apart."""
RADII_KM = (25.0, 100.0, 400.0, 1600.0, 6400.0, FARTHEST_KM)
"""Searched one after the other until enough is found: cities stand close nearly everywhere."""
SLACK = 1e-9
"""Degrees added to a box, so that rounding never cuts off its rim."""


@dataclass(frozen=True)
class Box:
    """All places between two parallels, within one span of longitudes, or two across the date line."""

    south: float
    north: float
    spans: tuple[tuple[float, float], ...]


def distance_km(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Returns the great-circle distance (haversine)."""
    north, east = radians(other_lat - lat) / 2, radians(other_lon - lon) / 2
    chord = hypot(sin(north), sqrt(cos(radians(lat)) * cos(radians(other_lat))) * sin(east))
    return 2 * EARTH_KM * asin(min(1.0, chord))


def box_around(lat: float, lon: float, radius_km: float) -> Box:
    """Returns a box that holds every place within ``radius_km``, at the poles and the date line too."""
    angle = radius_km / EARTH_KM
    south, north = lat - degrees(angle) - SLACK, lat + degrees(angle) + SLACK
    if south <= -90 or north >= 90:
        # A pole lies within: every meridian passes through.
        return Box(max(south, -90.0), min(north, 90.0), ((-180.0, 180.0),))
    reach = degrees(asin(min(1.0, sin(angle) / cos(radians(lat))))) + SLACK
    west, east = lon - reach, lon + reach
    if west < -180:
        return Box(south, north, ((west + 360, 180.0), (-180.0, east)))
    if east > 180:
        return Box(south, north, ((west, 180.0), (-180.0, east - 360)))
    return Box(south, north, ((west, east),))
