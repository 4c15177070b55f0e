"""The system checks, each with its id and its hint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.checks import CheckMessage, run_checks
from django.db.models import QuerySet

from asyncdb import engine
from django_bridge import _foundation, checks

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "checks.md"


def ours(**options: Any) -> list[CheckMessage]:
    return [message for message in run_checks(**options) if (message.id or "").startswith("django_bridge.")]


def ids(messages: list[CheckMessage]) -> list[str]:
    return [(message.id or "").removeprefix("django_bridge.") for message in messages]


def test_good_settings_have_no_message(default: Any, tmp_path: Path) -> None:
    default("sqlite", NAME=tmp_path / "a", async_db={"pool_size": 3})
    assert ours() == []


@pytest.mark.parametrize(
    ("backend", "async_db", "database", "expected"),
    [
        ("mysql", {"pool_sise": 3}, {}, "E001"),
        ("mysql", {"host": "db"}, {}, "E001"),
        ("mysql", {"pool_size": 0}, {}, "E001"),
        ("mysql", {"session_settings": 5}, {}, "E001"),
        ("mysql", None, {"OPTIONS": {"compress": True}}, "E002"),
        ("sqlite", None, {"ENGINE": "django.db.backends.dummy"}, None),
        ("sqlite", {}, {"ENGINE": "django.db.backends.dummy"}, "E002"),
        ("sqlite", None, {"NAME": ":memory:"}, "W002"),
        ("mysql", {"mode": "threads"}, {"ATOMIC_REQUESTS": True}, None),
    ],
)
def test_a_setting_has_its_check(
    backend: str, async_db: Any, database: Any, expected: str | None, default: Any
) -> None:
    default(backend, async_db=async_db, **database)
    found = ours()
    assert ids(found) == ([expected] if expected else [])
    for message in found:
        assert message.hint
        assert f"checks.md#{(expected or '').lower()}" in message.hint


def test_an_unknown_alias_is_an_error(project: Any) -> None:
    project(ASYNC_DB={"defualt": {}})
    assert ids(ours()) == ["E001"]


def test_conn_max_age_is_a_warning(default: Any) -> None:
    default("mysql")
    assert ours() == []
    default("mysql", CONN_MAX_AGE=60)
    assert ids(ours()) == ["W001"]


def test_a_missing_driver_is_an_error(default: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine._DRIVERS, "mysql", ("no_such_driver", "mysql"))
    default("mysql")
    (message,) = ours()
    assert message.id == "django_bridge.E003"
    assert "django-asyncdb[mysql]" in message.msg


def test_another_django_is_an_error(default: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default("sqlite", NAME=tmp_path / "a")
    monkeypatch.setattr(django, "VERSION", (6, 0, 1, "final", 0))
    assert ids(ours()) == ["E005"]


@pytest.mark.native_only("with threads nothing is hooked, as its last line says")
def test_a_hooked_function_that_has_changed_is_an_error(
    default: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default("sqlite", NAME=tmp_path / "a")
    monkeypatch.setattr(QuerySet, "aget", QuerySet.afirst)
    (message,) = ours()
    assert message.id == "django_bridge.E006"
    assert "QuerySet.aget" in message.msg
    monkeypatch.setenv("ASYNC_DB_MODE", "threads")
    assert ours() == []


def test_under_deploy_a_missing_or_misplaced_middleware_is_a_warning(project: Any) -> None:
    ours, theirs = "django_bridge.middleware.ScopeMiddleware", "django.middleware.common.CommonMiddleware"
    for middleware, expected in {
        (): ["W004"],
        (theirs,): ["W004"],
        (theirs, ours): ["W005"],
        (ours, theirs): [],
    }.items():
        project(MIDDLEWARE=list(middleware))
        assert ids(checks.check_middleware(None)) == expected
    assert "W005" not in ids(run_checks())  # only where it is deployed


def test_a_foreign_asyncdb_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_foundation, "_OURS", ("no_such_file.py",))
    assert "E004" in ids(ours())
    assert {"E001", "E002", "E003"}.isdisjoint(ids(ours()))


def test_a_check_shows_no_password(default: Any) -> None:
    default("mysql", PASSWORD="corr3ct-h0rse", OPTIONS={"compress": True, "passwd": "corr3ct-h0rse"})
    assert "corr3ct-h0rse" not in str(ours())


def test_without_database_no_server_is_asked(default: Any) -> None:
    default("mysql", HOST="127.0.0.1", PORT=1)
    assert ours() == []


@pytest.mark.parametrize("backend", ["mysql", "postgresql"])
def test_under_database_an_unreachable_server_is_an_error(backend: str, default: Any) -> None:
    default(backend, HOST="127.0.0.1", PORT=1, USER="app", PASSWORD="corr3ct-h0rse")
    (message,) = checks.check_servers(None, databases=["default"])
    assert message.id == "django_bridge.E010"
    assert "corr3ct-h0rse" not in str(message)


def test_under_database_a_reachable_server_has_no_message(bridged_now: Any) -> None:
    bridged_now(async_db={"pool_recycle": 600})
    assert checks.check_servers(None, databases=["default"]) == []


@pytest.mark.families("mariadb", "postgresql", "mysql")
def test_under_database_a_short_idle_limit_is_a_warning(bridged_now: Any, family: str) -> None:
    setting = {"wait_timeout": 60} if family in {"mariadb", "mysql"} else {"idle_session_timeout": "60s"}
    bridged_now(async_db={"session_settings": setting, "pool_recycle": 600})
    (message,) = checks.check_servers(None, databases=["default"])
    assert message.id == "django_bridge.W011"
    assert "60 s" in message.msg


def test_every_check_is_documented() -> None:
    source = Path(checks.__file__).read_text(encoding="utf-8")
    codes = set(re.findall(r'"([EW]\d{3})"', source))
    documented = set(re.findall(r"^#+ ([EW]\d{3})$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE))
    assert codes == documented
