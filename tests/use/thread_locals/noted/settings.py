"""A project with packages that keep the user, the tenant or the context of a request in a ``threading.local``.

``NOTED_PACKAGES`` says which of them, ``NOTED_BRIDGED`` whether the bridge is installed, ``NOTED_DATABASE_URL`` where.
"""

import os
from urllib.parse import unquote, urlsplit

PACKAGES = os.environ["NOTED_PACKAGES"].split(",")
BRIDGED = os.environ["NOTED_BRIDGED"] == "1"

_url = urlsplit(os.environ["NOTED_DATABASE_URL"])
_family = _url.scheme.partition("+")[0]
DATABASES = {
    "default": {
        "ENGINE": f"django.db.backends.{'sqlite3' if _family == 'sqlite' else _family}",
        "NAME": _url.path[1:],
        "HOST": _url.hostname or "",
        "PORT": _url.port or "",
        "USER": unquote(_url.username or ""),
        "PASSWORD": unquote(_url.password or ""),
        # So many writers at once would otherwise fail on SQLite, with or without the bridge.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 60} if _family == "sqlite" else {},
    }
}
# More than there are requests: while its thread waits for the view, a request may keep a connection.
ASYNC_DB = {"default": {"pool_size": 40, "pool_timeout": 60.0}}
ASYNC_DB_THREAD_LOCALS = ["noted.own._state"] if os.environ.get("NOTED_OWN") == "named" else []
SECRET_KEY = "only for the tests"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "noted.urls"
SILKY_MAX_RECORDED_REQUESTS_CHECK_PERCENT = 0
SILENCED_SYSTEM_CHECKS = ["fields.W342"]

_APPS = {"pghistory": ["pgtrigger", "pghistory"], "crum": ["crum"], "cachalot": ["cachalot"], "silk": ["silk"]}
_MIDDLEWARE = {
    "silk": ["silk.middleware.SilkyMiddleware"],
    "crum": ["crum.CurrentRequestUserMiddleware"],
    "multitenant": ["noted.middleware.tenant"],
    "pghistory": ["pghistory.middleware.HistoryMiddleware"],
    "own": ["noted.own.remember"],
}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    *(app for name in PACKAGES for app in _APPS.get(name, [])),
    "noted",
    *(["django_bridge"] if BRIDGED else []),
]
MIDDLEWARE = [
    *(["django_bridge.middleware.ScopeMiddleware"] if BRIDGED else []),
    "noted.middleware.user",
    *(path for name in PACKAGES for path in _MIDDLEWARE.get(name, [])),
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
}
