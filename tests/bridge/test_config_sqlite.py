"""DATABASES of SQLite into DatabaseConfig."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from asyncdb.errors import ConfigurationError
from django_bridge.conf import config_for

HONOURED: dict[str, tuple[Any, dict[str, Any]]] = {
    "database": ("other.sqlite3", {"database": "other.sqlite3"}),
    "timeout": (20, {"busy_timeout": 20.0}),
    "detect_types": (0, {}),
    "isolation_level": ("IMMEDIATE", {}),  # Django sets autocommit over it
    "check_same_thread": (False, {}),
    "cached_statements": (64, {"driver_options": {"cached_statements": 64}}),
    "uri": (True, {}),
    "autocommit": (-1, {}),
    "transaction_mode": ("exclusive", {"driver_options": {"transaction_mode": "EXCLUSIVE"}}),
    "init_command": (
        "PRAGMA synchronous=1;PRAGMA cache_size=9",
        {
            "init_command": "PRAGMA synchronous=1; PRAGMA cache_size=9",
        },
    ),
}
REFUSED: dict[str, Any] = {"factory": type("Other", (sqlite3.Connection,), {})}
REFUSED_VALUES: list[tuple[str, Any, str]] = [
    ("autocommit", True, "LEGACY_TRANSACTION_CONTROL"),
    ("detect_types", sqlite3.PARSE_COLNAMES, "TypeDecorator"),
    ("timeout", "long", "not a number"),
    ("transaction_mode", "LATER", "transaction_mode"),
    ("no_such_option", 1, "no counterpart"),
]


def test_every_parameter_of_sqlite3_is_honoured_or_refused() -> None:
    text = (sqlite3.connect.__text_signature__ or "").replace("$module", "")
    known = set(re.findall(r"(?:^|[(\s])([a-z_]+)(?==|,|\))", text))
    assert {"database", "timeout", "factory"} <= known
    assert known - HONOURED.keys() - REFUSED.keys() == set()


@pytest.mark.parametrize("option", HONOURED)
def test_this_option_of_sqlite3_is_honoured(option: str, default: Any) -> None:
    value, expected = HONOURED[option]
    default("sqlite", OPTIONS={option: value})
    config = config_for("default")
    for name, wanted in expected.items():
        found = getattr(config, name)
        assert wanted.items() <= dict(found).items() if isinstance(wanted, dict) else found == wanted


@pytest.mark.parametrize("option", REFUSED)
def test_this_option_of_sqlite3_is_refused_by_name(option: str, default: Any) -> None:
    default("sqlite", OPTIONS={option: REFUSED[option]})
    with pytest.raises(ConfigurationError, match=f"(?s)'default'.*{option!r}.*ignore_options"):
        config_for("default")


@pytest.mark.parametrize(("option", "value", "reason"), REFUSED_VALUES)
def test_this_value_is_refused_with_its_reason(option: str, value: Any, reason: str, default: Any) -> None:
    default("sqlite", OPTIONS={option: value})
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        config_for("default")


def test_the_session_is_the_one_that_django_makes(default: Any, tmp_path: Path) -> None:
    default("sqlite", NAME=tmp_path / "books.sqlite3")
    config = config_for("default")
    assert (config.family, config.database) == ("sqlite", str(tmp_path / "books.sqlite3"))
    assert dict(config.session_settings) == {"foreign_keys": 1, "legacy_alter_table": 0}


def test_a_database_in_memory_is_allowed(default: Any) -> None:
    default("sqlite", NAME=":memory:")
    assert config_for("default").in_memory
