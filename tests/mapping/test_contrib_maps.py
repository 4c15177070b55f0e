"""Django's own apps map completely: what ``make projects`` checks of whole projects, on the installed Django."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from asyncdb.testing import DatabaseServer
from projects.environments import projects
from projects.report import Result, as_text
from projects.running import run

Check = Callable[..., Result]


@pytest.fixture
def check(family: str, server: DatabaseServer | None, tmp_path: Path) -> Check:
    """Runs the project ``contrib``, with something broken in its process where that is asked for."""

    def check(broken: str = "") -> Result:
        worker = ("-c", f"{dedent(broken)}\nfrom projects.worker import main\nmain()")
        contrib, python, log = projects()["contrib"], Path(sys.executable), tmp_path / "log"
        try:
            return run(contrib, family, python, server, rows=3, seed=1, timeout=100.0, log=log, worker=worker)
        finally:
            if server is not None:
                server.drop_database("projects_contrib")

    return check


def test_every_model_of_django_contrib_maps_and_gives_what_the_orm_gives(check: Check) -> None:
    result = check()

    assert result.problems == []
    assert result.findings["empty"] == {}
    assert result.findings["only_null"] == []
    assert result.findings["unrelated"] == []
    assert result.findings["models"] == 13
    assert result.findings["columns"] > 50
    assert result.findings["relations"] > 20
    assert result.findings["values"] > 300
    assert result.findings["related"] > 200


# What the check is worth: each of these breaks the mapping in one place.

WITHOUT_A_COLUMN = """
    from django_bridge.mapping import mapped_classes, tables
    all_of_them = tables.column_fields
    def but_one(model):
        return [field for field in all_of_them(model) if field.name != "last_login"]
    tables.column_fields = but_one
    if hasattr(mapped_classes, "column_fields"):
        mapped_classes.column_fields = but_one
"""
WITHOUT_A_RELATION = """
    from django_bridge.mapping import generations
    all_of_them = generations.relations_of
    gone = ("logentry_set", "permission_set", "content_type", "user")  # both ends
    generations.relations_of = lambda *args: (one for one in all_of_them(*args) if one[0] not in gone)
"""
TO_NO_ROWS = """
    from sqlalchemy import and_, text
    from django_bridge.mapping import relations
    made = relations._related
    def to_no_rows(model, known, **options):
        if model.__name__ == "Permission":
            options["primaryjoin"] = and_(options["primaryjoin"], text("1 = 0"))
        return made(model, known, **options)
    relations._related = to_no_rows
"""
OTHER_VALUES = """
    from django_bridge.mapping.types import FieldType
    made = FieldType.result_processor
    def other(self, dialect, coltype):
        if self.field.name != "codename":
            return made(self, dialect, coltype)
        return lambda value: value + "!"
    FieldType.result_processor = other
"""


@pytest.mark.families("sqlite")
@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (WITHOUT_A_COLUMN, "missing: auth.User.last_login: no column"),
        (WITHOUT_A_RELATION, "missing: contenttypes.ContentType.logentry_set: no relation"),
        (TO_NO_ROWS, "differs: auth.Group.permissions by selectinload"),
        (OTHER_VALUES, "differs: auth.Permission.codename"),
    ],
    ids=["column", "relation", "related rows", "values"],
)
def test_what_is_missing_or_differs_is_named(check: Check, broken: str, named: str) -> None:
    result = check(broken)

    assert any(named in problem for problem in result.problems), result.problems
    assert named in as_text([result])


@pytest.mark.families("sqlite")
def test_a_worker_that_fails_is_a_problem(check: Check) -> None:
    (problem,) = check("raise SystemExit(3)").problems

    assert "it ended with 3" in problem
