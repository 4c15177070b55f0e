"""An async data layer for MySQL, MariaDB, PostgreSQL and SQLite on SQLAlchemy. It knows nothing of Django."""

from . import errors, events, registry
from .config import DatabaseConfig, Family, IsolationLevel, TLSMode
from .database import Database
from .errors import (
    AsyncDBError,
    CommitInDoubt,
    ConfigurationError,
    ConnectFailed,
    DatabaseClosed,
    DriverNotInstalled,
    InvalidCursor,
    ManyRows,
    NoEventLoop,
    NoRow,
    PageError,
    PoolError,
    PoolExhaustedByTask,
    PoolOverloaded,
    PoolTimeout,
    RowError,
    RowShape,
    TransactionError,
    TransactionMisuse,
    TransactionOwnedByTask,
    TransactionPoisoned,
    UncommittedWrites,
)
from .health import Health
from .limits import statement_limit
from .paging import KeysetPage, Page
from .retry import retried
from .session import Session
from .statistics import PoolCounts, PoolStats
from .streaming import RowStream

__all__ = [
    "AsyncDBError",
    "CommitInDoubt",
    "ConfigurationError",
    "ConnectFailed",
    "Database",
    "DatabaseClosed",
    "DatabaseConfig",
    "DriverNotInstalled",
    "Family",
    "Health",
    "InvalidCursor",
    "IsolationLevel",
    "KeysetPage",
    "ManyRows",
    "NoEventLoop",
    "NoRow",
    "Page",
    "PageError",
    "PoolCounts",
    "PoolError",
    "PoolExhaustedByTask",
    "PoolOverloaded",
    "PoolStats",
    "PoolTimeout",
    "RowError",
    "RowShape",
    "RowStream",
    "Session",
    "TLSMode",
    "TransactionError",
    "TransactionMisuse",
    "TransactionOwnedByTask",
    "TransactionPoisoned",
    "UncommittedWrites",
    "errors",
    "events",
    "registry",
    "retried",
    "statement_limit",
]
