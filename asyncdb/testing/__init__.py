"""A laboratory for tests: private database servers, a TCP proxy that counts and breaks, and cancellation everywhere.

Nothing here is mocked. The servers are real ones in temporary folders, and the
faults happen on real sockets. Linux alone.
"""

from __future__ import annotations

from .cancelling import How, cancelled_at, cancelled_everywhere
from .mariadb import MariaDBServer
from .mysql import MySQLServer
from .ports import free_port
from .postgresql import PostgreSQLServer
from .process import ServerFailed
from .proxy import Proxy
from .servers import DatabaseServer, PrivateServer, ServerConnection

__all__ = [
    "DatabaseServer",
    "How",
    "MariaDBServer",
    "MySQLServer",
    "PostgreSQLServer",
    "PrivateServer",
    "Proxy",
    "ServerConnection",
    "ServerFailed",
    "cancelled_at",
    "cancelled_everywhere",
    "free_port",
]
