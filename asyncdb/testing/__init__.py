"""A laboratory for tests: private database servers, a TCP proxy that counts and breaks, a server that lies.

Nothing here is mocked. The servers are real ones in temporary folders, and the
faults happen on real sockets. Linux alone.
"""

from __future__ import annotations

from .hostile import HostileMySQLServer, Peer
from .mariadb import MariaDBServer
from .mysql import MySQLServer
from .ports import free_port
from .postgresql import PostgreSQLServer
from .process import ServerFailed
from .proxy import Proxy
from .servers import DatabaseServer, PrivateServer, ServerConnection

__all__ = [
    "DatabaseServer",
    "HostileMySQLServer",
    "MariaDBServer",
    "MySQLServer",
    "Peer",
    "PostgreSQLServer",
    "PrivateServer",
    "Proxy",
    "ServerConnection",
    "ServerFailed",
    "free_port",
]
