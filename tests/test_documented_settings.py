"""The reference lists the options that there are."""

from __future__ import annotations

import re
from pathlib import Path

from asyncdb.config import DatabaseConfig

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"


def test_every_option_is_in_the_reference() -> None:
    documented = set(re.findall(r"`(\w+)`", PAGE.read_text(encoding="utf-8")))
    assert sorted(DatabaseConfig.model_fields.keys() - documented) == []
