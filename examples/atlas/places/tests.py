"""Tests of the app itself: ``manage.py test``."""

# ruff: noqa: PT009, PT027  # unittest, as Django runs it

from __future__ import annotations

from random import Random

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.utils import IntegrityError
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from . import geo
from .dataset import DataSet
from .folding import search_name
from .models import AlternativeName, City, Country, TimeZone, Visit


class Folding(SimpleTestCase):
    def test_a_name_folds_to_what_one_types(self) -> None:
        typed = {
            "São Tomé": "sao tome",
            "L'Aquila": "laquila",
            "Łódź": "lodz",
            "Straße": "strasse",
            "Đà Nẵng": "da nang",
            "Al ‘Ayn": "al ayn",
            "Saint-Denis": "saint denis",
            "İzmir": "izmir",
            "IĞDIR": "igdir",
            "  Paris  ": "paris",
        }
        self.assertEqual({name: search_name(name) for name in typed}, typed)

    def test_a_name_in_another_script_folds_to_nothing(self) -> None:
        self.assertEqual([search_name(name) for name in ("Москва", "東京", "%_\\", "")], ["", "", "", ""])


class Geometry(SimpleTestCase):
    def test_known_distances(self) -> None:
        self.assertAlmostEqual(geo.distance_km(48.8566, 2.3522, 51.5074, -0.1278), 343.6, delta=0.5)
        self.assertAlmostEqual(geo.distance_km(0, 179.5, 0, -179.5), 111.2, delta=0.1)
        self.assertAlmostEqual(geo.distance_km(90, 0, -90, 0), 20015.1, delta=0.1)
        self.assertEqual(geo.distance_km(12, 34, 12, 34), 0)

    def test_no_place_within_the_circle_is_outside_the_box(self) -> None:
        random = Random(7)
        for _ in range(20_000):
            lat, lon = random.choice((-90, -89.9, 0, 60, 89.9, 90, random.uniform(-90, 90))), random.uniform(-180, 180)
            lon = random.choice((lon, -180, 180, 179.99, -179.99))
            other = (
                max(-90, min(90, lat + random.uniform(-2, 2))),
                (lon + random.uniform(-3, 3) * random.choice((1, 60)) + 180) % 360 - 180,
            )
            radius = random.choice(geo.RADII_KM)
            if geo.distance_km(lat, lon, *other) <= radius:
                box = geo.box_around(lat, lon, radius)
                self.assertTrue(box.south <= other[0] <= box.north, (lat, lon, other, radius))
                self.assertTrue(any(west <= other[1] <= east for west, east in box.spans), (lat, lon, other, radius))

    def test_the_widest_circle_holds_the_whole_earth(self) -> None:
        self.assertLess(geo.distance_km(90, 0, -90, 0), geo.RADII_KM[-1])
        self.assertEqual(geo.box_around(0, 0, geo.RADII_KM[-1]), geo.Box(-90, 90, ((-180, 180),)))


class Load(TransactionTestCase):
    def test_a_second_load_changes_nothing_and_keeps_the_visits(self) -> None:
        def counts() -> list[int]:
            return [model.objects.count() for model in (Country, TimeZone, City, AlternativeName)]

        call_command("load_places", limit=200, stdout=Quiet())
        loaded = counts()
        City.objects.filter(name="Tokyo").update(visit_count=3)
        call_command("load_places", limit=200, force=True, stdout=Quiet())
        self.assertEqual(counts(), loaded)
        self.assertEqual(loaded[2], 200)
        self.assertEqual(City.objects.get(name="Tokyo").visit_count, 3)

    def test_a_larger_load_adds_to_a_smaller_one(self) -> None:
        for limit in (20, 40):
            call_command("load_places", limit=limit, stdout=Quiet())
            self.assertEqual(City.objects.count(), limit)


class Data(SimpleTestCase):
    def test_there_are_tens_of_thousands_of_cities_and_each_can_be_found(self) -> None:
        records = DataSet()
        self.assertGreater(records.size, 30_000)
        zones = {zone.name: number for number, zone in enumerate(records.time_zones)}
        unfindable = [city.name for city in records.cities(zones) if not city.search_name]
        self.assertEqual(unfindable, [])


class Constraints(TestCase):
    def test_a_city_off_the_earth_is_refused(self) -> None:
        Country.objects.create(code="AA", iso3="AAA", name="A", continent="EU", area_km2=1, population=1)
        zone = TimeZone.objects.create(name="Etc/A")
        with self.assertRaises(IntegrityError):
            City.objects.create(id=1, name="A", country_id="AA", time_zone=zone, latitude=91, longitude=0, population=1)


class Pages(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        call_command("load_places", limit=30, stdout=Quiet())
        cls.root = User.objects.create_superuser("root")

    def test_the_admin_lists_shows_and_saves(self) -> None:
        self.client.force_login(self.root)
        for page in ("country/", "city/?q=tok", "timezone/", "visit/", "city/1850147/change/", "visit/add/"):
            self.assertEqual(self.client.get(f"/admin/places/{page}").status_code, 200, page)
        self.client.post("/admin/places/visit/add/", {"city": 1850147, "note": "by the admin"})
        self.assertEqual(Visit.objects.get().city.name, "Tokyo")

    def test_a_sync_stack_finds_what_the_test_has_written_and_counts_queries_too(self) -> None:
        for kind in ("stock", "stock/async"):
            reply = self.client.get(f"/{kind}/search/?q=to")
            self.assertEqual(reply.headers["X-Queries"], "1", kind)
            self.assertEqual(reply.json()[0]["name"], "Tokyo", kind)

    def test_a_city_saved_by_hand_can_be_found(self) -> None:
        city = City.objects.get(pk=1850147)
        city.name = "Tōkyō"
        city.save()
        self.assertEqual(City.objects.get(search_name__prefix="toky"), city)


class Quiet:
    """An output that keeps nothing."""

    def write(self, *_: object) -> None:
        """Drops the text."""
