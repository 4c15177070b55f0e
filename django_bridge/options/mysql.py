"""mysqlclient's connection parameters.

Read in mysqlclient 2.3.1 (``MySQLdb/connections.py``) and Django 5.2 and 6.1 (``db/backends/mysql/base.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from . import option_file
from .draft import Draft

_TLS_MODES = {
    "DISABLED": "disabled",
    "REQUIRED": "required",
    "VERIFY_CA": "verify_ca",
    "VERIFY_IDENTITY": "verify_identity",
}
_PLACE = {
    "host": "host",
    "port": "port",
    "unix_socket": "unix_socket",
    "user": "user",
    "password": "password",
    "passwd": "password",
    "database": "database",
    "db": "database",
}
_WITHOUT_EFFECT = ("autocommit", "binary_prefix")
"""Django sets autocommit itself after it connected; the prefix concerns mysqlclient's own quoting."""
_HARMLESS_FLAGS = ("LONG_PASSWORD", "FOUND_ROWS", "PROTOCOL_41", "TRANSACTIONS", "SECURE_CONNECTION", "MULTI_RESULTS")
_MUST_BE = {
    "use_unicode": (True, "must stay on: text columns are str here"),
    "compress": (False, "is not offered by asyncmy"),
    "named_pipe": (None, "is for Windows alone: connect by HOST and PORT"),
    "local_infile": (False, "stays off: a server may ask for any file of this machine"),
    "local_infile_dir": (None, "stays off: a server may ask for files of this machine"),
    "multi_statements": (False, "stays off: it turns an SQL injection into many statements; send them one by one"),
    "executemany_fallback": ("loop", "can be 'loop' alone: several statements in one packet are switched off"),
    "auth_plugin": (None, "cannot be chosen: asyncmy follows the server's choice"),
    "write_timeout": (None, "is not offered by asyncmy; read_timeout bounds each statement as a whole"),
    "cursorclass": (None, "cannot be replaced: rows are SQLAlchemy's"),
}


def translate(wrapper: BaseDatabaseWrapper, params: Mapping[str, Any], draft: Draft) -> None:
    """Turns mysqlclient's ``params`` into ``draft``, with the session that Django would make."""
    rest = _with_option_file(draft.wanted(params), draft)
    for name, field in _PLACE.items():
        if (value := rest.pop(name, None)) not in (None, ""):
            draft.fields[field] = value
    if draft.fields.get("unix_socket"):
        draft.fields.pop("host", None)
        draft.fields.pop("port", None)
    _character_set(rest, draft)
    _tls(rest, draft)
    _public_key(rest.pop("server_public_key_path", None), draft)
    _client_flag(rest.pop("client_flag", 0), draft)
    _conversions(rest, draft)
    draft.seconds("connect_timeout", "connect_timeout", rest.pop("connect_timeout", None))
    draft.seconds("read_timeout", "read_timeout", rest.pop("read_timeout", None))
    for name in _WITHOUT_EFFECT:
        rest.pop(name, None)
    for name, (honoured, reason) in _MUST_BE.items():
        value = rest.pop(name, None)
        if value is not None and (value != honoured if not isinstance(honoured, bool) else bool(value) != honoured):
            draft.refuse(name, reason)
    _session(wrapper, rest, draft)
    draft.refuse_rest(rest, "asyncmy")


def _with_option_file(params: dict[str, Any], draft: Draft) -> dict[str, Any]:
    path, group = params.pop("read_default_file", None), params.pop("read_default_group", None)
    if not path:
        if group:
            draft.refuse("read_default_group", "needs read_default_file: the system's own files are not searched")
        return params
    try:
        return option_file.read(str(path), group) | params
    except option_file.OptionFileError as err:
        draft.refuse("read_default_file", str(err))
        return params


