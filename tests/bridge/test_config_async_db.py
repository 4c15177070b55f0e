"""ASYNC_DB, and what DATABASES says of every family."""

from __future__ import annotations

import logging
import re
import sys
import traceback
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQL

from asyncdb.errors import ConfigurationError
from django_bridge.conf import aliases, bridge_for, config_for

SECRET = "corr3ct-h0rse"


def test_without_async_db_every_alias_has_the_defaults(project: Any) -> None:
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": "a"}
    project(DATABASES={"default": sqlite, "other": dict(sqlite, NAME="b")})
    assert aliases() == ["default", "other"]
    assert config_for("other").pool_size == 10


def test_async_db_sets_the_pool(default: Any) -> None:
    default("mysql", async_db={"pool_size": 3, "ping_after": 0, "session_settings": {"time_zone": "+00:00"}})
    config = config_for("default")
    assert (config.pool_size, config.ping_after) == (3, 0)
    assert dict(config.session_settings) == {"sql_auto_is_null": 0, "time_zone": "+00:00"}


@pytest.mark.parametrize(
    ("key", "meant"),
    [("pool_sise", "pool_size"), ("POOL_SIZE", "pool_size"), ("require_startup", "require_at_startup")],
)
def test_an_unknown_key_is_an_error_with_the_nearest_name(key: str, meant: str, default: Any) -> None:
    default("mysql", async_db={key: 3})
    with pytest.raises(ConfigurationError, match=rf"ASYNC_DB\['default'\].*{key!r}: did you mean {meant!r}\?"):
        config_for("default")


@pytest.mark.parametrize("key", ["host", "port", "user", "password", "database", "family", "alias", "unix_socket"])
def test_a_key_that_databases_owns_is_refused_by_name(key: str, default: Any) -> None:
    default("mysql", async_db={key: SECRET})
    with pytest.raises(ConfigurationError, match=rf"{key!r}\]: DATABASES owns it") as caught:
        config_for("default")
    assert SECRET not in str(caught.value)


def test_an_unknown_alias_is_an_error_with_the_nearest_name(project: Any) -> None:
    project(ASYNC_DB={"defualt": {}})
    with pytest.raises(ConfigurationError, match=r"ASYNC_DB names 'defualt'.*did you mean 'default'\?"):
        config_for("default")
    project(ASYNC_DB={})
    with pytest.raises(ConfigurationError, match=r"no database 'defalt'.*did you mean 'default'\?"):
        config_for("defalt")


@pytest.mark.parametrize("wrong", [[], "default", {"default": 5}])
def test_an_async_db_of_another_shape_is_refused(wrong: Any, project: Any) -> None:
    project(ASYNC_DB=wrong)
    with pytest.raises(ConfigurationError, match="must be a dict"):
        config_for("default")


@pytest.mark.parametrize(
    "wrong",
    [
        {"pool_size": 0},
        {"pool_size": "many"},
        {"tls": "perhaps"},
        {"session_settings": 5},
        {"ignore_options": "ssl"},
        {"require_at_startup": "yes"},
    ],
)
def test_a_wrong_value_is_one_clear_error(wrong: dict[str, Any], default: Any) -> None:
    default("mysql", async_db=wrong)
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        config_for("default")


def test_the_bridges_own_keys_are_not_the_pools(default: Any) -> None:
    default("mysql", async_db={"require_at_startup": True})
    assert bridge_for("default").require_at_startup
    assert config_for("default").pool_size == 10


