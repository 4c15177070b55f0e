"""The Django application ``django_bridge``."""

from __future__ import annotations

from types import ModuleType

from django.apps import AppConfig


class DjangoBridgeConfig(AppConfig):
    """Registers the system checks, and Django's models as what rows become; it has none itself."""

    name = "django_bridge"
    verbose_name = "django-asyncdb"
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: ModuleType | None) -> None:
        # Before any models module, which may already load a backend: Model's options ask it for the longest name.
        from .wrappers import mysqldb

        mysqldb.make_importable()
        super().__init__(app_name, app_module)

    def ready(self) -> None:
        from . import checks, hooks
        from .mapping import instances

        checks.register()
        hooks.install()
        instances.install()
