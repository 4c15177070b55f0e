"""The demo's own runner for acceptance tests, loaded by its path: the demo is a project, not a package of ours."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncdb.testing import DatabaseServer
from tests.polling import until

ATLAS = Path(__file__).resolve().parents[1] / "examples" / "atlas"


def _load_serving() -> Any:
    spec = importlib.util.spec_from_file_location("serving_of_atlas", ATLAS / "serving.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


serving = _load_serving()
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Atlas:
    """The demo's site, and the database that is its own."""

    site: Any
    server: DatabaseServer
    database: str

    def connections(self) -> int:
        """How many the server has from the site."""
        return sum(connection.database == self.database for connection in self.server.connections())


@contextmanager
def atlas_on(server: DatabaseServer, folder: Path, **environment: str) -> Iterator[Atlas]:
    """Yields the demo's site on a database of its own, migrated and loaded; nobody is connected yet."""
    name = f"atlas_{os.getpid()}_{next(_numbers)}"
    server.create_database(name)
    try:
        site = serving.Site(folder, url=serving.url_of(server, name, folder))
        site.environment |= environment
        site.manage("migrate", "--verbosity", "0", quiet=True)
        site.manage("load_places", "--limit", "200", quiet=True)
        atlas = Atlas(site, server, name)
        until(lambda: not atlas.connections())
        yield atlas
    finally:
        server.drop_database(name)
