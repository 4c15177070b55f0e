"""DATABASES of PostgreSQL into DatabaseConfig."""

from __future__ import annotations

import inspect
import re
from typing import Any

import psycopg
import pytest
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from asyncdb.errors import ConfigurationError
from django_bridge.conf import config_for
from django_bridge.options.postgresql import PASSED_ON

HONOURED: dict[str, tuple[Any, dict[str, Any]]] = {
    "host": ("db1", {"host": "db1"}),
    "port": ("5433", {"port": 5433}),
    "user": ("app", {"user": "app"}),
    "password": ("s3cret", {"password": "s3cret"}),
    "dbname": ("other", {"database": "other"}),
    "connect_timeout": ("7", {"connect_timeout": 7.0}),
    "client_encoding": ("LATIN1", {}),  # Django says UTF8 over it
    "sslmode": ("require", {"tls": "required"}),
    "autocommit": (True, {}),
    "prepare_threshold": (3, {"driver_options": {"prepare_threshold": 3}}),
    "context": (None, {}),  # Django says its own over it
    "cursor_factory": (None, {}),
    "server_side_binding": (True, {}),
    "assume_role": ("writer", {"session_settings": {"role": "writer"}}),
    "isolation_level": (IsolationLevel.SERIALIZABLE, {"isolation_level": "SERIALIZABLE"}),
    "pool": (True, {"pool_size": 10}),
    **{name: ("x", {"driver_options": {name: "x"}}) for name in PASSED_ON},
}
TLS_FILES = {"sslrootcert": "tls_ca", "sslcert": "tls_cert", "sslkey": "tls_key"}
REFUSED: dict[str, Any] = {
    "conninfo": "dbname=books",
    "replication": "database",
    "row_factory": psycopg.rows.dict_row,
}
REFUSED_VALUES: list[tuple[str, Any, str]] = [
    ("sslmode", "allow", "clear text first"),
    ("sslmode", "maybe", "must be one of"),
    ("sslrootcert", "/ca.pem", "'prefer' goes on in clear text"),
    ("port", "5432,5433", "several ports"),
    ("port", "x", "not a number"),
    ("connect_timeout", "0", "no bound"),
    ("cursor_factory", psycopg.ClientCursor, "cursors are SQLAlchemy's"),
    ("isolation_level", 9, "psycopg.IsolationLevel"),
    ("pool", {"configure": print}, "'configure'"),
    ("requiressl", "1", "sslmode"),
    ("no_such_option", 1, "no counterpart"),
]


def test_every_keyword_of_libpq_and_psycopg_is_honoured_or_refused() -> None:
    libpq = {one.keyword.decode() for one in psycopg.pq.Conninfo.get_defaults()}
    ours = set(inspect.signature(psycopg.AsyncConnection.connect).parameters) - {"kwargs"}
    known = libpq | ours | {"assume_role", "isolation_level", "pool", "server_side_binding"}
    assert known - HONOURED.keys() - TLS_FILES.keys() - REFUSED.keys() == set()


@pytest.mark.parametrize("option", sorted(HONOURED))
def test_this_option_of_psycopg_is_honoured(option: str, default: Any) -> None:
    value, expected = HONOURED[option]
    default("postgresql", OPTIONS={option: value})
    config = config_for("default")
    for name, wanted in expected.items():
        found = getattr(config, name)
        if name == "password":
            found = found.get_secret_value()
        assert wanted.items() <= dict(found).items() if isinstance(wanted, dict) else found == wanted


def test_certificates_go_with_a_mode_that_verifies(default: Any) -> None:
    files = {name: f"/{name}.pem" for name in TLS_FILES}
    default("postgresql", HOST="db", OPTIONS={"sslmode": "verify-full", **files})
    config = config_for("default")
    assert config.tls == "verify_identity"
    assert {name: getattr(config, field) for name, field in TLS_FILES.items()} == files


@pytest.mark.parametrize("option", REFUSED)
def test_this_option_of_psycopg_is_refused_by_name(option: str, default: Any) -> None:
    default("postgresql", OPTIONS={option: REFUSED[option]})
    with pytest.raises(ConfigurationError, match=f"(?s)'default'.*{option!r}.*ignore_options"):
        config_for("default")


@pytest.mark.parametrize(("option", "value", "reason"), REFUSED_VALUES)
def test_this_value_is_refused_with_its_reason(option: str, value: Any, reason: str, default: Any) -> None:
    default("postgresql", OPTIONS={option: value})
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        config_for("default")


def test_the_session_is_the_one_that_django_makes(default: Any) -> None:
    default("postgresql", HOST="db", PORT=5433, USER="app", PASSWORD="s3cret")
    config = config_for("default")
    assert config.family == "postgresql"
    assert (config.host, config.port, config.user, config.database) == ("db", 5433, "app", "books")
    assert dict(config.session_settings) == {"TimeZone": "UTC"}
    assert dict(config.driver_options) == {"prepare_threshold": None}
    assert config.isolation_level is None


@pytest.mark.parametrize(
    ("use_tz", "time_zone", "expected"),
    [(True, None, "UTC"), (True, "Asia/Tokyo", "Asia/Tokyo"), (False, None, "Europe/Berlin")],
)
def test_the_time_zone_is_the_one_of_djangos_connection(
    use_tz: bool, time_zone: str | None, expected: str, default: Any, project: Any
) -> None:
    project(USE_TZ=use_tz)
    default("postgresql", TIME_ZONE=time_zone)
    assert config_for("default").session_settings["TimeZone"] == expected


def test_a_time_zone_without_use_tz_is_refused(default: Any, project: Any) -> None:
    project(USE_TZ=False)
    default("postgresql", TIME_ZONE="Asia/Tokyo")
    with pytest.raises(ConfigurationError, match="USE_TZ is False"):
        config_for("default")


def test_a_host_that_is_a_path_is_a_socket(default: Any) -> None:
    default("postgresql", HOST="/run/postgresql", PORT=5433)
    config = config_for("default")
    assert (config.unix_socket, config.host, config.port) == ("/run/postgresql", None, 5433)


def test_the_numbers_of_djangos_pool_hold_for_ours(default: Any) -> None:
    default("postgresql", OPTIONS={"pool": {"min_size": 2, "max_size": 7, "timeout": 3, "max_waiting": 9}})
    config = config_for("default")
    assert (config.pool_size, config.pool_timeout, config.max_waiting) == (7, 3.0, 9)


def test_async_db_wins_over_the_numbers_of_djangos_pool(default: Any) -> None:
    default("postgresql", OPTIONS={"pool": {"max_size": 7}}, async_db={"pool_size": 4})
    assert config_for("default").pool_size == 4


def test_a_service_needs_no_name(default: Any) -> None:
    default("postgresql", NAME="", OPTIONS={"service": "books"})
    config = config_for("default")
    assert (config.database, config.driver_options["service"]) == ("", "books")


def test_no_name_and_no_service_is_refused(default: Any) -> None:
    default("postgresql", NAME="")
    with pytest.raises(ConfigurationError, match=r"'default'.*NAME"):
        config_for("default")
