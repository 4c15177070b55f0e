"""The examples in the documentation are Python, name what there is, and run where they are whole programs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    f"{page.relative_to(ROOT)}:{number}": source
    for page in PAGES
    for number, source in enumerate(FENCED.findall(page.read_text(encoding="utf-8")))
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_imports_names_that_exist(example: str) -> None:
    imported = [node for node in ast.walk(ast.parse(EXAMPLES[example], example)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imported if (node.module or "").partition(".")[0] in {"asyncdb", "django_bridge"}]
    names = [(node.module or "", alias.name) for node in ours for alias in node.names]
    assert [name for name in names if not hasattr(importlib.import_module(name[0]), name[1])] == []


@pytest.mark.parametrize("example", [name for name, source in EXAMPLES.items() if "asyncio.run(" in source])
def test_example_runs(example: str, tmp_path: Path) -> None:
    program = tmp_path / "example.py"
    program.write_text(EXAMPLES[example], encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
