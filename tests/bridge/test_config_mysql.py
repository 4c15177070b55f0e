"""DATABASES of MySQL and MariaDB into DatabaseConfig."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from asyncdb.errors import ConfigurationError
from django_bridge.conf import config_for


class CLIENT:
    """The protocol's own, as ``MySQLdb.constants.CLIENT`` has them: these tests need no mysqlclient."""

    FOUND_ROWS, INTERACTIVE, MULTI_STATEMENTS = 2, 1024, 65536


KEY = Path(__file__)  # any file that can be read

HONOURED: dict[str, tuple[Any, dict[str, Any]]] = {
    "host": ("db1", {"host": "db1"}),
    "user": ("app", {"user": "app"}),
    "password": ("s3cret", {"password": "s3cret"}),
    "passwd": ("s3cret", {"password": "s3cret"}),
    "database": ("other", {"database": "other"}),
    "db": ("other", {"database": "other"}),
    "port": (3307, {"port": 3307}),
    "unix_socket": ("/run/m.sock", {"unix_socket": "/run/m.sock", "host": None, "port": None}),
    "connect_timeout": (7, {"connect_timeout": 7.0}),
    "read_timeout": (8, {"read_timeout": 8.0}),
    "compress": (False, {}),
    "init_command": ("SET @a = 1", {"init_command": "SET @a = 1"}),
    "use_unicode": (True, {}),
    "charset": ("utf8mb4", {}),
    "collation": ("utf8mb4_bin", {"session_settings": {"collation_connection": "utf8mb4_bin"}}),
    "sql_mode": ("TRADITIONAL", {"session_settings": {"sql_mode": "TRADITIONAL"}}),
    "client_flag": (CLIENT.FOUND_ROWS, {}),
    "multi_statements": (False, {}),
    "executemany_fallback": ("loop", {}),
    "ssl_mode": ("REQUIRED", {"tls": "required"}),
    "ssl": (
        {"ca": "/ca.pem", "cert": "/c.pem", "key": "/k.pem"},
        {"tls": "verify_ca", "tls_ca": "/ca.pem", "tls_cert": "/c.pem", "tls_key": "/k.pem"},
    ),
    "server_public_key_path": (str(KEY), {"driver_options": {"server_public_key": KEY.read_bytes()}}),
    "local_infile": (0, {}),
    "autocommit": (True, {}),
    "binary_prefix": (True, {}),
    "isolation_level": ("repeatable read", {"isolation_level": "REPEATABLE READ"}),
}
REFUSED: dict[str, Any] = {
    "conv": {},
    "named_pipe": "pipe",
    "read_default_file": "/nonexistent/my.cnf",
    "read_default_group": "app",
    "cursorclass": object,
    "auth_plugin": "mysql_native_password",
    "local_infile_dir": "/tmp",
    "write_timeout": 5,
}
REFUSED_VALUES: list[tuple[str, Any, str]] = [
    ("compress", True, "compress"),
    ("charset", "latin1", "only utf8mb4"),
    ("charset", "gbk", "only utf8mb4"),
    ("use_unicode", False, "use_unicode"),
    ("client_flag", 0, "FOUND_ROWS"),
    ("client_flag", CLIENT.FOUND_ROWS | CLIENT.INTERACTIVE, "INTERACTIVE"),
    ("client_flag", CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS, "MULTI_STATEMENTS"),
    ("multi_statements", True, "one by one"),
    ("executemany_fallback", "multi", "loop"),
    ("local_infile", True, "local_infile"),
    ("ssl", {}, "is empty"),
    ("ssl", {"ca": "/ca.pem", "cipher": "x"}, "'cipher'"),
    ("ssl", {"check_hostname": False}, "'check_hostname'"),
    ("ssl", "yes", "must be a dict"),
    ("ssl_mode", "PREFERRED", "clear text"),
    ("ssl_mode", "MAYBE", "must be one of"),
    ("connect_timeout", 0, "no bound"),
    ("read_timeout", "soon", "not a number"),
    ("server_public_key_path", "/nonexistent/key.pem", "cannot be read"),
    ("isolation_level", "snapshot", "Invalid transaction isolation level"),
    ("no_such_option", 1, "no counterpart"),
]


def as_plain(config: Any, name: str) -> Any:
    value = getattr(config, name)
    return value.get_secret_value() if name == "password" and value else value


