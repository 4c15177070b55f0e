"""The tables that every path reads and writes, as SQLAlchemy's ORM has them."""

from __future__ import annotations

import datetime
from decimal import Decimal

from pydantic import BaseModel, TypeAdapter
from sqlalchemy import BigInteger, DateTime, Double, ForeignKey, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Country(Base):
    __tablename__ = "country"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(80))
    continent: Mapped[str] = mapped_column(String(2))


class City(Base):
    __tablename__ = "city"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    country_id: Mapped[int] = mapped_column(ForeignKey("country.id"), index=True)
    name: Mapped[str] = mapped_column(String(80))
    population: Mapped[int] = mapped_column(BigInteger)
    latitude: Mapped[float] = mapped_column(Double)
    longitude: Mapped[float] = mapped_column(Double)
    updated: Mapped[datetime.datetime] = mapped_column(DateTime)
    country: Mapped[Country] = relationship()


class Account(Base):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int] = mapped_column(BigInteger)


class Transfer(Base):
    __tablename__ = "transfer"

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[int]
    target: Mapped[int]
    amount: Mapped[int] = mapped_column(BigInteger)


class Station(Base):
    __tablename__ = "station"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    country_id: Mapped[int] = mapped_column(ForeignKey("country.id"))
    code: Mapped[str] = mapped_column(String(8))
    name: Mapped[str] = mapped_column(String(80))
    latitude: Mapped[float] = mapped_column(Double)
    longitude: Mapped[float] = mapped_column(Double)
    height: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    manned: Mapped[bool]
    founded: Mapped[datetime.date]
    passengers: Mapped[int] = mapped_column(BigInteger)
    updated: Mapped[datetime.datetime] = mapped_column(DateTime)


class StationOut(BaseModel):
    """A station as an endpoint returns it: all of its columns."""

    id: int
    country_id: int
    code: str
    name: str
    latitude: float
    longitude: float
    height: Decimal
    manned: bool
    founded: datetime.date
    passengers: int
    updated: datetime.datetime


CITY_COLUMNS = ("id", "country_id", "name", "population", "latitude", "longitude", "updated")
STATION_COLUMNS = tuple(StationOut.model_fields)
STATIONS_OUT = TypeAdapter(list[StationOut])
