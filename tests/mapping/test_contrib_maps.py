"""Django's own apps map completely: what ``make projects`` checks of whole projects, on the installed Django."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from projects.__main__ import run
from projects.environments import projects


@pytest.mark.families("sqlite")
def test_every_model_of_django_contrib_maps_and_gives_what_the_orm_gives(family: str) -> None:
    found = run(projects()["contrib"], Path(sys.executable))
    assert found["missing"] == found["differences"] == []
    assert found["empty"] == {}
    assert found["models"] > 10
    assert found["columns"] > 50
    assert found["relations"] > 15
    assert found["compared"] > 200
