"""The settings that the django-stubs plugin of mypy reads; nothing runs on them."""

SECRET_KEY = "only for the type checker"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
