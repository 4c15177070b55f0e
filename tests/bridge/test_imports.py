"""What importing django_bridge needs, and what it says of a foreign asyncdb."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import django_bridge

ROOT = Path(django_bridge.__file__).parents[1]


def python(code: str, *, path: list[Path]) -> subprocess.CompletedProcess[str]:
    first = "import sys; sys.path[:0] = " + repr([str(one) for one in path])
    return subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", f"{first}\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_settings_may_import_django_bridge() -> None:
    done = python("import django_bridge; import sys; assert 'sqlalchemy' not in sys.modules", path=[ROOT])
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_without_configured_settings() -> None:
    done = python("import django_bridge as b; print([callable(getattr(b, name)) for name in b.__all__])", path=[ROOT])
    assert done.returncode == 0, done.stderr
    assert "False" not in done.stdout


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(django_bridge, "no_such_name")
    assert set(django_bridge.__all__) <= set(dir(django_bridge))


def test_a_foreign_asyncdb_is_a_clear_import_error(tmp_path: Path) -> None:
    (tmp_path / "asyncdb").mkdir()
    (tmp_path / "asyncdb" / "__init__.py").write_text("raise RuntimeError('never imported')\n")
    done = python("from django_bridge import session", path=[tmp_path, ROOT])
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: the package 'asyncdb' in ")
    assert "reinstall django-asyncdb" in last


def test_an_asgi_file_says_the_same_of_a_foreign_asyncdb(tmp_path: Path) -> None:
    (tmp_path / "asyncdb").mkdir()
    (tmp_path / "asyncdb" / "__init__.py").write_text("")
    done = python("from django_bridge.asgi import get_asgi_application", path=[tmp_path, ROOT])
    assert "ImportError: the package 'asyncdb' in " in done.stderr
