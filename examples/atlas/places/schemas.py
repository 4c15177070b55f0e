"""The shapes of requests and answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints


class NewVisit(BaseModel):
    """The body of a POST that records a visit."""

    model_config = ConfigDict(extra="forbid")

    city_id: int = Field(ge=1, le=2**63 - 1, strict=True)
    # No database keeps control characters the same way; PostgreSQL refuses NUL.
    note: Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


class CityOut(BaseModel):
    """A city in a list."""

    id: int
    name: str
    country: str
    population: int
    latitude: float
    longitude: float


class NearbyCityOut(CityOut):
    """A city and how far it is."""

    distance_km: float = 0.0


class CountryOut(BaseModel):
    """A country and what its cities add up to."""

    code: str
    name: str
    continent: str
    city_count: int
    urban_population: int
    largest_city: str | None
    largest_population: int | None


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class VisitOut(BaseModel):
    """A visit that was recorded."""

    id: int
    city_id: int
    note: str
    created_at: Annotated[AwareDatetime, PlainSerializer(_utc)]


class VisitedCityOut(BaseModel):
    """A city and how often it was visited, this visit included."""

    id: int
    name: str
    visit_count: int


class RecordedVisitOut(BaseModel):
    """The answer to a recorded visit."""

    visit: VisitOut
    city: VisitedCityOut
