"""A look at a socket that costs no round trip: has the peer closed it, or said something unasked?"""

from __future__ import annotations

import contextlib
import os
import select
import socket

from .physical import Liveness

_HUNG_UP = select.POLLERR | select.POLLHUP | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)


class SocketLook:
    """Polls one file descriptor without waiting; made once per connection, about a microsecond a look.

    Nothing is read: an idle connection on which something has arrived is ``SUSPECT``.
    """

    def __init__(self, fileno: int) -> None:
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLIN | getattr(select, "POLLRDHUP", 0))

    def __call__(self) -> Liveness:
        ready = self._poll.poll(0)
        if not ready:
            return Liveness.WHOLE
        return Liveness.DEAD if ready[0][1] & _HUNG_UP else Liveness.SUSPECT


_ASKS, _EVERY = 3, 10


def keep_alive(fileno: int, idle: float | None) -> None:
    """Has the system look after the peer: after ``idle`` seconds of silence it asks three times, ten seconds apart.

    What was sent may stay unacknowledged for the same time (Linux' ``TCP_USER_TIMEOUT``), and so may a peer's full
    buffer. Does nothing for a Unix socket, or for what the system has not.
    """
    if idle is None:
        return
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fileno)) as duplicate:
        if duplicate.family not in (socket.AF_INET, socket.AF_INET6):
            return
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        values = {
            "TCP_KEEPIDLE": int(idle),
            "TCP_KEEPALIVE": int(idle),  # macOS' name for it
            "TCP_KEEPINTVL": _EVERY,
            "TCP_KEEPCNT": _ASKS,
            "TCP_USER_TIMEOUT": int((idle + _ASKS * _EVERY) * 1000),
        }
        for name, value in values.items():
            if (option := getattr(socket, name, None)) is not None:
                duplicate.setsockopt(socket.IPPROTO_TCP, option, value)


def shut_down(fileno: int) -> None:
    """Ends both directions of a socket that a C library owns: its waiting reader sees the end at once."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fileno)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
