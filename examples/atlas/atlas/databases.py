"""``ATLAS_DATABASE_URL`` as an entry of Django's ``DATABASES``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

ENGINES = {
    "mysql": "django.db.backends.mysql",
    "mariadb": "django.db.backends.mysql",
    "postgresql": "django.db.backends.postgresql",
    "postgres": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}
KEY = "server_public_key_path"
"""The file of a MySQL server's key: what logs in there without TLS encrypts the password for it."""


def database_from_url(url: str) -> dict[str, Any]:
    """Turns ``mysql://``, ``mariadb://``, ``postgresql://`` or ``sqlite:///`` into a ``DATABASES`` entry.

    - **errors**: ``ImproperlyConfigured``; it does not repeat the URL, which may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ImproperlyConfigured(
            "ATLAS_DATABASE_URL is not a database URL (mysql://user:password@host/name)"
        ) from None
    family = parsed.drivername.partition("+")[0]
    if family not in ENGINES:
        raise ImproperlyConfigured(f"ATLAS_DATABASE_URL: no engine for {family!r}; use one of {', '.join(ENGINES)}")
    if not parsed.database:
        raise ImproperlyConfigured("ATLAS_DATABASE_URL names no database")
    if family == "sqlite":
        return sqlite_file(Path(parsed.database))
    unknown = parsed.query.keys() - {"unix_socket", KEY}
    if unknown:
        raise ImproperlyConfigured(f"ATLAS_DATABASE_URL: unknown option {', '.join(sorted(unknown))}")
    return {
        "ENGINE": ENGINES[family],
        "NAME": parsed.database,
        # Django takes a HOST that begins with a slash as a socket.
        "HOST": parsed.query.get("unix_socket") or parsed.host or "",
        "PORT": str(parsed.port or ""),
        "USER": parsed.username or "",
        "PASSWORD": parsed.password or "",
        "OPTIONS": {KEY: parsed.query[KEY]} if KEY in parsed.query else {},
    }


def sqlite_file(path: Path) -> dict[str, Any]:
    """Returns the entry for an embedded database in ``path``."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            # Writers wait in line at BEGIN, not in the middle: else a burst of writes is "database is locked".
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL",
            "timeout": 10,
        },
    }
