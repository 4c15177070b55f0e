"""Which apps of Django's tests are run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

Groups = Mapping[str, Sequence[str]]

_DATA = tomllib.loads(Path(__file__).with_name("apps.toml").read_text())

ALL: Groups = _DATA["groups"]
SHORT: Groups = {"short": _DATA["short"]["labels"]}
TIMED: Sequence[str] = _DATA["timed"]
"""Tests that are run neither way."""


def only(groups: Groups, labels: Sequence[str]) -> Groups:
    """Returns the groups with these labels alone; a label may also name a group, or a test in a listed app."""
    chosen: dict[str, Sequence[str]] = {}
    for name, members in groups.items():
        if name in labels:
            chosen[name] = members
        elif found := [label for label in labels if label in members]:
            chosen[name] = found
    known = {label for each in chosen.values() for label in each} | chosen.keys()
    if others := [label for label in labels if label not in known]:
        chosen["others"] = others
    return chosen
