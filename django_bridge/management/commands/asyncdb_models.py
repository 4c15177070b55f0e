"""``manage.py asyncdb_models``: the installed models against the live database."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, Error, connections, router
from django.db.models import Model

from ...mapping.verification import Difference, Verified, verify
from ..tables import show

_CANNOT_SAY = 2
"""The exit code of a question that has no answer; 1 is the answer that something differs."""


class Command(BaseCommand):
    """Compares the tables of models with a live database."""

    help = "Compares the tables of the installed models with the live database (--verify)."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares the arguments."""
        parser.add_argument(
            "labels", nargs="*", metavar="app_label[.Model]", help="only these; without any, all installed models"
        )
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--verify", action="store_true", help="exit with 1 if a table or column is not as wanted")
        parser.add_argument(
            "--database", action="append", metavar="alias", help="an alias of DATABASES, 'default' if none is named"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Does what was asked; leaves with 1 where something differs, with 2 where it cannot say."""
        found, elsewhere = _verified(options["labels"], options["database"] or [DEFAULT_DB_ALIAS])
        differences = [difference for verified in found for difference in verified.differences]
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(found, elsewhere), indent=2))
        else:
            if differences:
                show(_HEADS, [_row(difference) for difference in differences], out=self.stdout)
                self.stdout.write("")
            self.stdout.write(_totals(found, elsewhere))
        if any(verified.failures for verified in found):
            sys.exit(1)


_HEADS = ("database", "model", "table", "column", "what", "wanted", "found")


def _row(difference: Difference) -> tuple[str, ...]:
    return (
        difference.database,
        difference.model,
        difference.table,
        difference.column,
        difference.kind if difference.fails else f"{difference.kind} (no failure)",
        difference.wanted,
        difference.found,
    )


def _verified(labels: Sequence[str], aliases: Sequence[str]) -> tuple[list[Verified], int]:
    """What was found on each alias, and how many tables the routers keep off it."""
    models = _models(labels)
    found: list[Verified] = []
    elsewhere = 0
    for alias in dict.fromkeys(aliases):
        if alias not in connections:
            known = ", ".join(map(repr, connections))
            raise CommandError(f"no database {alias!r} in DATABASES: one of {known}", returncode=_CANNOT_SAY)
        here = [model for model in models if router.allow_migrate_model(alias, model)]
        if labels and not here:
            raise CommandError(
                f"the database routers keep {', '.join(labels)} off {alias!r}: name its alias with --database",
                returncode=_CANNOT_SAY,
            )
        elsewhere += len(models) - len(here)
        try:
            found.append(verify(here, connections[alias]))
        except Error as err:
            raise CommandError(f"database {alias!r} cannot be asked: {err}", returncode=_CANNOT_SAY) from err
    return found, elsewhere


def _models(labels: Sequence[str]) -> list[type[Model]]:
    if not labels:
        return _with_tables(apps.get_models(include_auto_created=True))
    found: dict[type[Model], None] = {}
    for label in labels:
        app_label, dot, name = label.partition(".")
        try:
            config = apps.get_app_config(app_label)
            chosen = _and_through(config.get_model(name)) if dot else config.get_models(include_auto_created=True)
        except LookupError as err:
            raise CommandError(f"{label!r}: {err}", returncode=_CANNOT_SAY) from err
        found |= dict.fromkeys(_with_tables(chosen))
    return list(found)


def _and_through(model: type[Model]) -> Iterable[type[Model]]:
    """The model, and the tables that Django makes together with its own."""
    yield model
    for field in model._meta.local_many_to_many:
        through = field.remote_field.through
        if through is not None and through._meta.auto_created:
            yield through


def _with_tables(models: Iterable[type[Model]]) -> list[type[Model]]:
    """Those that have a table of their own: a proxy's is its concrete model's."""
    concrete = dict.fromkeys(model._meta.concrete_model for model in models)
    return [model for model in concrete if model is not None and not model._meta.swapped]


def _as_json(found: Sequence[Verified], elsewhere: int) -> dict[str, Any]:
    return {
        "databases": [verified.database for verified in found],
        "tables": sum(verified.tables for verified in found),
        "columns": sum(verified.columns for verified in found),
        "kept_elsewhere": elsewhere,
        "differences": [dataclasses.asdict(difference) for verified in found for difference in verified.failures],
        "extra_columns": [
            dataclasses.asdict(difference)
            for verified in found
            for difference in verified.differences
            if not difference.fails
        ],
    }


def _totals(found: Sequence[Verified], elsewhere: int) -> str:
    totals = _as_json(found, elsewhere)
    text = (
        f"{', '.join(totals['databases'])}: {totals['tables']} tables, {totals['columns']} columns, "
        f"{len(totals['differences'])} differences, {len(totals['extra_columns'])} extra columns"
    )
    return f"{text}; {elsewhere} tables left out: the database routers keep them elsewhere" if elsewhere else text
