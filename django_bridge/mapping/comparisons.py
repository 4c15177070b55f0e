"""``models.Book.title``, which is Django's and no column, and ``models.Book.title == "x"``: no SQL for SQLAlchemy.

Django's attributes of a class compare by identity, so that ``where(models.Book.title == "x")`` would be ``WHERE
false``, and ``!=`` would find, or change, every row. From the first ``mapped()`` on such a comparison gives an object
that is as true or false as before, and says what to write when SQLAlchemy asks what it means; so does the attribute. A
Python bool itself is left alone: SQLAlchemy's users write ``and_(True, *criteria)``, as its documentation says.

Switch: ``ASYNC_DB_GUARD_COMPARISONS = False`` in the settings. An attribute that compares in a way of its own, in a
later Django or by another package's doing, is left alone. Read in Django 5.2 and 6.1 (``db/models/query_utils.py``:
``DeferredAttribute``; ``db/models/fields/related_descriptors.py``; ``db/models/fields/composite.py``).
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings

from ..errors import MappingError
from .no_values import ATTRIBUTES as GUARDED
from .no_values import mapped_name

__all__ = ["Comparison", "guard_comparisons"]


class Comparison:
    """What comparing an attribute of a model's class gives: a bool to Python, an error to SQLAlchemy."""

    __slots__ = ("_attribute", "_outcome")

    def __init__(self, attribute: Any, *, outcome: bool) -> None:
        self._attribute = attribute
        self._outcome = outcome

    def __bool__(self) -> bool:
        return self._outcome

    def __eq__(self, other: object) -> bool:
        return self._outcome == (bool(other) if isinstance(other, Comparison) else other)

    def __hash__(self) -> int:
        return hash(self._outcome)

    def __repr__(self) -> str:
        return repr(self._outcome)

    def __and__(self, other: Any) -> Any:
        return self._joined(other, outcome=self._outcome and bool(other))

    def __or__(self, other: Any) -> Any:
        return self._joined(other, outcome=self._outcome or bool(other))

    __rand__, __ror__ = __and__, __or__

    def _joined(self, other: Any, *, outcome: bool) -> Comparison:
        return Comparison(self._attribute, outcome=outcome) if isinstance(other, bool | Comparison) else self._refuse()

    def __invert__(self) -> Comparison:
        return Comparison(self._attribute, outcome=not self._outcome)

    def __clause_element__(self) -> NoReturn:
        """SQLAlchemy's question what this is in SQL."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        written = mapped_name(self._attribute)
        raise MappingError(
            f"a comparison of Django's {_short(written)} gives no SQL but Python's True or False: write {written}",
        )


def guard_comparisons() -> None:
    """Has comparisons of Django's class attributes refused by SQLAlchemy; again does nothing."""
    if not getattr(settings, "ASYNC_DB_GUARD_COMPARISONS", True):
        return
    guarded: tuple[Any, ...] = GUARDED
    plain: Any = object
    for cls in guarded:
        if cls.__eq__ is plain.__eq__ and cls.__ne__ is plain.__ne__:
            cls.__eq__, cls.__ne__ = _equal, _unequal
            cls.__clause_element__ = _refuse


def _equal(self: Any, other: object) -> Any:
    return Comparison(self, outcome=_is_equal(self, other))


def _unequal(self: Any, other: object) -> Any:
    return Comparison(self, outcome=not _is_equal(self, other))


def _is_equal(attribute: Any, other: Any) -> bool:
    """What Python would say: the same object, or one that says so itself, as ``mock.ANY`` does."""
    if attribute is other:
        return True
    if isinstance(other, GUARDED) or hasattr(other, "__clause_element__"):
        return False
    kind: Any = type(other)
    found = kind.__eq__(other, attribute)
    return found is not NotImplemented and bool(found)


def _refuse(self: Any) -> NoReturn:
    """SQLAlchemy's question what the attribute is in SQL."""
    written = mapped_name(self)
    raise MappingError(f"{_short(written)} is Django's attribute and no column of SQLAlchemy's: write {written}")


def _short(written: str) -> str:
    """``Book.title`` of ``mapped(Book).title``."""
    return written.removeprefix("mapped(").replace(")", "", 1)