def _character_set(rest: dict[str, Any], draft: Draft) -> None:
    charset = str(rest.pop("charset", None) or "utf8mb4").lower()
    if charset not in {"utf8mb4", "utf8mb3", "utf8"}:
        draft.refuse(
            "charset", f"is {charset!r}, and only utf8mb4 is safe here: other character sets allow SQL injection"
        )
    elif charset != "utf8mb4":
        for name in ("client", "results", "connection"):  # as SET NAMES, with which mysqlclient says it
            draft.session_settings[f"character_set_{name}"] = charset
    if collation := rest.pop("collation", None):
        draft.session_settings["collation_connection"] = collation


def _tls(rest: dict[str, Any], draft: Draft) -> None:
    files = rest.pop("ssl", None)
    mode = str(rest.pop("ssl_mode", None) or "").upper()
    if isinstance(files, Mapping):
        given = dict(files)
        for name in ("ca", "cert", "key"):
            if value := given.pop(name, None):
                draft.fields[f"tls_{name}"] = str(value)
        for name in given:
            draft.refuse(
                "ssl", f"has the key {name!r}: ca, cert and key are known; say how far to verify by 'ssl_mode'"
            )
        if not files:
            draft.refuse("ssl", "is empty, which says nothing: remove it, or say 'ssl_mode': 'REQUIRED'")
    elif files not in (None, False, True):
        draft.refuse("ssl", "must be a dict with ca, cert, key, or True")
    if mode in _TLS_MODES:
        draft.fields["tls"] = _TLS_MODES[mode]
    elif mode == "PREFERRED":
        draft.refuse(
            "ssl_mode",
            "is 'PREFERRED', which goes on in clear text where the server offers no TLS: use 'REQUIRED' or 'DISABLED'",
        )
    elif mode:
        draft.refuse("ssl_mode", f"must be one of {', '.join(_TLS_MODES)}")
    elif "tls_ca" in draft.fields:  # an authority is there to verify against
        draft.fields["tls"] = "verify_ca"
    elif files:
        draft.fields["tls"] = "required"
    if draft.fields.get("tls") == "disabled" and files:
        draft.refuse("ssl", "contradicts 'ssl_mode': 'DISABLED'")


def _public_key(path: Any, draft: Draft) -> None:
    if not path:
        return
    try:
        draft.driver_options["server_public_key"] = Path(path).read_bytes()
    except OSError as err:
        draft.refuse("server_public_key_path", f"cannot be read ({type(err).__name__})")


def _client_flag(flags: int, draft: Draft) -> None:
    from django.db.backends.mysql import base

    client = vars(base)["CLIENT"]  # mysqlclient's or the stand-in's; django-stubs do not know that the module has it
    names = {name: value for name, value in vars(client).items() if isinstance(value, int) and value.bit_count() == 1}
    for name, value in names.items():
        if flags & value and name not in _HARMLESS_FLAGS:
            draft.refuse("client_flag", f"has {name}, which asyncmy is not asked for")
    if unnamed := flags & ~sum(names.values()):
        draft.refuse("client_flag", f"has the unknown bits {unnamed:#x}")
    if not flags & client.FOUND_ROWS:
        draft.refuse("client_flag", "lacks CLIENT.FOUND_ROWS, which SQLAlchemy counts on: add it")


def _conversions(rest: dict[str, Any], draft: Draft) -> None:
    from django.db.backends.mysql.base import django_conversions

    if rest.pop("conv", django_conversions) != django_conversions:
        draft.refuse("conv", "cannot be replaced: SQLAlchemy's types convert; use a TypeDecorator")


def _session(wrapper: BaseDatabaseWrapper, rest: dict[str, Any], draft: Draft) -> None:
    draft.session_settings["sql_auto_is_null"] = 0
    if sql_mode := rest.pop("sql_mode", None):
        draft.session_settings["sql_mode"] = sql_mode
    if init_command := rest.pop("init_command", None):
        draft.fields["init_command"] = init_command
    if level := getattr(wrapper, "isolation_level", None):
        draft.fields["isolation_level"] = level.upper()
