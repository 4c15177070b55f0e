"""The storm's project: ``STORM`` says its database, whether a view is broken on
purpose, and whether a sync middleware says the tenant or the views do."""

import json
import os

_said = json.loads(os.environ["STORM"])
BROKEN = _said["broken"]
SECRET_KEY = "only for the storm"
ROOT_URLCONF = "benchmarks.soak.site.urls"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DATABASES = {"default": _said["database"]}
ASYNC_DB = {
    "default": {
        "pool_size": _said["pool_size"],
        "pool_timeout": 20.0,
        "thread_pool": _said["thread_pool"],
        "thread_pool_size": _said["pool_size"],
    }
}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "benchmarks.soak.site",
    "django_bridge",
]
MIDDLEWARE = [
    "django_bridge.middleware.ScopeMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    *(["benchmarks.soak.site.middleware.tenant"] if _said["sync_middleware"] else []),
]
MIGRATION_MODULES = {"contenttypes": None, "sessions": None}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
