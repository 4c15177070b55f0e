"""What can go wrong, as one tree.

::

    AsyncDBError
    ├── ConfigurationError            a setting is wrong or cannot be honoured   (ValueError)
    │   └── DriverNotInstalled        the extra for this family is missing       (ImportError)
    ├── NoEventLoop                   no asyncio event loop runs here            (RuntimeError)
    ├── PoolError                     no connection could be had                 (sqlalchemy TimeoutError)
    │   ├── PoolTimeout               none came free within ``pool_timeout``
    │   ├── PoolOverloaded            ``max_waiting`` others wait already
    │   └── PoolExhaustedByTask       the task that asks holds every connection itself
    ├── DatabaseClosed                the ``Database`` was closed                (sqlalchemy InvalidRequestError)
    ├── ConnectFailed                 the server cannot be reached or refuses    (sqlalchemy OperationalError)
    ├── CommitInDoubt                 a COMMIT was sent and its reply was lost   (sqlalchemy OperationalError)
    ├── TransactionError              the transaction cannot do what was asked   (sqlalchemy InvalidRequestError)
    │   ├── UncommittedWrites         a session ended with writes nobody committed
    │   ├── TransactionOwnedByTask    another task's transaction was reached
    │   ├── TransactionMisuse         ``commit()`` in ``atomic``, a wrong order, a second isolation level
    │   └── TransactionPoisoned       an error ended it on the server; nothing more may run in it
    └── RowError                      the rows are not what was asked for
        ├── NoRow                     ``fetch_one`` found none                   (sqlalchemy NoResultFound)
        ├── ManyRows                  ``fetch_one`` found more than one          (sqlalchemy MultipleResultsFound)
        └── RowShape                  a row does not fit ``into``                (ValueError)

Errors of the server itself (a duplicate key, a syntax error, a lock time-out)
stay SQLAlchemy's: ``sqlalchemy.exc.DBAPIError`` and its children. No message
of ours carries an SQL parameter, a password or a URL; the server's own words may
quote a value (``Duplicate entry 'Momo' for key 'title'``).
"""

from __future__ import annotations

from sqlalchemy import exc as sa_exc


class AsyncDBError(sa_exc.DontWrapMixin, Exception):
    """Base of every error that asyncdb raises by itself; SQLAlchemy passes it on as it is."""


class ConfigurationError(AsyncDBError, ValueError):
    """A setting is unknown, wrong, or cannot be honoured."""


class DriverNotInstalled(ConfigurationError, ImportError):
    """The driver of a database family is not installed."""


class NoEventLoop(AsyncDBError, RuntimeError):
    """asyncdb was called where no asyncio event loop runs."""


class PoolError(AsyncDBError, sa_exc.TimeoutError):
    """The pool could not hand out a connection."""


class PoolTimeout(PoolError):
    """No connection came free within ``pool_timeout`` seconds."""


class PoolOverloaded(PoolError):
    """``max_waiting`` callers wait for a connection already."""


class PoolExhaustedByTask(PoolError):
    """The task that asks for a connection holds every one of them, and would wait for itself."""


class DatabaseClosed(AsyncDBError, sa_exc.InvalidRequestError):
    """The ``Database`` was closed and takes no more work."""


class ConnectFailed(AsyncDBError, sa_exc.OperationalError):
    """No connection to the server could be made: unreachable, refused, or not in time.

    ``__cause__`` is the driver's own error; ``orig`` is that error too.
    """

    def __init__(self, message: str, orig: BaseException) -> None:
        super().__init__(statement=None, params=None, orig=orig, hide_parameters=True)
        self.message = message

    def __str__(self) -> str:
        return self.message


class CommitInDoubt(AsyncDBError, sa_exc.OperationalError):
    """A COMMIT was sent and its reply was lost: the transaction is either whole on the server, or not there at all.

    Nothing was run again, and nothing may be without a look: search for what the transaction wrote, by a key of its
    own. ``__cause__`` and ``orig`` are the driver's error.
    """

    def __init__(self, message: str, orig: BaseException) -> None:
        super().__init__(statement="COMMIT", params=None, orig=orig, hide_parameters=True, connection_invalidated=True)
        self.message = message

    def __str__(self) -> str:
        return self.message


class TransactionError(AsyncDBError, sa_exc.InvalidRequestError):
    """The transaction cannot do what was asked of it."""


class UncommittedWrites(TransactionError):
    """A session ended normally with writes that nobody committed; they were rolled back."""


class TransactionOwnedByTask(TransactionError):
    """A task reached the transaction of another task."""


class TransactionMisuse(TransactionError):
    """A block was used against its order: a commit inside ``atomic``, a second isolation level."""


class TransactionPoisoned(TransactionError):
    """An error ended the transaction on the server: nothing more runs in it, and it is not committed."""


class RowError(AsyncDBError):
    """The rows are not what was asked for."""


class NoRow(RowError, sa_exc.NoResultFound):
    """One row was asked for and none was found."""


class ManyRows(RowError, sa_exc.MultipleResultsFound):
    """One row was asked for and more were found."""


class RowShape(RowError, ValueError):
    """A row does not fit the type given as ``into``."""
