"""A laboratory: private servers, a TCP proxy that counts and breaks, a server that lies, cancellation everywhere.

Nothing here is mocked. The servers are real ones in temporary folders, and the
faults happen on real sockets. Linux alone.
"""

from __future__ import annotations

from .cancelling import How, cancelled_at, cancelled_everywhere
from .hostile import HostileMySQLServer, Peer
from .mariadb import MariaDBServer
from .mysql import MySQLServer, RunningMySQLServer
from .ports import free_port
from .postgresql import PostgreSQLServer
from .process import ServerFailed
from .proxy import Proxy
from .servers import DatabaseServer, PrivateServer, ServerConnection

__all__ = [
    "DatabaseServer",
    "HostileMySQLServer",
    "How",
    "MariaDBServer",
    "MySQLServer",
    "Peer",
    "PostgreSQLServer",
    "PrivateServer",
    "Proxy",
    "RunningMySQLServer",
    "ServerConnection",
    "ServerFailed",
    "cancelled_at",
    "cancelled_everywhere",
    "free_port",
]
