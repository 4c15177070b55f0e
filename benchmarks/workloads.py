"""What is asked of every path. A further workload is one more class here, and one method in each path that has it."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from .data import ACCOUNTS, CITIES, COUNTRIES, STATIONS

PAGE = 100
JOINED = 20
MODELS = 1_000


def to_json(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The one JSON encoder of all paths: the standard library's, as Django's ``JsonResponse`` has it."""
    return json.dumps(list(rows), default=str, ensure_ascii=False, separators=(",", ":")).encode()


class Workload(ABC):
    """One kind of request: ``method`` of a path, called with :meth:`arguments`."""

    name: ClassVar[str]
    title: ClassVar[str]
    method: ClassVar[str]
    rows_written: ClassVar[int] = 0
    """Rows of the ledger that a request leaves; if any, the ledger and not what the call returns is compared."""

    def __init__(self, seed: int) -> None:
        self._keys = random.Random(seed).sample(range(CITIES), k=CITIES)

    @abstractmethod
    def arguments(self, number: int) -> tuple[Any, ...]:
        """The arguments of request ``number``; the same for every path."""


class PointRead(Workload):
    name = "W1"
    title = "point read by primary key"
    method = "point"

    def arguments(self, number: int) -> tuple[Any, ...]:
        return (self._keys[number % CITIES],)


class ListToJson(Workload):
    name = "W2"
    title = f"{PAGE} rows to JSON"
    method = "page"

    def arguments(self, number: int) -> tuple[Any, ...]:
        first = self._keys[number % CITIES] % (CITIES - PAGE)
        return first, first + PAGE - 1


class JoinedRead(Workload):
    name = "W3"
    title = f"{JOINED} rows of a join"
    method = "join"

    def arguments(self, number: int) -> tuple[Any, ...]:
        return self._keys[number % CITIES] % COUNTRIES, JOINED


class Transaction(Workload):
    name = "W4"
    title = "transaction: BEGIN, UPDATE, UPDATE, INSERT, COMMIT"
    method = "transfer"
    rows_written = 3

    def arguments(self, number: int) -> tuple[Any, ...]:
        # No two requests at one time touch the same account: this measures clients, not the server's locks.
        source = 2 * number % ACCOUNTS
        return source, source + 1, 1 + number % 7


class MixedTransaction(Workload):
    name = "W5"
    title = "mixed transaction: BEGIN, SELECT FOR UPDATE, UPDATE, INSERT, COMMIT"
    method = "debit"
    rows_written = 2

    def arguments(self, number: int) -> tuple[Any, ...]:
        return number % ACCOUNTS, (number + 1) % ACCOUNTS, 1 + number % 7  # one account each, as above


class RowsToModels(Workload):
    name = "W6"
    title = f"{MODELS:,} rows of 11 columns into pydantic models"
    method = "models"

    def arguments(self, number: int) -> tuple[Any, ...]:
        first = self._keys[number % CITIES] % (STATIONS - MODELS)
        return first, first + MODELS - 1


class Checkout(Workload):
    name = "W7"
    title = "checkout and check-in of a healthy, warm connection"
    method = "checkout"

    def arguments(self, number: int) -> tuple[Any, ...]:
        return ()


WORKLOADS: tuple[type[Workload], ...] = (
    PointRead,
    ListToJson,
    JoinedRead,
    Transaction,
    MixedTransaction,
    RowsToModels,
    Checkout,
)
