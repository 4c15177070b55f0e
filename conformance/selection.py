"""Which apps of Django's tests are run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

Groups = Mapping[str, Sequence[str]]

_DATA = tomllib.loads(Path(__file__).with_name("apps.toml").read_text())

ALL: Groups = _DATA["groups"]
SHORT: Groups = {"short": _DATA["short"]["labels"]}


def only(groups: Groups, labels: Sequence[str]) -> Groups:
    """Returns the groups with these labels alone; a label may also name a group, or a test in a listed app."""
    chosen = {name: [each for each in labels if each in members or name == each] for name, members in groups.items()}
    chosen = {name: (groups[name] if name in each else each) for name, each in chosen.items() if each}
    known = {label for each in chosen.values() for label in each} | chosen.keys()
    if others := [label for label in labels if label not in known]:
        chosen["others"] = others
    return chosen
