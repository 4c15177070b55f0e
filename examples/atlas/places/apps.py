"""The app of the atlas."""

from __future__ import annotations

from django.apps import AppConfig


class PlacesConfig(AppConfig):
    """Countries, cities, and who has been there."""

    name = "places"

    def ready(self) -> None:
        """Makes the ``prefix`` lookup known, and counts the queries of every connection from the first on."""
        from . import lookups, metering  # noqa: F401
