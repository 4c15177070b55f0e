"""The tables of the models as SQLAlchemy sees them: the columns that the views on the bridge read and write.

Django's migrations own the schema; ``places.tests`` holds these columns against the models.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Float, ForeignKey, Integer, MetaData, String, Table
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

metadata = MetaData()


class Moment(TypeDecorator[datetime]):
    """A point in time as Django keeps it: with its zone on PostgreSQL, as plain UTC elsewhere."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """MySQL's DATETIME has no fraction of a second unless asked."""
        return dialect.type_descriptor(DATETIME(fsp=6) if dialect.name in ("mysql", "mariadb") else self.impl_instance)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Takes an aware datetime."""
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Returns an aware datetime."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


country = Table(
    "places_country",
    metadata,
    Column("code", String(2), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("continent", String(2), nullable=False),
)

time_zone = Table(
    "places_timezone",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("name", String(64), nullable=False),
)

city = Table(
    "places_city",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("search_name", String(100), nullable=False),
    Column("country_id", ForeignKey(country.c.code), nullable=False),
    Column("time_zone_id", ForeignKey(time_zone.c.id), nullable=False),
    Column("latitude", Float(53), nullable=False),
    Column("longitude", Float(53), nullable=False),
    Column("population", BigInteger, nullable=False),
    Column("visit_count", Integer, nullable=False),
)

alternative_name = Table(
    "places_alternativename",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("city_id", ForeignKey(city.c.id), nullable=False),
    Column("name", String(200), nullable=False),
)

visit = Table(
    "places_visit",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("city_id", ForeignKey(city.c.id), nullable=False),
    Column("note", String(200), nullable=False),
    Column("created_at", Moment, nullable=False),
)
