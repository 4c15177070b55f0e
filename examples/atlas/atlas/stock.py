"""The settings without the bridge, for the comparison: the same project as its team had it before."""

from __future__ import annotations

from .settings import *  # noqa: F403
from .settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [name for name in INSTALLED_APPS if name != "django_bridge"]
MIDDLEWARE = [name for name in MIDDLEWARE if name != "django_bridge.middleware.ScopeMiddleware"]
