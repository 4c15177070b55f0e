"""What ``contrib.gis``'s wrapper does at connect, where GDAL is not needed to import it (Django 5.2 and 6.1)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    lib_spatialite_paths = ("/nonexistent/mod_spatialite",)

    def get_new_connection(self, conn_params: Any) -> Any:
        conn = super().get_new_connection(conn_params)
        for path in self.lib_spatialite_paths:
            try:
                conn.enable_load_extension(True)
                conn.load_extension(path)
            except Exception:
                continue
            return conn
        raise ImproperlyConfigured(
            "Unable to load the SpatiaLite library extension. Library names tried: "
            + ", ".join(self.lib_spatialite_paths)
        )
