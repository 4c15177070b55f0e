"""What a request may ask, checked before any query, and how an answer leaves: the same for every view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Self

from django.http import HttpRequest, JsonResponse
from pydantic import ValidationError

from .folding import search_name
from .models import Country
from .schemas import NewVisit

MAX_ID = 2**63 - 1


class BadInput(ValueError):
    """The request asks for something that makes no sense; the message says what would."""


class NotFound(LookupError):
    """The request names something that does not exist."""

    @classmethod
    def city(cls, pk: int) -> Self:
        """The error for an unknown city."""
        return cls(f"no city has the id {pk}")


def answer(data: Any, *, status: int = 200) -> JsonResponse:
    """Returns ``data`` as compact JSON."""
    return JsonResponse(data, status=status, safe=False, json_dumps_params={"separators": (",", ":")})


def _error(err: Exception) -> JsonResponse:
    return answer({"error": str(err)}, status=404 if isinstance(err, NotFound) else 400)


def answers_errors(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a view, sync or async: bad input becomes a 400, what does not exist a 404."""
    if iscoroutinefunction(view):

        @wraps(view)
        async def async_wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            try:
                return await view(request, *args, **kwargs)
            except (BadInput, NotFound) as err:
                return _error(err)

        return async_wrapper

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return view(request, *args, **kwargs)
        except (BadInput, NotFound) as err:
            return _error(err)

    return wrapper


@dataclass(frozen=True)
class Search:
    """``?q=par&limit=20``: cities whose name begins so, the largest first."""

    prefix: str
    limit: int

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        """Reads the query string."""
        prefix = search_name(request.GET.get("q", ""))
        if not prefix:
            raise BadInput("q: give the beginning of a city's name, in Latin letters or digits")
        return cls(prefix[:100], integer(request, "limit", default=20, low=1, high=100))


@dataclass(frozen=True)
class Nearest:
    """``?lat=48.86&lon=2.35&limit=10``: the cities around a place, the nearest first."""

    lat: float
    lon: float
    limit: int

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        """Reads the query string."""
        return cls(
            number(request, "lat", low=-90, high=90),
            number(request, "lon", low=-180, high=180),
            integer(request, "limit", default=10, low=1, high=50),
        )


@dataclass(frozen=True)
class Countries:
    """``?continent=EU&limit=20``: the countries with the most people in cities first."""

    continent: str | None
    limit: int

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        """Reads the query string."""
        continent = request.GET.get("continent")
        if continent is not None and continent not in Country.Continent.values:
            raise BadInput(f"continent: one of {', '.join(Country.Continent.values)}")
        return cls(continent, integer(request, "limit", default=20, low=1, high=300))


@dataclass(frozen=True)
class Export:
    """``?limit=1000``: the largest cities; all of them if nothing is asked."""

    limit: int

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        """Reads the query string."""
        return cls(integer(request, "limit", default=1_000_000, low=1, high=1_000_000))


@dataclass(frozen=True)
class Live:
    """``?every=0.5&events=10``: so many events, so many seconds apart."""

    every: float
    events: int

    @classmethod
    def of(cls, request: HttpRequest) -> Self:
        """Reads the query string."""
        return cls(
            number(request, "every", default=1.0, low=0.01, high=3600),
            integer(request, "events", default=86_400, low=1, high=86_400),
        )


def new_visit(request: HttpRequest) -> NewVisit:
    """Reads the body of a POST: ``{"city_id": 2988507, "note": "in spring"}``."""
    try:
        return NewVisit.model_validate_json(request.body)
    except ValidationError as err:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in err.errors())
        raise BadInput("; ".join(faults)) from None


def integer(request: HttpRequest, name: str, *, default: int, low: int, high: int) -> int:
    """Reads a whole number from the query string."""
    text = request.GET.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise BadInput(f"{name}: a whole number from {low} to {high}")
    return int(text)


def number(request: HttpRequest, name: str, *, default: float = float("nan"), low: float, high: float) -> float:
    """Reads a number from the query string; without a default it must be given."""
    try:
        value = float(request.GET.get(name, default))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise BadInput(f"{name}: a number from {low:g} to {high:g}")
    return value
