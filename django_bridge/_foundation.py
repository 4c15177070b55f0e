"""What this package stands on: which Django, and whether the ``asyncdb`` that Python finds is the right one."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

SUPPORTED_DJANGO = ((5, 2), (6, 1))
"""The Django releases whose functions were read and tested with."""

_OURS = ("errors.py", "config.py", "registry.py")


def foreign_asyncdb() -> str | None:
    """Returns where another package named ``asyncdb`` was found, or None if it is ours (or missing)."""
    spec = importlib.util.find_spec("asyncdb")
    if spec is None:
        return None
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if any(all((place / name).is_file() for name in _OURS) for place in places):
        return None
    return str(places[0] if places else spec.origin)


def require_asyncdb() -> None:
    """Raises an ``ImportError`` that says what is wrong if ``asyncdb`` is missing or foreign."""
    if importlib.util.find_spec("asyncdb") is None:
        raise ImportError("django_bridge needs its own package 'asyncdb', which is missing: reinstall django-asyncdb")
    if (place := foreign_asyncdb()) is not None:
        raise ImportError(
            f"the package 'asyncdb' in {place} is not the one that django_bridge stands on: an unrelated distribution "
            "of that name is installed; uninstall it (pip uninstall asyncdb), then reinstall django-asyncdb",
        )
