"""The settings under which ``asyncdb_models --types`` makes the module that ``mapped_classes.py`` is about."""

SECRET_KEY = "only for the tests"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "tests.typing.shop", "django_bridge"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
