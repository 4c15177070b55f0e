"""Every app of ``django.contrib`` that has models and needs no library of the system."""

from .base import *  # noqa: F403
from .base import CONTRIB

INSTALLED_APPS = [
    *CONTRIB,
    *(f"django.contrib.{name}" for name in ("flatpages", "redirects", "sites")),
    "django_bridge",
]
SITE_ID = 1
