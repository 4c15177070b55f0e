"""The settings under which the tests of django_bridge run; each test puts its own DATABASES over them."""

SECRET_KEY = "only for the tests"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_bridge"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nonexistent/default.sqlite3"}}
