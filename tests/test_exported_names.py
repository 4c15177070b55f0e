"""The public names are the ones in ``__all__``: importable, sorted, complete, and described."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

PACKAGES = ["asyncdb", "django_bridge"]
REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def defined(package: ModuleType) -> set[str]:
    """The classes and functions that belong to the package: no submodules, no imports from elsewhere."""
    return {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and getattr(value, "__module__", "").partition(".")[0] == package.__name__
    }


def test_every_exported_name_is_importable(package: ModuleType) -> None:
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_exported_names_are_sorted_and_unique(package: ModuleType) -> None:
    assert list(package.__all__) == sorted(set(package.__all__))


def test_every_public_name_is_exported(package: ModuleType) -> None:
    assert sorted(defined(package) - set(package.__all__)) == []


def test_every_exported_name_is_in_the_reference(package: ModuleType) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted(REFERENCE.rglob("*.md")))
    documented = set(re.findall(r"[`.]([A-Za-z_]\w*)(?:\([^`]*\))?`", text))
    assert sorted(name for name in package.__all__ if not name.startswith("__") and name not in documented) == []


def test_every_exported_name_has_a_docstring(package: ModuleType) -> None:
    exported = {name: getattr(package, name) for name in package.__all__}
    described = {name: value for name, value in exported.items() if inspect.isclass(value) or inspect.isroutine(value)}
    for name, value in list(described.items()):
        described |= {f"{name}.{method}": getattr(value, method) for method in own_methods(value)}
    assert sorted(name for name, value in described.items() if not inspect.getdoc(value)) == []


def own_methods(value: object) -> list[str]:
    """The public methods and properties that a class defines by itself; none for a function."""
    return [
        name
        for name, member in (vars(value).items() if inspect.isclass(value) else ())
        if not name.startswith("_") and isinstance(member, FunctionType | classmethod | staticmethod | property)
    ]
