"""What every project gets: a SQLite file, and the bridge."""

from __future__ import annotations

import os
from typing import Any

SECRET_KEY = "only for these checks"  # noqa: S105  (it guards nothing)
DATABASES: dict[str, Any] = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["PROJECT_DATABASE"]}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGGING_CONFIG = None
CONTRIB = [
    f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "sessions", "staticfiles")
]
STATIC_URL = "/static/"
MEDIA_URL = "/media/"
