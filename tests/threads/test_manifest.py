"""Each case of this folder is listed in ``manifest/``, a file a kind, and is there to be run."""

from __future__ import annotations

from pathlib import Path

from tests.manifest import require_each_case_listed_and_collected


def test_each_case_is_listed_and_collected() -> None:
    require_each_case_listed_and_collected(Path(__file__).resolve().parent)