@pytest.mark.families("mariadb", "mysql")
def test_every_parameter_of_mysqlclient_is_honoured_or_refused() -> None:
    from MySQLdb import constants
    from MySQLdb.connections import Connection

    for name in ("FOUND_ROWS", "INTERACTIVE", "MULTI_STATEMENTS"):
        assert getattr(CLIENT, name) == getattr(constants.CLIENT, name)
    known = set(re.findall(r":param (?:\w+ )?(\w+):", Connection.__init__.__doc__ or ""))
    assert len(known) > 25
    assert known - HONOURED.keys() - REFUSED.keys() == set()


@pytest.mark.parametrize("option", HONOURED)
def test_this_option_of_mysqlclient_is_honoured(option: str, default: Any) -> None:
    value, expected = HONOURED[option]
    default("mysql", HOST="db", OPTIONS={option: value})
    config = config_for("default")
    for name, wanted in expected.items():
        found = as_plain(config, name)
        assert wanted.items() <= dict(found).items() if isinstance(wanted, dict) else found == wanted


@pytest.mark.parametrize("option", REFUSED)
def test_this_option_of_mysqlclient_is_refused_by_name(option: str, default: Any) -> None:
    default("mysql", OPTIONS={option: REFUSED[option]})
    with pytest.raises(ConfigurationError, match=f"(?s)'default'.*{option!r}.*ignore_options"):
        config_for("default")


@pytest.mark.parametrize(("option", "value", "reason"), REFUSED_VALUES)
def test_this_value_is_refused_with_its_reason(option: str, value: Any, reason: str, default: Any) -> None:
    default("mysql", OPTIONS={option: value})
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        config_for("default")


def test_all_refusals_of_a_database_are_one_error(default: Any) -> None:
    default("mysql", OPTIONS={"compress": True, "write_timeout": 3, "named_pipe": "x"})
    with pytest.raises(ConfigurationError, match=r"(?s)compress.*named_pipe.*write_timeout|compress.*write_timeout"):
        config_for("default")


def test_an_ignored_option_is_left_out(default: Any) -> None:
    default("mysql", OPTIONS={"write_timeout": 3, "ssl": {}}, async_db={"ignore_options": ["write_timeout", "ssl"]})
    assert config_for("default").tls is None


def test_the_session_is_the_one_that_django_makes(default: Any) -> None:
    default("mysql", HOST="db", PORT="3307", USER="app", PASSWORD="s3cret")
    config = config_for("default")
    assert config.family == "mysql"
    assert (config.host, config.port, config.user, config.database) == ("db", 3307, "app", "books")
    assert config.isolation_level == "READ COMMITTED"
    assert dict(config.session_settings) == {"sql_auto_is_null": 0}
    assert config.tls is None


def test_no_isolation_level_is_the_servers_own(default: Any) -> None:
    default("mysql", OPTIONS={"isolation_level": None})
    assert config_for("default").isolation_level is None


def test_a_host_that_is_a_path_is_a_socket(default: Any) -> None:
    default("mysql", HOST="/run/mysqld.sock", PORT="")
    config = config_for("default")
    assert (config.unix_socket, config.host) == ("/run/mysqld.sock", None)


def test_tls_in_async_db_replaces_the_mode_of_options(default: Any) -> None:
    default("mysql", HOST="db", OPTIONS={"ssl_mode": "PREFERRED"}, async_db={"tls": "verify_identity"})
    assert config_for("default").tls == "verify_identity"


def test_an_option_file_says_where_to_connect(default: Any, tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text(
        "# ours\n[mysqld]\nuser = root\n[client]\nuser = app\npassword = 'pa#ss'\nhost=db1\nport=3308\n"
        "[app]\nhost=db2\nssl_ca=/ca.pem\n"
    )
    default("mysql", NAME="", OPTIONS={"read_default_file": str(file), "read_default_group": "app"})
    config = config_for("default")
    assert (config.user, config.host, config.port, config.tls) == ("app", "db2", 3308, "verify_ca")
    assert as_plain(config, "password") == "pa#ss"


def test_databases_wins_over_the_option_file(default: Any, tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("[client]\nuser = app\nhost = db1\n")
    default("mysql", HOST="db9", OPTIONS={"read_default_file": str(file)})
    config = config_for("default")
    assert (config.user, config.host) == ("app", "db9")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[client]\nplugin-dir=/x\n", "'plugin-dir'"),
        ("!include /etc/x.cnf\n", "!include"),
        ("[client]\nport=x\n", "port"),
    ],
)
def test_an_option_file_that_cannot_be_honoured_is_refused(
    text: str, reason: str, default: Any, tmp_path: Path
) -> None:
    file = tmp_path / "my.cnf"
    file.write_text(text)
    default("mysql", OPTIONS={"read_default_file": str(file)})
    with pytest.raises(ConfigurationError, match=f"(?s)read_default_file.*{reason}"):
        config_for("default")
