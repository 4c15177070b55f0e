"""``DatabaseConfig``: bounds, names, URLs, and secrets that stay secret."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from asyncdb import ConfigurationError, DatabaseConfig

SECRET = "hunter2-s3cr3t"


def _of(**options: Any) -> DatabaseConfig:
    return DatabaseConfig.of(**{"family": "mysql", **options})


@pytest.mark.parametrize(
    ("name", "least", "wrong"),
    [
        ("port", 1, 0),
        ("port", 65535, 65536),
        ("pool_size", 1, 0),
        ("max_overflow", 0, -1),
        ("pool_timeout", 0.001, 0),
        ("max_waiting", 0, -1),
        ("pool_recycle", -1, 0),
        ("pool_recycle", 0.5, -2),
        ("ping_after", 0, -0.1),
        ("connect_timeout", 0.1, 0),
        ("ping_timeout", 0.1, 0),
        ("read_timeout", 0.1, 0),
        ("close_timeout", 0.1, 0),
    ],
)
def test_a_number_out_of_bounds_is_refused_by_name(name: str, least: float, wrong: float) -> None:
    assert getattr(_of(**{name: least}), name) == least
    with pytest.raises(ConfigurationError, match=name):
        _of(**{name: wrong})


def test_a_negative_busy_timeout_is_refused_by_name() -> None:
    assert _of(family="sqlite", database="x", busy_timeout=0).busy_timeout == 0
    with pytest.raises(ConfigurationError, match="busy_timeout"):
        _of(family="sqlite", database="x", busy_timeout=-1)


@pytest.mark.parametrize(
    "name",
    ["pool_timeout", "pool_recycle", "ping_after", "connect_timeout", "ping_timeout", "read_timeout", "close_timeout"],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_time_that_is_no_number_is_refused(name: str, value: float) -> None:
    """Every wait is bounded: infinity is no bound, and nothing compares with nan."""
    with pytest.raises(ConfigurationError, match=name):
        _of(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tls", "preferred"),
        ("isolation_level", "SNAPSHOT"),
        ("isolation_level", "AUTOCOMMIT"),
        ("family", "oracle"),
        ("pool_pre_ping", "perhaps"),
        ("session_settings", "sql_mode=ANSI"),
        ("pool_size", "many"),
    ],
)
def test_a_wrong_choice_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        _of(**{name: value})


def test_an_unknown_option_suggests_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown option 'pool_sise': did you mean 'pool_size'\?"):
        _of(pool_sise=3)


def test_an_unknown_option_that_resembles_nothing_suggests_nothing() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _of(zzz=3)
    assert "unknown option 'zzz'" in str(caught.value)
    assert "did you mean" not in str(caught.value)


def test_several_errors_are_told_at_once_with_the_alias() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _of(alias="reports", pool_size=0, pool_tiemout=3, port=99999)
    message = str(caught.value)
    for part in ("'reports'", "pool_size", "'pool_tiemout'", "'pool_timeout'", "port"):
        assert part in message


def test_a_configuration_error_is_a_value_error_and_shows_no_value() -> None:
    with pytest.raises(ValueError, match="password") as caught:
        _of(password=[SECRET], pool_size=SECRET)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls": "verify_ca", "family": "postgresql"}, "tls_ca"),
        ({"tls": "verify_identity", "family": "postgresql"}, "tls_ca"),
        ({"tls_ca": "ca.pem"}, "need tls="),
        ({"tls": "disabled", "tls_ca": "ca.pem"}, "need tls="),
        ({"tls": "required", "tls_key": "key.pem"}, "tls_key needs tls_cert"),
        ({"session_settings": {"a b": 1}}, "'a b' is not the name of a setting"),
        ({"session_settings": {"x = 1; DROP TABLE t; --": 1}}, "is not the name of a setting"),
        ({"host": "db", "unix_socket": "/run/socket"}, "not both"),
        ({"family": "sqlite"}, "file name or ':memory:'"),
        ({"family": "sqlite", "database": "x", "host": "db"}, "SQLite takes no host"),
        ({"family": "sqlite", "database": "x", "tls": "required"}, "SQLite takes no host"),
        ({"family": "sqlite", "database": "x", "password": "y"}, "SQLite takes no host"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _of(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "READ UNCOMMITTED"])
def test_sqlite_refuses_a_level_that_it_has_not(level: str) -> None:
    """An option whose behaviour is not built is rejected, not accepted and ignored."""
    with pytest.raises(ConfigurationError, match="isolation_level"):
        _of(family="sqlite", database=":memory:", isolation_level=level)


def test_busy_timeout_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(ConfigurationError, match="busy_timeout"):
        _of(busy_timeout=1.0)


def test_a_configuration_is_frozen() -> None:
    config = _of()
    with pytest.raises(ValidationError, match="frozen"):
        config.pool_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://u:p@h:3307/d", ("mysql", "h", 3307, "u", "d")),
        ("mariadb://u:p@h/d", ("mysql", "h", None, "u", "d")),
        ("mysql+asyncmy://h/d", ("mysql", "h", None, None, "d")),
        ("postgresql://u:p@h:5433/d", ("postgresql", "h", 5433, "u", "d")),
        ("postgres://h/d", ("postgresql", "h", None, None, "d")),
        ("sqlite:///books.sqlite3", ("sqlite", None, None, None, "books.sqlite3")),
        ("sqlite:////tmp/books.sqlite3", ("sqlite", None, None, None, "/tmp/books.sqlite3")),
        ("sqlite://", ("sqlite", None, None, None, ":memory:")),
        ("sqlite:///:memory:", ("sqlite", None, None, None, ":memory:")),
    ],
)
def test_a_url_says_where_the_database_is(url: str, expected: tuple[Any, ...]) -> None:
    config = DatabaseConfig.from_url(url)
    assert (config.family, config.host, config.port, config.user, config.database) == expected


def test_a_url_is_unquoted() -> None:
    config = DatabaseConfig.from_url("mysql://us%40er:p%2Fw%3A@h/d")
    assert config.user == "us@er"
    assert config.password is not None
    assert config.password.get_secret_value() == "p/w:"


def test_options_in_the_url_are_options_and_keywords_win() -> None:
    config = DatabaseConfig.from_url("mysql://h/d?pool_size=3&pool_timeout=1.5", pool_size=7)
    assert (config.pool_size, config.pool_timeout) == (7, 1.5)


def test_an_unknown_option_in_the_url_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown option 'ssl_mode'"):
        DatabaseConfig.from_url("mysql://h/d?ssl_mode=off")


@pytest.mark.parametrize("url", [f"not a url {SECRET}", f"mysql://u:{SECRET}@h:port/d", f"oracle://u:{SECRET}@h/d"])
def test_a_wrong_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DatabaseConfig.from_url(url)
    assert SECRET not in str(caught.value)


def test_the_error_of_a_wrong_url_has_no_part_of_it_in_its_chain() -> None:
    with pytest.raises(ConfigurationError) as caught:
        DatabaseConfig.from_url(f"mysql://root:{SECRET}")  # the @host was forgotten: the password stands as the port
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_the_query_of_a_url_may_say_the_place() -> None:
    config = DatabaseConfig.from_url("postgresql:///books?host=/run/postgresql&user=me")
    assert (config.host, config.user, config.database) == ("/run/postgresql", "me", "books")


def test_the_password_is_in_no_repr_or_str() -> None:
    config = DatabaseConfig.from_url(f"mysql://u:{SECRET}@h/d", driver_options={"sslpassword": SECRET})
    for shown in (repr(config), str(config), f"{config}", repr([config])):
        assert SECRET not in shown
    assert config.password is not None
    assert config.password.get_secret_value() == SECRET


def test_a_configuration_names_alias_family_and_place() -> None:
    assert str(_of(alias="reports", host="db", port=3307)) == "'reports' (mysql at db:3307)"
    assert str(_of(unix_socket="/run/s", database="d")) == "'default' (mysql at /run/s)"


def test_a_configuration_survives_pickling() -> None:
    config = _of(password=SECRET, session_settings={"sql_mode": "ANSI"})
    assert pickle.loads(pickle.dumps(config)) == config
