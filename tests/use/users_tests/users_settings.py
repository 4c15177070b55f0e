"""A project with the bridge; ``STOCK=1`` is the same one without it."""

import os
from urllib.parse import unquote, urlsplit

BRIDGED = "STOCK" not in os.environ


def database_from_url(url):
    """What is in NAME is never made: only tests run here, and they have a database of their own."""
    parts = urlsplit(url)
    name = parts.path.removeprefix("/")
    if parts.scheme == "sqlite":
        test = f"{name}.test" if name else None
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name or ":memory:", "TEST": {"NAME": test}}
    return {
        "ENGINE": f"django.db.backends.{parts.scheme}",
        "NAME": name,
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
    }


SECRET_KEY = "only for the tests"
ROOT_URLCONF = "notes.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {
    "default": database_from_url(os.environ["USERS_DATABASE_URL"]),
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "notes"]
MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
ASYNC_DB = {}
if DATABASES["default"]["ENGINE"].endswith("mysql"):  # without TLS MySQL's key is needed, to send it the password
    ASYNC_DB = {"default": {"driver_options": {"get_server_public_key": True}}}
if BRIDGED:
    INSTALLED_APPS.append("django_bridge")
    MIDDLEWARE.insert(0, "django_bridge.middleware.ScopeMiddleware")
    if "THREAD_POOL" in os.environ:
        ASYNC_DB["default"] = {"thread_pool": True}
if "SYNC_MIDDLEWARE" in os.environ:
    MIDDLEWARE.append("notes.views.sync_middleware")
