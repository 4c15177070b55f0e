"""What the paths on SQLAlchemy run, ours and the stock ones alike. All but one are built at each request."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Insert, Select, Update, bindparam, insert, select, update
from sqlalchemy.orm import joinedload

from ..schema import CITY_COLUMNS, Account, City, Country, Station, Transfer

_city, _country = City.__table__, Country.__table__
_station: Any = Station.__table__
_account: Any = Account.__table__
_transfer: Any = Transfer.__table__


# Core: columns in, rows out.


def city_row(key: int) -> Select[Any]:
    return select(_city).where(_city.c.id == key)


def city_rows(first: int, last: int) -> Select[Any]:
    return select(_city).where(_city.c.id.between(first, last)).order_by(_city.c.id)


def station_rows(first: int, last: int) -> Select[Any]:
    return select(_station).where(_station.c.id.between(first, last)).order_by(_station.c.id)


def joined_rows(country: int, limit: int) -> Select[Any]:
    return (
        select(_city.c.id, _city.c.name, _city.c.population, _country.c.name, _country.c.continent)
        .join(_country, _country.c.id == _city.c.country_id)
        .where(_city.c.country_id == country)
        .order_by(_city.c.id)
        .limit(limit)
    )


def add_to_balance(key: int, amount: int) -> Update:
    return update(_account).where(_account.c.id == key).values(balance=_account.c.balance + amount)


def set_balance(key: int, balance: int) -> Update:
    return update(_account).where(_account.c.id == key).values(balance=balance)


SET_BALANCE = update(_account).where(_account.c.id == bindparam("key")).values(balance=bindparam("left"))
"""The same, built once."""


def insert_transfer(source: int, target: int, amount: int) -> Insert:
    return insert(_transfer).values(source=source, target=target, amount=amount)


# ORM: classes in, objects out.


def city(key: int) -> Select[Any]:
    return select(City).where(City.id == key)


def cities(first: int, last: int) -> Select[Any]:
    return select(City).where(City.id.between(first, last)).order_by(City.id)


def cities_with_country(country: int, limit: int) -> Select[Any]:
    return (
        select(City)
        .options(joinedload(City.country, innerjoin=True))
        .where(City.country_id == country)
        .order_by(City.id)
        .limit(limit)
    )


def orm_add_to_balance(key: int, amount: int) -> Update:
    return update(Account).where(Account.id == key).values(balance=Account.balance + amount)


# What becomes of objects, Django's as well.


def as_tuple(item: Any) -> tuple[Any, ...]:
    return (item.id, item.country_id, item.name, item.population, item.latitude, item.longitude, item.updated)


def as_dict(item: Any) -> dict[str, Any]:
    return dict(zip(CITY_COLUMNS, as_tuple(item), strict=True))


def as_joined(item: Any) -> tuple[Any, ...]:
    return (item.id, item.name, item.population, item.country.name, item.country.continent)
