"""Settings of the atlas demo: an ordinary Django project with the bridge beside it.

Environment: ``ATLAS_DATABASE_URL`` (absent: a SQLite file), ``ATLAS_DATA`` (the folder of that file and of the
secret key), ``ATLAS_SECRET_KEY``, ``ATLAS_ALLOWED_HOSTS`` (comma-separated), ``ATLAS_POOL_SIZE``,
``ATLAS_POOL_TIMEOUT``, ``ATLAS_DEBUG=1``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from django.core.management.utils import get_random_secret_key

from .databases import database_from_url, sqlite_file

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("ATLAS_DATA") or BASE_DIR / ".data")
DATA_DIR.mkdir(parents=True, exist_ok=True)


def kept_secret_key(path: Path) -> str:
    """Returns the key kept in ``path``; the first process of all writes it."""
    if not path.exists():
        mine = path.with_name(f"{path.name}.{os.getpid()}")
        mine.touch(0o600)
        mine.write_text(get_random_secret_key(), "ascii")
        # A link appears with its content, and only once, however many processes start together.
        with suppress(FileExistsError):
            path.hardlink_to(mine)
        mine.unlink()
    return path.read_text("ascii")


SECRET_KEY = os.environ.get("ATLAS_SECRET_KEY") or kept_secret_key(DATA_DIR / "secret_key")
DEBUG = os.environ.get("ATLAS_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("ATLAS_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_bridge",
    "places",
]

MIDDLEWARE = [
    # The first one, so that sessions, users and every view below share the pool.
    "django_bridge.middleware.ScopeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # The last one, so that it measures the view and not the middleware around it.
    "places.metering.metering",
]

ROOT_URLCONF = "atlas.urls"
WSGI_APPLICATION = "atlas.wsgi.application"
ASGI_APPLICATION = "atlas.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASE_URL = os.environ.get("ATLAS_DATABASE_URL")
DATABASES = {"default": database_from_url(DATABASE_URL) if DATABASE_URL else sqlite_file(DATA_DIR / "atlas.sqlite3")}
del DATABASE_URL  # it may hold a password, and a debug page would not know to hide it

# All of it is optional: host, user, password, time zone and the rest follow DATABASES. Other keys that one may want:
# pool_recycle (seconds after which a connection is replaced), ping_after (idle seconds after which a checkout pings),
# require_at_startup (True: the server does not start while the database is unreachable).
ASYNC_DB = {
    "default": {
        # Connections for each process; a burst beyond them waits in line.
        "pool_size": int(os.environ.get("ATLAS_POOL_SIZE", "10")),
        # Seconds in line before a request fails.
        "pool_timeout": float(os.environ.get("ATLAS_POOL_TIMEOUT", "5")),
    },
}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
