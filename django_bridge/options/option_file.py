"""MySQL's option files (``read_default_file``), as far as they say how to connect.

Source: MySQL 8.4 Reference Manual, 6.2.2.2 "Using Option Files".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "r": "\r", "\\": "\\", "s": " "}
_PARAMETERS = {
    "host": "host",
    "port": "port",
    "socket": "unix_socket",
    "user": "user",
    "password": "password",
    "database": "database",
    "default-character-set": "charset",
    "connect-timeout": "connect_timeout",
    "init-command": "init_command",
    "ssl-mode": "ssl_mode",
}
_TLS_FILES = {"ssl-ca": "ca", "ssl-cert": "cert", "ssl-key": "key"}


class OptionFileError(ValueError):
    """The file cannot be read, or says what cannot be honoured; the message carries no value of it."""


def read(path: str, group: str | None = None) -> dict[str, Any]:
    """Returns mysqlclient's parameters from the groups ``[client]`` and ``group``, the later one winning."""
    found: dict[str, Any] = {}
    current = ""
    for number, line in enumerate(_lines(path), start=1):
        if not line or line[0] in "#;":
            continue
        if line[0] == "!":
            raise OptionFileError(f"has {line.split()[0]} on line {number}, which is not followed")
        if line[0] == "[":
            current = line.strip("[]").strip()
        elif current in {"client", group}:
            key, _, value = line.partition("=")
            _note(found, key.strip().replace("_", "-"), _unquoted(value.strip()), number)
    return found


def _lines(path: str) -> list[str]:
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            return [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as err:
        raise OptionFileError(f"cannot be read ({type(err).__name__})") from None


def _note(found: dict[str, Any], key: str, value: str, number: int) -> None:
    if key in _TLS_FILES:
        found.setdefault("ssl", {})[_TLS_FILES[key]] = value
    elif key == "port":
        if not value.isdecimal():
            raise OptionFileError(f"has a port on line {number} that is not a number")
        found["port"] = int(value)
    elif key in _PARAMETERS:
        found[_PARAMETERS[key]] = value
    else:
        raise OptionFileError(f"has the key {key!r} on line {number}, which has no counterpart in asyncmy")


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return re.sub(r"\\([btnrs\\])", lambda found: _ESCAPES[found[1]], value)
