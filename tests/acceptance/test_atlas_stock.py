"""The demo's stock endpoints, on uvicorn and embedded SQLite: what a team has today, and what the bridge is held to."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ATLAS = Path(__file__).resolve().parents[2] / "examples" / "atlas"
CITIES = 1000
PARIS = 2988507


def load_serving():
    """The demo's own way to run the project as a process."""
    spec = importlib.util.spec_from_file_location("atlas_serving", ATLAS / "serving.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


serving = load_serving()
pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = serving.Site(tmp_path_factory.mktemp("atlas"))
    site.manage("migrate", "--verbosity", "0", quiet=True)
    site.manage("load_places", "--limit", str(CITIES), quiet=True)
    return site


@pytest.fixture(scope="module")
def server(site):
    with site.without_the_bridge().serve() as server:
        yield server


READS = [
    "search/?q=par&limit=20",
    "search/?q=S%C3%A3o",
    "search/?q=sAN%20j",
    "search/?q=zzzz",
    "search/?q=100%25",
    "search/?q=a&limit=100",
    "nearest/?lat=48.857&lon=2.352",
    "nearest/?lat=90&lon=0&limit=5",
    "nearest/?lat=-90&lon=-180&limit=5",
    "nearest/?lat=-17.8&lon=179.99&limit=8",
    "nearest/?lat=-17.8&lon=-179.99&limit=8",
    "nearest/?lat=0&lon=-140&limit=50",
    "countries/",
    "countries/?continent=EU&limit=5",
    "countries/?continent=AN",
    "countries/?limit=300",
    f"cities/{PARIS}/",
    "cities.csv",
    "cities.csv?limit=3",
]
# What is streamed has hardly begun when its headers leave: they tell no number of queries.
COUNTED = [path for path in READS if ".csv" not in path]
REFUSED = [
    "search/",
    "search/?q=",
    "search/?q=%25",
    "search/?q=%D0%9C%D0%BE%D1%81",
    "search/?q=par&limit=0",
    "search/?q=par&limit=101",
    "search/?q=par&limit=-1",
    "search/?q=par&limit=x",
    "search/?q=par&limit=99999999999999999999",
    "nearest/",
    "nearest/?lat=1",
    "nearest/?lat=91&lon=0",
    "nearest/?lat=0&lon=181",
    "nearest/?lat=nan&lon=0",
    "nearest/?lat=inf&lon=0",
    "nearest/?lat=a&lon=b",
    "countries/?continent=XX",
    "countries/?continent=",
    "cities.csv?limit=0",
]
BAD_VISITS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"city_id": "2988507"}',
    b'{"city_id": true}',
    b'{"city_id": 0}',
    b'{"city_id": 9223372036854775808}',
    b'{"city_id": 2988507, "note": null}',
    b'{"city_id": 2988507, "note": "\\u0000"}',
    b'{"city_id": 2988507, "note": "\\ud800"}',
    b'{"city_id": 2988507, "more": 1}',
    b'{"city_id": 2988507, "note": "' + b"x" * 201 + b'"}',
]


@pytest.mark.parametrize("path", READS)
def test_the_async_view_answers_as_the_sync_view(server, path):
    sync, other = server.call("GET", f"/stock/{path}"), server.call("GET", f"/stock/async/{path}")
    assert (sync.status, other.status) == (200, 200)
    assert other.body == sync.body


@pytest.mark.parametrize("kind", ["stock", "stock/async"])
@pytest.mark.parametrize("path", REFUSED)
def test_bad_input_is_refused_with_a_word_why(server, kind, path):
    reply = server.call("GET", f"/{kind}/{path}")
    assert reply.status == 400
    assert reply.json()["error"]
    assert reply.queries == 0


@pytest.mark.parametrize("kind", ["stock", "stock/async"])
@pytest.mark.parametrize("pk", [1, 2**63, 10**30])
def test_an_unknown_city_is_not_found(server, kind, pk):
    assert server.call("GET", f"/{kind}/cities/{pk}/").status == 404


def test_a_search_gives_the_largest_cities_whose_names_begin_so(server):
    found = server.call("GET", "/stock/search/?q=par&limit=20").json()
    assert found[0] == {
        "id": PARIS,
        "name": "Paris",
        "country": "FR",
        "population": found[0]["population"],
        "latitude": 48.85341,
        "longitude": 2.3488,
    }
    sizes = [city["population"] for city in found]
    assert sizes == sorted(sizes, reverse=True)
    assert all(city["name"].lower().startswith("par") for city in found)


