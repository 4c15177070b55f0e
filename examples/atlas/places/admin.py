"""The admin of the atlas: an ordinary one, on Django's ORM."""

from __future__ import annotations

from django.contrib import admin

from .models import AlternativeName, City, Country, TimeZone, Visit


class AlternativeNameInline(admin.TabularInline):
    """A city's other names, as they were loaded."""

    model = AlternativeName
    extra = 0
    can_delete = False
    readonly_fields = ("name",)

    def has_add_permission(self, *_: object) -> bool:
        """They come from the data set."""
        return False


@admin.register(Country)
class CountryAdmin(admin.ModelAdmin):
    """Countries by continent."""

    list_display = ("code", "name", "continent", "capital", "population")
    list_filter = ("continent",)
    search_fields = ("name", "code", "iso3")


@admin.register(City)
class CityAdmin(admin.ModelAdmin):
    """Cities, found by name."""

    list_display = ("name", "country", "population", "time_zone", "visit_count")
    list_select_related = ("country", "time_zone")
    list_filter = ("country__continent",)
    search_fields = ("search_name",)
    raw_id_fields = ("country", "time_zone")
    readonly_fields = ("visit_count",)
    inlines = (AlternativeNameInline,)


@admin.register(TimeZone)
class TimeZoneAdmin(admin.ModelAdmin):
    """Time zones."""

    search_fields = ("name",)


@admin.register(Visit)
class VisitAdmin(admin.ModelAdmin):
    """Visits, the newest first."""

    list_display = ("city", "note", "created_at")
    list_select_related = ("city",)
    raw_id_fields = ("city",)
    readonly_fields = ("created_at",)
