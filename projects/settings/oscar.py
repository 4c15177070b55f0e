"""Oscar with all of its own apps (its documentation, "Building your own shop")."""

from oscar.defaults import *  # noqa: F403

from .base import *  # noqa: F403
from .base import CONTRIB

_OSCAR = """
    analytics checkout address shipping catalogue catalogue.reviews communication partner basket payment offer order
    customer search voucher wishlists dashboard dashboard.reports dashboard.users dashboard.orders dashboard.catalogue
    dashboard.offers dashboard.partners dashboard.pages dashboard.ranges dashboard.reviews dashboard.vouchers
    dashboard.communications dashboard.shipping
""".split()


def _config(name: str) -> str:
    parts = name.split(".")
    words = parts if name == "catalogue.reviews" else reversed(parts)
    return f"oscar.apps.{name}.apps.{''.join(map(str.title, words))}Config"


INSTALLED_APPS = [
    *CONTRIB,
    "django.contrib.sites",
    "django.contrib.flatpages",
    "oscar.config.Shop",
    *map(_config, _OSCAR),
    "widget_tweaks",
    "haystack",
    "treebeard",
    "django_tables2",
    "django_bridge",
]
SITE_ID = 1
ROOT_URLCONF = "projects.settings.urls"
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {}}]
