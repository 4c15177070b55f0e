"""``manage.py asyncdb_models``: the models against the live database, and their mapped classes as typed modules."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, Error, connections, router
from django.db.models import Model

from ...errors import UnmappableField
from ...mapping import stubs
from ...mapping.verification import Difference, Verified, verify
from ..tables import show

_CANNOT_SAY = 2
"""The exit code of a question that has no answer; 1 is the answer that something differs."""


class Command(BaseCommand):
    """Compares models with a live database, or writes modules of their mapped classes."""

    help = (
        "Compares the tables of the installed models with the live database (--verify), "
        "or writes a module of their mapped classes for type checkers (--types)."
    )

    # One of them may say what is asked for here, and a database that is not as the models want it needs no other.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declares the arguments."""
        parser.add_argument(
            "labels", nargs="*", metavar="app_label[.Model]", help="only these; without any, all installed models"
        )
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--verify", action="store_true", help="exit with 1 if a table or column is not as wanted")
        what.add_argument("--types", action="store_true", help="write the module of these apps' mapped classes")
        parser.add_argument(
            "--database", action="append", metavar="alias", help="an alias of DATABASES, 'default' if none is named"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--output", metavar="path", help="one module for all these apps; without it, mapped.py in each; - prints"
        )
        parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a module is outdated")

    def handle(self, *args: Any, **options: Any) -> None:
        """Does what was asked; leaves with 1 where something differs, with 2 where it cannot say."""
        wrong = self._verify(options) if options["verify"] else self._types(options)
        if wrong:
            sys.exit(1)

    def _verify(self, options: dict[str, Any]) -> bool:
        found, elsewhere = _verified(options["labels"], options["database"] or [DEFAULT_DB_ALIAS])
        differences = [difference for verified in found for difference in verified.differences]
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(found, elsewhere), indent=2))
        else:
            if differences:
                show(_HEADS, [_row(difference) for difference in differences], out=self.stdout)
                self.stdout.write("")
            self.stdout.write(_totals(found, elsewhere))
        return any(verified.failures for verified in found)

    def _types(self, options: dict[str, Any]) -> bool:
        configs = _apps(options["labels"])
        if options["output"] == "-":
            self.stdout.write(stubs.module_text(configs, elsewhere=_with_modules()), ending="")
            return False
        if options["output"]:
            texts = {Path(options["output"]): stubs.module_text(configs, elsewhere=_with_modules())}
        else:
            elsewhere = list(dict.fromkeys([*_with_modules(), *configs]))
            texts = {stubs.default_path(one): stubs.module_text([one], elsewhere=elsewhere) for one in configs}
        outdated = {path: text for path, text in texts.items() if not stubs.same_module(_text_of(path), text)}
        for path, text in outdated.items():
            if options["check"]:
                self.stdout.write(f"{path} is out of date: run manage.py asyncdb_models --types")
            else:
                path.write_text(text, encoding="utf-8")
                self.stdout.write(f"{path}: written")
        return options["check"] and bool(outdated)


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
        except UnmappableField as err:
            raise CommandError(str(err), returncode=_CANNOT_SAY) from err
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


def _apps(labels: Sequence[str]) -> list[AppConfig]:
    if not labels:
        raise CommandError("--types needs the label of an app, or of several", returncode=_CANNOT_SAY)
    try:
        return list(dict.fromkeys(apps.get_app_config(label) for label in labels))
    except LookupError as err:
        raise CommandError(str(err), returncode=_CANNOT_SAY) from err


def _with_modules() -> list[AppConfig]:
    """The apps whose modules were written before, which relations of others may name."""
    return [config for config in apps.get_app_configs() if stubs.is_ours(_read(stubs.default_path(config)))]


def _text_of(path: Path) -> str:
    text = _read(path)
    if text.strip() and not stubs.is_ours(text):
        raise CommandError(f"{path} was not made by this command: name another --output", returncode=_CANNOT_SAY)
    return text


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
