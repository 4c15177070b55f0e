"""Which errors of MySQL and MariaDB end a connection.

Sources: MySQL 8.4 manual, "Server Error Message Reference" and "Client Error Message Reference"; MariaDB
documentation, "MariaDB Error Codes"; Galera Cluster documentation, on 1047.
"""

from __future__ import annotations

from typing import Any

from .mysql_literals import UnsendableParameter

ENDS_CONNECTION = {
    1042: "ER_BAD_HOST_ERROR",
    1043: "ER_HANDSHAKE_ERROR",
    1047: "ER_UNKNOWN_COM_ERROR: a Galera node that is not, or no more, of its cluster",
    1053: "ER_SERVER_SHUTDOWN",
    1077: "ER_NORMAL_SHUTDOWN",
    1078: "ER_GOT_SIGNAL",
    1079: "ER_SHUTDOWN_COMPLETE",
    1080: "ER_FORCING_CLOSE",
    1152: "ER_ABORTING_CONNECTION",
    1153: "ER_NET_PACKET_TOO_LARGE: the server reads no further",
    1154: "ER_NET_READ_ERROR_FROM_PIPE",
    1155: "ER_NET_FCNTL_ERROR",
    1156: "ER_NET_PACKETS_OUT_OF_ORDER",
    1157: "ER_NET_UNCOMPRESS_ERROR",
    1158: "ER_NET_READ_ERROR",
    1159: "ER_NET_READ_INTERRUPTED",
    1160: "ER_NET_ERROR_ON_WRITE",
    1161: "ER_NET_WRITE_INTERRUPTED",
    1184: "ER_NEW_ABORTING_CONNECTION",
    1835: "ER_MALFORMED_PACKET",
    1836: "ER_READ_ONLY_MODE: not the primary any more",
    1927: "ER_CONNECTION_KILLED (MariaDB)",
    3032: "ER_SERVER_OFFLINE_MODE",
    3169: "ER_SESSION_WAS_KILLED",
    4031: "ER_CLIENT_INTERACTION_TIMEOUT: idle for too long; the statement was not run",
}
"""Complete error packets after which the connection is of no use: shutdown, kill, idle time-out, network, failover."""

_OPTION_PREVENTS_STATEMENT = 1290
"""Of many options; only of ``read_only`` and ``super_read_only`` does it mean that another server is the primary."""

UNSENT = frozenset({2006, 4031})
"""Errors with which a statement was certainly not executed: asyncmy could not send it, the server had closed before."""

INTERRUPTED = (frozenset(ENDS_CONNECTION) - UNSENT) | {1317}
"""Replies to a COMMIT that was stopped amid its work, as one that waits for a replica's word when it is applied."""


def is_complete(code: Any) -> bool:
    """Whether an error's number is the server's own, so that its packet arrived whole."""
    return isinstance(code, int) and (1000 <= code < 2000 or code >= 3000)


def ends_connection(error: BaseException) -> bool:
    """Whether the connection that ``error`` came from is not to be used again.

    A complete error packet of the server's leaves the stream whole, unless it is one of :data:`ENDS_CONNECTION`.
    Whatever else the driver raises (2006, 2013, 2055, a packet out of order) says that nobody knows what comes next.
    The words of an error decide nothing, save for 1290: they may be a user's (``Duplicate entry 'not connected'``).
    """
    if isinstance(error, UnsendableParameter):
        return False
    code: Any = error.args[0] if error.args else None
    if not is_complete(code):
        return True
    if code == _OPTION_PREVENTS_STATEMENT:
        words = str(error.args[-1]).lower()
        return "read-only" in words or "read_only" in words
    return code in ENDS_CONNECTION
