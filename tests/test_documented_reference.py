"""The reference lists the options and the checks that there are."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from asyncdb.config import DatabaseConfig
from django_bridge.conf import Bridge

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"


def test_every_option_is_in_the_reference() -> None:
    documented = set(re.findall(r"`(\w+)`", (REFERENCE / "settings.md").read_text(encoding="utf-8")))
    assert sorted((DatabaseConfig.model_fields.keys() | {field.name for field in fields(Bridge)}) - documented) == []


def test_every_check_is_in_the_reference_and_no_other() -> None:
    source = (ROOT / "django_bridge" / "checks.py").read_text(encoding="utf-8")
    page = (REFERENCE / "checks.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == sorted(set(re.findall(r'"([EW]\d{3})"', source)))
