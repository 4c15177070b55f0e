"""pretix as its own settings module has it, on another database."""

import os

from projects.job import Job

os.environ.setdefault("DATA_DIR", Job.from_environment().folder)

from pretix.settings import *  # noqa: F403
from pretix.settings import INSTALLED_APPS as _APPS

from .base import DATABASES, LOGGING_CONFIG, SECRET_KEY  # noqa: F401

INSTALLED_APPS = [*_APPS, "django_bridge"]
