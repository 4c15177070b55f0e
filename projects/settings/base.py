"""What every project gets: the database of its job, and the bridge."""

from __future__ import annotations

from typing import Any

from projects.job import Job

SECRET_KEY = "only for these checks"  # noqa: S105  (it guards nothing)
DATABASES: dict[str, Any] = Job.from_environment().databases
if Job.from_environment().family == "mysql":  # a server without TLS, which gives its key to who asks
    ASYNC_DB = {"default": {"driver_options": {"get_server_public_key": True}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGGING_CONFIG = None
CONTRIB = [
    f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "sessions", "staticfiles")
]
STATIC_URL = "/static/"
MEDIA_URL = "/media/"
