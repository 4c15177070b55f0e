"""What can go wrong in the bridge, beside ``asyncdb.errors``, as one tree.

::

    asyncdb.AsyncDBError
    ├── ScopeError              a scope cannot do what was asked of it
    │   ├── ScopeOwnedByTask    another task's scope was reached
    │   ├── ScopeClosed         the scope has ended
    │   ├── ScopeInTwoPlaces    it has a transaction or a changed session in its thread, and another one here
    │   └── SessionLost         the connection that carried its changed session is gone  (django.db.OperationalError)
    ├── MappingError            a model, or a value of it, cannot be had through SQLAlchemy
    │   ├── NotMapped           the model has no table here, or no mapped class yet   (LookupError)
    │   ├── UnmappableField     a field has no column that SQLAlchemy could read      (TypeError)
    │   ├── GeneratedColumn     a column that the database computes was written       (TypeError)
    │   └── FieldValueError     a field cannot take the value of a parameter          (ValueError)
    ├── asyncdb.CommitInDoubt
    │   └── CommitInDoubt       the same, as the ORM raises it                    (django.db.OperationalError)
    └── asyncdb.TransactionMisuse
        ├── DurableNested       ``atomic(durable=True)`` inside another block         (RuntimeError)
        └── JoinRefused         sync code beneath is in a transaction, and nobody said whether to join it

    django.core.exceptions.SynchronousOnlyOperation
    └── LazyLoadError           a field or relation that was not loaded was read on the event loop

    AssertionError
    └── QueryBudgetExceeded     a block sent more queries than its ``query_budget``

Errors of the database itself stay Django's in the ORM (``django.db.Error`` and its children) and
SQLAlchemy's in a session.
"""

from __future__ import annotations

from django.core.exceptions import SynchronousOnlyOperation
from django.db.utils import OperationalError

from asyncdb import errors
from asyncdb.errors import AsyncDBError, TransactionMisuse

__all__ = [
    "CommitInDoubt",
    "DurableNested",
    "FieldValueError",
    "GeneratedColumn",
    "JoinRefused",
    "LazyLoadError",
    "MappingError",
    "NotMapped",
    "QueryBudgetExceeded",
    "ScopeClosed",
    "ScopeError",
    "ScopeInTwoPlaces",
    "ScopeOwnedByTask",
    "SessionLost",
    "UnmappableField",
]


class CommitInDoubt(errors.CommitInDoubt, OperationalError):
    """A COMMIT of the ORM, or of ``atomic()``, was sent and its reply was lost; see :class:`asyncdb.CommitInDoubt`.

    Both names catch it, and so does ``django.db.OperationalError``: catch it first, for what it stops must not be
    run again.
    """


class ScopeError(AsyncDBError):
    """A scope cannot do what was asked of it."""


class ScopeOwnedByTask(ScopeError):
    """A task reached the scope of another task, which cannot be shared now."""


class ScopeClosed(ScopeError):
    """A scope was used after its end."""


class ScopeInTwoPlaces(ScopeError):
    """Sync code and async code of one request have each changed a session of one alias, or begun a transaction."""


class SessionLost(ScopeError, OperationalError):
    """A scope's connection was lost on which a statement had changed the session: a setting, a lock, a temporary table.

    Nothing runs in that scope without it, until it ends or ``connection.close()`` or ``close_old_connections()`` is
    called. As Django's own connections, which raise until they are closed.
    """


class MappingError(AsyncDBError):
    """A model, or a value of it, cannot be had through SQLAlchemy."""


class NotMapped(MappingError, LookupError):
    """The model has no table of its own, is not installed, or is asked for before Django's models are loaded."""


class UnmappableField(MappingError, TypeError):
    """A field has a column that SQLAlchemy could not read or write as Django does; the model is not mapped."""


class GeneratedColumn(MappingError, TypeError):
    """A column that the database computes was written."""


class FieldValueError(MappingError, ValueError):
    """A field cannot take the value of a parameter; the message names the field and the type, never the value."""


class DurableNested(TransactionMisuse, RuntimeError):
    """A durable block inside another one, which would decide over its rows."""


class JoinRefused(TransactionMisuse):
    """Async code beneath which sync code is in a transaction asked for a session, and did not say ``join``."""


class LazyLoadError(SynchronousOnlyOperation):
    """A field or relation that was not loaded was read on the event loop; the message says what to load, and how."""


class QueryBudgetExceeded(AssertionError):
    """A block sent more queries than ``query_budget`` allows; the message lists their SQL, without parameters."""
