"""Django's wrapper that never connects, and is told what it would ask its server: its version.

Of all else that a wrapper knows of its server no field asks. Read in Django 5.2 and 6.1 (``db/backends/mysql/base.py``:
``mysql_server_data``; ``db/backends/postgresql/base.py``: ``pg_version``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from .. import conf

__all__ = ["NEWEST", "unconnected_wrapper"]

NEWEST = {"mysql": "8.4.0", "postgresql": "17.0.0", "sqlite": "3.50.0"}
"""What is assumed of a server that nobody has asked, by vendor."""


def unconnected_wrapper(alias: str, refuse: Callable[[], NoReturn], version: str | None = None) -> Any:
    """Makes the project's own wrapper for ``alias``, which calls ``refuse`` where it would connect.

    - **errors**: ``ConfigurationError``.
    """
    wrapper: Any = conf.wrapper_for(alias)
    wrapper.ensure_connection = wrapper.connect = refuse
    told = version or NEWEST.get(wrapper.vendor, "")
    if wrapper.vendor == "mysql":
        vars(wrapper)["mysql_server_data"] = {
            "version": told,
            "sql_mode": "",
            "default_storage_engine": "InnoDB",
            "sql_auto_is_null": False,
            "lower_case_table_names": False,
            "has_zoneinfo_database": True,
        }
    elif wrapper.vendor == "postgresql":
        major, minor, *_ = map(int, told.split("."))
        vars(wrapper)["pg_version"] = major * 10000 + minor
    return wrapper
