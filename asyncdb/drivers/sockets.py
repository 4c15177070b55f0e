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


def shut_down(fileno: int) -> None:
    """Ends both directions of a socket that a C library owns: its waiting reader sees the end at once."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fileno)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
