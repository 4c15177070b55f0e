"""Countries, their cities, and who has been there."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from .folding import search_name


class Country(models.Model):
    """A country or territory of ISO 3166."""

    class Continent(models.TextChoices):
        """The seven continents of GeoNames."""

        AFRICA = "AF", "Africa"
        ANTARCTICA = "AN", "Antarctica"
        ASIA = "AS", "Asia"
        EUROPE = "EU", "Europe"
        NORTH_AMERICA = "NA", "North America"
        OCEANIA = "OC", "Oceania"
        SOUTH_AMERICA = "SA", "South America"

    code = models.CharField(max_length=2, primary_key=True)
    iso3 = models.CharField(max_length=3, unique=True)
    name = models.CharField(max_length=100)
    continent = models.CharField(max_length=2, choices=Continent, db_index=True)
    capital = models.CharField(max_length=100, blank=True)
    currency = models.CharField(max_length=3, blank=True)
    area_km2 = models.PositiveIntegerField()
    population = models.PositiveBigIntegerField()

    class Meta:
        ordering: ClassVar = ["code"]
        verbose_name_plural = "countries"

    def __str__(self) -> str:
        return self.name


class TimeZone(models.Model):
    """A zone of the IANA database."""

    name = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class City(models.Model):
    """A city of GeoNames; ``id`` is its GeoNames number."""

    id = models.BigIntegerField(primary_key=True, verbose_name="GeoNames number")
    name = models.CharField(max_length=100)
    search_name = models.CharField(max_length=100, db_index=True, editable=False)
    country = models.ForeignKey(Country, models.PROTECT, related_name="cities", db_index=False)
    time_zone = models.ForeignKey(TimeZone, models.PROTECT, related_name="cities")
    latitude = models.FloatField()
    longitude = models.FloatField()
    population = models.PositiveBigIntegerField()
    visit_count = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering: ClassVar = ["-population", "id"]
        verbose_name_plural = "cities"
        indexes: ClassVar = [
            models.Index(fields=["latitude", "longitude"], name="city_position"),
            models.Index(fields=["country", "-population", "id"], name="city_country_population"),
            models.Index(fields=["-population", "id"], name="city_population"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(latitude__gte=-90, latitude__lte=90, longitude__gte=-180, longitude__lte=180),
                name="city_on_earth",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Keeps the search name in step."""
        self.search_name = search_name(self.name)
        super().save(*args, **kwargs)


class AlternativeName(models.Model):
    """Another Latin spelling of a city's name; spellings that fold to the same search name count once."""

    city = models.ForeignKey(City, models.CASCADE, related_name="alternative_names", db_index=False)
    name = models.CharField(max_length=200)
    search_name = models.CharField(max_length=200, editable=False)

    class Meta:
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["city", "search_name"], name="alternative_name_once_for_city"),
        ]

    def __str__(self) -> str:
        return self.name


class Visit(models.Model):
    """Somebody was in a city."""

    city = models.ForeignKey(City, models.CASCADE, related_name="visits")
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering: ClassVar = ["-created_at", "-id"]
        indexes: ClassVar = [models.Index(fields=["-created_at"], name="visit_created_at")]

    def __str__(self) -> str:
        return f"{self.city_id} at {self.created_at:%Y-%m-%d %H:%M}"
