"""Django's functions on which the pool of threads stands, beside those of ``drift.json``: as they were read."""

from __future__ import annotations

import ast
import hashlib
import json
import textwrap
from pathlib import Path

import django
import pytest

READ = json.loads(Path(__file__).with_name("sources.json").read_text(encoding="utf-8"))
LINE = "Django {}.{}".format(*django.VERSION)


def digest(root: Path, place: str) -> str:
    """Of the text of a function; "" if it is not there. ``place``: ``db/utils.py:ConnectionHandler.close_all``."""
    file, _, name = place.partition(":")
    path = root / file
    if not path.is_file():
        return ""
    source = path.read_text(encoding="utf-8")
    found: list[ast.stmt] = ast.parse(source).body
    node: ast.AST | None = None
    for part in name.split("."):
        node = next((one for one in found if getattr(one, "name", "") == part), None)
        if node is None:
            return ""
        found = getattr(node, "body", [])
    assert node is not None
    text = textwrap.dedent(ast.get_source_segment(source, node, padded=True) or "").strip()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("place", READ[LINE])
def test_a_function_reads_as_it_was_read(place: str) -> None:
    assert digest(Path(django.__file__).parent, place) == READ[LINE][place], (
        f"{place} of Django {django.get_version()} has changed: read it, and what django_bridge/threads makes of it"
    )


def test_a_function_that_reads_otherwise_is_told(tmp_path: Path) -> None:
    place = "db/backends/utils.py:CursorWrapper._execute"
    copy = tmp_path / "db" / "backends" / "utils.py"
    copy.parent.mkdir(parents=True)
    source = (Path(django.__file__).parent / "db/backends/utils.py").read_text(encoding="utf-8")
    copy.write_text(source)
    assert digest(tmp_path, place) == READ[LINE][place]
    copy.write_text(source.replace("return self.cursor.execute(sql)", "return self.cursor.execute(sql, None)"))
    assert digest(tmp_path, place) != READ[LINE][place]
