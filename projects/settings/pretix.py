"""pretix as its own settings module has it, on another database."""

import os

os.environ.setdefault("DATA_DIR", os.path.dirname(os.environ["PROJECT_DATABASE"]))  # noqa: PTH120  (as pretix reads it)

from pretix.settings import *  # noqa: F403
from pretix.settings import INSTALLED_APPS as _APPS

from .base import DATABASES, LOGGING_CONFIG, SECRET_KEY  # noqa: F401

INSTALLED_APPS = [*_APPS, "django_bridge"]
