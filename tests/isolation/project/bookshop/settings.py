"""The bookshop with the bridge, and with the counter, whose views use sessions."""

import os

from .stock import *  # noqa: F403
from .stock import INSTALLED_APPS, MIDDLEWARE

ROOT_URLCONF = "bookshop.bridged_urls"
INSTALLED_APPS = [*INSTALLED_APPS, "django_bridge", "counter"]
MIDDLEWARE = ["django_bridge.middleware.ScopeMiddleware", *MIDDLEWARE]
# Without joining, the tests of sessions must fail: the driver's own control.
ASYNC_DB = {"default": {"join": "never"}} if os.environ.get("JOIN_TESTS") == "0" else {}
