"""Lazy loading on the event loop raises ``LazyLoadError``: what was read, and what loads it beforehand.

Django refuses such a query by itself (``SynchronousOnlyOperation``), but names neither model nor field.
Here its error is caught where the field is known. Where the query is allowed (in a greenlet, in a thread)
nothing happens, and what is loaded already is read as fast as before.

Private names used here, in Django 5.2 and 6.1: ``QuerySet._fetch_all``, ``_result_cache``, ``_prefetch_done`` and
``_prefetch_related_lookups``, ``Model._state``, ``django.utils.asyncio.get_running_loop``, and the variable ``func``
of ``django.template.smartif``; ``drift.py`` watches them. What ``lazy_remedies.py`` reads is named there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import django
from django.apps import apps
from django.core.exceptions import SynchronousOnlyOperation
from django.db.models import QuerySet
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor, ReverseOneToOneDescriptor
from django.db.models.query_utils import DeferredAttribute
from django.template import smartif
from django.utils import asyncio

from .errors import LazyLoadError
from .lazy_remedies import of_field, of_manager, of_rows

__all__ = ["install", "uninstall"]

_Function = Callable[..., Any]

_replaced: list[tuple[type, str, _Function | None]] = []
"""The class, the name, and what the class itself had there: None if it inherited it."""


def install() -> None:
    """Makes lazy loading on the event loop raise ``LazyLoadError``; does nothing if it does so already."""
    if _replaced:
        return
    for owner, name, around in _hooks():
        _replaced.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, around(getattr(owner, name)))


def uninstall() -> None:
    """Leaves every class as ``install()`` found it; does nothing without it."""
    while _replaced:
        owner, name, original = _replaced.pop()
        if original is None:
            delattr(owner, name)
        else:
            setattr(owner, name, original)


def _hooks() -> Iterator[tuple[type, str, Callable[[_Function], _Function]]]:
    generic = apps.is_installed("django.contrib.contenttypes")
    if django.VERSION >= (6, 1):
        from django.db.models.fetch_modes import FetchOne, FetchPeers

        yield FetchOne, "fetch", _fetching
        yield FetchPeers, "fetch", _fetching
    else:  # Django < 6.1: no fetch modes, each descriptor asks the database by itself
        yield DeferredAttribute, "__get__", _reading_a_column
        yield ForwardManyToOneDescriptor, "get_object", _reading_forward
        yield ReverseOneToOneDescriptor, "__get__", _reading_backward
        if generic:
            from django.contrib.contenttypes.fields import GenericForeignKey

            yield GenericForeignKey, "__get__", _reading_any
    if generic:
        from django.contrib.contenttypes.fields import ReverseGenericManyToOneDescriptor

        yield ReverseGenericManyToOneDescriptor, "__get__", _making_a_manager
    yield QuerySet, "_fetch_all", _fetching_rows
    yield QuerySet, "count", _asking_rows
    yield QuerySet, "exists", _asking_rows
    yield QuerySet, "iterator", _iterating_rows
    for operator in smartif.OPERATORS.values():
        yield operator, "eval", _evaluating


# One field of one instance


def _read(original: _Function, *args: Any, explain: Callable[..., LazyLoadError], about: tuple[Any, ...]) -> Any:
    try:
        return original(*args)
    except LazyLoadError:  # of a field that was read on the way
        raise
    except SynchronousOnlyOperation as err:
        raise explain(*about) from err


def _fetching(original: _Function) -> _Function:
    @functools.wraps(original)
    def fetch(self: Any, fetcher: Any, instance: Any) -> Any:
        return _read(original, self, fetcher, instance, explain=of_field, about=(fetcher, instance))

    return fetch


def _reading_a_column(original: _Function) -> _Function:
    @functools.wraps(original)
    def __get__(self: Any, instance: Any, cls: Any = None) -> Any:  # noqa: N807
        # The column of a foreign key comes here when it is loaded, too.
        if instance is None:
            return self
        data = instance.__dict__
        if (name := self.field.attname) in data:
            return data[name]
        return _read(original, self, instance, cls, explain=of_field, about=(self, instance))

    return __get__


def _reading_forward(original: _Function) -> _Function:
    @functools.wraps(original)
    def get_object(self: Any, instance: Any) -> Any:
        return _read(original, self, instance, explain=of_field, about=(self, instance))

    return get_object


def _reading_backward(original: _Function) -> _Function:
    @functools.wraps(original)
    def __get__(self: Any, instance: Any, cls: Any = None) -> Any:  # noqa: N807
        if instance is None:
            return self
        if (related := instance._state.fields_cache.get(self.related.cache_name)) is not None:
            return related
        return _read(original, self, instance, cls, explain=of_field, about=(self, instance))

    return __get__


def _reading_any(original: _Function) -> _Function:
    @functools.wraps(original)
    def __get__(self: Any, instance: Any, cls: Any = None) -> Any:  # noqa: N807
        return _read(original, self, instance, cls, explain=of_field, about=(self, instance))

    return __get__


# The rows of a related manager


def _making_a_manager(original: _Function) -> _Function:
    @functools.wraps(original)
    def __get__(self: Any, instance: Any, cls: Any = None) -> Any:  # noqa: N807
        # The manager of a generic relation asks for the content type when it is made.
        return _read(original, self, instance, cls, explain=of_manager, about=(instance, self.rel.field.name))

    return __get__


def _fetching_rows(original: _Function) -> _Function:
    @functools.wraps(original)
    def _fetch_all(self: Any) -> Any:
        if self._result_cache is not None and (self._prefetch_done or not self._prefetch_related_lookups):
            return None
        return _rows_or_explained(original, self)

    return _fetch_all


def _asking_rows(original: _Function) -> _Function:
    @functools.wraps(original)
    def ask(self: Any) -> Any:
        return _rows_or_explained(original, self)

    return ask


def _iterating_rows(original: _Function) -> _Function:
    @functools.wraps(original)
    def iterator(self: Any, *args: Any, **kwargs: Any) -> Any:
        rows = original(self, *args, **kwargs)
        try:
            asyncio.get_running_loop()  # type: ignore[attr-defined]  # Django's, which passes in a greenlet
        except RuntimeError:  # the query is allowed: no row costs more than before
            return rows
        return _until_refused(self, rows)

    return iterator


def _until_refused(rows: Any, each: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from each
    except SynchronousOnlyOperation as err:
        _explain_rows(rows, err)
        raise


def _rows_or_explained(read: _Function, rows: Any) -> Any:
    try:
        return read(rows)
    except SynchronousOnlyOperation as err:
        _explain_rows(rows, err)
        raise


def _explain_rows(rows: Any, err: SynchronousOnlyOperation) -> None:
    """Raises the better error; returns for rows of no related manager, of which Django's own words are right."""
    if not isinstance(err, LazyLoadError) and (explained := of_rows(rows)) is not None:
        raise explained from err


# Templates


def _evaluating(original: _Function) -> _Function:
    """``{% if %}`` takes any error of an operand for False (``smartif.py``, Django 5.2 and 6.1); not this one."""
    evaluate = inspect.getclosurevars(original).nonlocals["func"]
    binary = len(inspect.signature(evaluate).parameters) == 3

    @functools.wraps(original)
    def eval(self: Any, context: Any) -> Any:  # noqa: A001
        try:
            return evaluate(context, self.first, self.second) if binary else evaluate(context, self.first)
        except LazyLoadError:
            raise
        except Exception:
            return False

    return eval