def test_the_nearest_cities_are_found_across_the_date_line(server):
    east, west = (
        server.call("GET", f"/stock/nearest/?lat=-17&lon={lon}&limit=3").json() for lon in (179.999, -179.999)
    )
    assert [city["id"] for city in east] == [city["id"] for city in west]
    assert all(city["longitude"] > 0 for city in west)


def test_the_nearest_cities_come_in_order_and_in_full_number_from_anywhere(server):
    for place in ("lat=90&lon=0", "lat=-90&lon=0", "lat=-48.9&lon=-123.4", "lat=0&lon=0"):
        found = server.call("GET", f"/stock/nearest/?{place}&limit=50").json()
        distances = [city["distance_km"] for city in found]
        assert len(found) == 50
        assert distances == sorted(distances)


def test_the_statistics_add_up(server):
    countries = server.call("GET", "/stock/countries/?limit=300").json()
    assert sum(country["city_count"] for country in countries) == CITIES
    china = next(country for country in countries if country["code"] == "CN")
    assert (china["largest_city"], china["continent"]) == ("Shanghai", "AS")
    empty = next(country for country in countries if country["code"] == "AQ")
    assert (empty["urban_population"], empty["largest_city"], empty["largest_population"]) == (0, None, None)


@pytest.mark.parametrize("kind", ["stock", "stock/async"])
def test_a_visit_is_recorded_and_counted(server, kind):
    before = server.call("GET", f"/stock/cities/{PARIS}/").json()["visit_count"]
    reply = server.call("POST", f"/{kind}/visits/", {"city_id": PARIS, "note": "au printemps, 'à pied' 🚶"})
    assert reply.status == 201
    assert reply.json()["city"] == {"id": PARIS, "name": "Paris", "visit_count": before + 1}
    assert reply.json()["visit"]["note"] == "au printemps, 'à pied' 🚶"
    assert server.call("GET", f"/stock/cities/{PARIS}/").json()["visit_count"] == before + 1


@pytest.mark.parametrize("kind", ["stock", "stock/async"])
def test_a_visit_to_an_unknown_city_writes_nothing(server, kind):
    def last_visit():
        return server.call("POST", "/stock/visits/", {"city_id": PARIS}).json()["visit"]["id"]

    before = last_visit()
    reply = server.call("POST", f"/{kind}/visits/", {"city_id": 1})
    assert (reply.status, reply.json()) == (404, {"error": "no city has the id 1"})
    assert last_visit() == before + 1


@pytest.mark.parametrize("kind", ["stock", "stock/async"])
@pytest.mark.parametrize("body", BAD_VISITS)
def test_a_visit_that_makes_no_sense_is_refused(server, kind, body):
    reply = server.call("POST", f"/{kind}/visits/", body)
    assert reply.status == 400
    assert reply.json()["error"]


def test_queries_are_counted_alike_in_threads_and_on_the_loop(server):
    for path, queries in (("search/?q=par", 1), ("countries/", 1), (f"cities/{PARIS}/", 2)):
        assert [server.call("GET", f"/{kind}/{path}").queries for kind in ("stock", "stock/async")] == [queries] * 2
    for kind in ("stock", "stock/async"):
        assert server.call("POST", f"/{kind}/visits/", {"city_id": PARIS}).queries == 3


def test_the_wrong_method_is_refused(server):
    for kind in ("stock", "stock/async"):
        assert server.call("PUT", f"/{kind}/visits/", {}).status == 405
        assert server.call("GET", f"/{kind}/visits/").status == 405


def test_the_admin_is_there_with_its_style_sheets(server):
    assert server.call("GET", "/admin/login/").status == 200
    assert server.call("GET", "/static/admin/css/base.css").status == 200


def test_the_projects_own_tests_pass(site):
    site.manage("test", "places", "--verbosity", "0", quiet=True)


def test_the_migrations_are_complete_and_the_system_checks_silent(site):
    site.manage("makemigrations", "--check", "--dry-run", quiet=True)
    site.manage("check", "--fail-level", "WARNING", quiet=True)


def test_a_wrong_database_url_is_refused_without_its_password(tmp_path):
    for url in (
        "oracle://u:tops3cret@h/d",
        "mysql://u:tops3cret@h:x/d",
        "mysql://u:tops3cret@h/",
        "mysql://u:tops3cret@h/d?a=1",
    ):
        with pytest.raises(serving.SiteError) as caught:
            serving.Site(tmp_path, url=url).manage("check", quiet=True)
        assert "ATLAS_DATABASE_URL" in str(caught.value)
        assert "tops3cret" not in str(caught.value)
