"""The models of the tests of mapping."""

from __future__ import annotations

from .postgres import POSTGRES
from .relations import RELATIONS
from .values import VALUES

EVERYWHERE = [*VALUES, *RELATIONS]

__all__ = ["EVERYWHERE", "POSTGRES"]
