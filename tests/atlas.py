"""The demo's own runner for acceptance tests, loaded by its path: the demo is a project, not a package of ours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

ATLAS = Path(__file__).resolve().parents[1] / "examples" / "atlas"


def _load_serving() -> Any:
    spec = importlib.util.spec_from_file_location("serving_of_atlas", ATLAS / "serving.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


serving = _load_serving()
