"""Free TCP ports on 127.0.0.1 for servers that must find their port again after a restart."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Returns a port that nobody listens on.

    It lies below the range from which the kernel takes the ports of outgoing connections: while a server is
    down, no client can be given its port, and none that keeps on dialling can end up connected to itself.
    """
    try:
        top = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        top = 32768
    candidates = range(min(15000, top // 2), top)
    for _ in range(100):
        port = random.choice(candidates)  # not secret: two test runs should not try the same ports in turn
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port found in 100 tries between {candidates.start} and {candidates.stop - 1}")
