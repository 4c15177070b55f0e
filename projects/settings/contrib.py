"""Every app of ``django.contrib``; but for the GIS, which has models on a spatial database alone."""

from projects.job import Job

from .base import *  # noqa: F403
from .base import CONTRIB

_MORE = ["admindocs", "flatpages", "humanize", "redirects", "sitemaps", "sites", "syndication"]
if Job.from_environment().family == "postgresql":
    _MORE.append("postgres")
INSTALLED_APPS = [*CONTRIB, *(f"django.contrib.{name}" for name in _MORE), "django_bridge"]
SITE_ID = 1