def test_a_positive_conn_max_age_is_the_recycle_time(default: Any) -> None:
    default("mysql", CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
    config = config_for("default")
    assert (config.pool_recycle, config.pool_pre_ping) == (60.0, True)


@pytest.mark.parametrize("age", [0, None])
def test_no_conn_max_age_leaves_the_default(age: int | None, default: Any) -> None:
    default("mysql", CONN_MAX_AGE=age)
    assert config_for("default").pool_recycle == 1800.0


def test_async_db_wins_over_conn_max_age(default: Any) -> None:
    default("mysql", CONN_MAX_AGE=60, async_db={"pool_recycle": 900})
    assert config_for("default").pool_recycle == 900.0


def test_autocommit_off_is_refused(default: Any) -> None:
    default("mysql", AUTOCOMMIT=False)
    with pytest.raises(ConfigurationError, match="'AUTOCOMMIT' is off"):
        config_for("default")


def test_the_configuration_follows_the_name_of_the_test_database(default: Any) -> None:
    default("mysql")
    assert config_for("default").database == "books"
    settings.DATABASES["default"]["NAME"] = "test_books"
    assert config_for("default").database == "test_books"


def test_a_vendor_without_an_async_driver_is_refused_by_name(project: Any) -> None:
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": "a"}
    project(DATABASES={"default": sqlite, "legacy": {"ENGINE": "django.db.backends.dummy"}})
    assert aliases() == ["default"]
    with pytest.raises(ConfigurationError, match=r"'legacy': no async driver for 'unknown'.*backends\.dummy"):
        config_for("legacy")
    project(ASYNC_DB={"legacy": {}})
    assert aliases() == ["default", "legacy"]


def test_a_backend_that_cannot_be_loaded_is_one_clear_error(project: Any) -> None:
    project(DATABASES={"default": {"ENGINE": "nowhere.backend", "NAME": "a"}})
    with pytest.raises(ConfigurationError, match=r"'default'.*nowhere\.backend"):
        config_for("default")


def test_a_port_that_is_no_number_is_one_clear_error(default: Any) -> None:
    default("mysql", PORT="mysql")
    with pytest.raises(ConfigurationError, match=r"'default'.*PORT"):
        config_for("default")


class RotatingWrapper(PostgreSQL):
    """What projects write for short-lived credentials."""

    issued = 0

    def get_connection_params(self) -> dict[str, Any]:
        type(self).issued += 1
        return {**super().get_connection_params(), "password": f"token-{type(self).issued}"}


@pytest.fixture
def rotating(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend of the project's own, as third parties write them: a package with a module ``base``."""
    base = ModuleType("rotating_backend.base")
    base.DatabaseWrapper = RotatingWrapper  # type: ignore[attr-defined]  # what makes it a backend
    monkeypatch.setitem(sys.modules, "rotating_backend", ModuleType("rotating_backend"))
    monkeypatch.setitem(sys.modules, "rotating_backend.base", base)
    monkeypatch.setattr(RotatingWrapper, "issued", 0)
    project(DATABASES={"default": {"ENGINE": "rotating_backend", "NAME": "books"}})


def test_a_third_partys_backend_is_known_by_its_vendor(rotating: None) -> None:
    assert config_for("default").family == "postgresql"


def test_the_projects_own_wrapper_is_asked_anew(rotating: None) -> None:
    passwords = [config_for("default").password for _ in range(2)]
    assert [one.get_secret_value() for one in passwords if one] == ["token-1", "token-2"]


def test_a_secret_among_the_drivers_options_is_in_no_repr(default: Any) -> None:
    default("postgresql", OPTIONS={"sslpassword": SECRET, "scram_client_key": SECRET})
    config = config_for("default")
    assert config.driver_options["sslpassword"] == SECRET
    assert SECRET not in f"{config!r} {config}"


def test_asking_opens_no_connection_and_touches_none_of_djangos(default: Any) -> None:
    from django.db import connections

    before = connections.all(initialized_only=True)
    default("postgresql", HOST="198.51.100.1")
    config_for("default")
    assert connections.all(initialized_only=True) == before


@pytest.mark.parametrize("backend", ["mysql", "postgresql"])
@pytest.mark.parametrize(
    "wrong", [{}, {"OPTIONS": {"no_such": 1, "sslpassword": SECRET, "passwd": SECRET}}, {"PORT": "x"}]
)
def test_a_password_is_in_no_repr_error_or_log(
    backend: str, wrong: dict[str, Any], default: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    default(backend, USER="app", PASSWORD=SECRET, HOST="db", **wrong)
    try:
        config = config_for("default")
        said = f"{config!r} {config} {config.model_dump()!r}" if not wrong else repr(config)
    except ConfigurationError as err:
        said = "".join(traceback.format_exception(err))
    assert SECRET not in said + caplog.text
    assert re.search("books|default", said)
