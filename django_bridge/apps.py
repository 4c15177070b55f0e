"""The Django application ``django_bridge``."""

from __future__ import annotations

from django.apps import AppConfig


class DjangoBridgeConfig(AppConfig):
    """Registers the system checks; it has no models."""

    name = "django_bridge"
    verbose_name = "django-asyncdb"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, hooks

        checks.register()
        hooks.install()
