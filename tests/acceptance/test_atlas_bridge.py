"""The demo under the bridge, Django's own views too, answers byte for byte as under stock Django, on every family."""

from __future__ import annotations

import importlib.util
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

NAME = f"atlas_{os.getpid()}"
PARIS = 2988507
KINDS = ("stock", "stock/async", "bridge")


def load_stock():
    """The stock tests' cases; by file, because tests have no sure name to import each other under."""
    spec = importlib.util.spec_from_file_location("atlas_stock_cases", Path(__file__).with_name("test_atlas_stock.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


stock = load_stock()
# On PostgreSQL test_sse_release serves the demo; all of its answers there are compared in the long version.
pytestmark = [pytest.mark.acceptance, pytest.mark.verify("postgresql")]


@dataclass(frozen=True)
class Sites:
    """The demo twice on one database: with the bridge, and without."""

    bridged: stock.serving.Server
    plain: stock.serving.Server


@pytest.fixture(scope="module")
def sites():
    """The sites that run, by family: each is prepared once for all tests of this file."""
    with ExitStack() as stack:
        yield stack, {}


@pytest.fixture
def both(sites, family, server, tmp_path_factory):
    """The demo on the family under test, with the bridge and without."""
    stack, running = sites
    if family not in running:
        url, folder = None, tmp_path_factory.mktemp("atlas")
        if server is not None:
            server.create_database(NAME)
            stack.callback(server.drop_database, NAME)
            url = stock.serving.url_of(server, NAME, folder)
        site = stock.serving.Site(folder, url=url)
        site.manage("migrate", "--verbosity", "0", quiet=True)
        site.manage("load_places", "--limit", str(stock.CITIES), quiet=True)
        plain = stack.enter_context(site.without_the_bridge().serve())
        running[family] = Sites(stack.enter_context(site.serve()), plain)
    return running[family]


@pytest.fixture
def atlas(both):
    """The demo with the bridge."""
    return both.bridged


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", stock.READS)
def test_a_read_on_the_bridge_is_byte_for_byte_the_stock_one(both, kind, path):
    ours, plain = both.bridged.call("GET", f"/{kind}/{path}"), both.plain.call("GET", f"/stock/{path}")
    assert (ours.status, plain.status) == (200, 200)
    assert ours.body == plain.body


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", [*stock.REFUSED, "cities/1/", f"cities/{2**63}/"])
def test_what_stock_refuses_the_bridge_refuses_alike(both, kind, path):
    ours, plain = both.bridged.call("GET", f"/{kind}/{path}"), both.plain.call("GET", f"/stock/{path}")
    assert (ours.status, ours.body) == (plain.status, plain.body)
    assert ours.status in (400, 404)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", stock.BAD_VISITS)
def test_a_visit_that_makes_no_sense_is_refused_alike(both, kind, body):
    ours, plain = both.bridged.call("POST", f"/{kind}/visits/", body), both.plain.call("POST", "/stock/visits/", body)
    assert (ours.status, ours.body) == (plain.status, plain.body)
    assert ours.status == 400


@pytest.mark.parametrize("kind", KINDS)
def test_a_visit_on_the_bridge_is_recorded_and_counted_as_the_stock_one(both, kind):
    note = "au printemps, 'à pied' 🚶 100% \\"
    one = both.plain.call("POST", "/stock/visits/", {"city_id": PARIS, "note": note})
    two = both.bridged.call("POST", f"/{kind}/visits/", {"city_id": PARIS, "note": note})
    assert (one.status, two.status) == (201, 201)
    stored, ours = one.json(), two.json()
    assert ours["visit"].keys() == stored["visit"].keys()
    assert ours["visit"]["note"] == note
    assert ours["visit"]["id"] == stored["visit"]["id"] + 1
    assert len(ours["visit"]["created_at"]) == len(stored["visit"]["created_at"])
    assert ours["city"] == stored["city"] | {"visit_count": stored["city"]["visit_count"] + 1}
    assert both.plain.call("GET", f"/stock/cities/{PARIS}/").json()["visit_count"] == ours["city"]["visit_count"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_visit_to_an_unknown_city_writes_nothing(atlas, kind):
    before = atlas.call("POST", f"/{kind}/visits/", {"city_id": PARIS}).json()
    refused = atlas.call("POST", f"/{kind}/visits/", {"city_id": 1, "note": "nowhere"})
    after = atlas.call("POST", f"/{kind}/visits/", {"city_id": PARIS}).json()
    assert (refused.status, refused.json()) == (404, {"error": "no city has the id 1"})
    assert after["visit"]["id"] == before["visit"]["id"] + 1
    assert after["city"]["visit_count"] == before["city"]["visit_count"] + 1


def test_no_visit_is_lost_when_stock_and_bridge_write_at_once(both):
    def visit(called):
        server, kind = called
        return server.call("POST", f"/{kind}/visits/", {"city_id": PARIS, "note": kind}).status

    writers = [*((both.bridged, kind) for kind in KINDS), (both.plain, "stock/async")]
    before = both.bridged.call("GET", f"/bridge/cities/{PARIS}/").json()["visit_count"]
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(visit, writers * 10))
    assert answers == [201] * 40
    assert both.bridged.call("GET", f"/bridge/cities/{PARIS}/").json()["visit_count"] == before + 40


@pytest.mark.parametrize("kind", KINDS)
def test_the_bridge_needs_no_more_queries_than_stock(both, kind):
    for path in stock.COUNTED:
        ours, plain = both.bridged.call("GET", f"/{kind}/{path}"), both.plain.call("GET", f"/stock/{path}")
        assert 0 < ours.queries <= plain.queries
    assert both.bridged.call("POST", f"/{kind}/visits/", {"city_id": PARIS}).queries == 3


def test_health_shows_the_database_and_the_pool(atlas):
    reply = atlas.call("GET", "/health/")
    assert reply.status == 200
    assert reply.json()["database"]["ok"] is True
    assert reply.json()["pool"]["checked_out"] == 0
