"""The parameters of ``sqlite3.connect``, and Django's own two.

Read in Python 3.14 (``sqlite3.connect``) and Django 5.2 and 6.1 (``db/backends/sqlite3/base.py``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from .draft import Draft

_DJANGO_DETECTS = sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES
_LEGACY_TRANSACTION_CONTROL = -1
_WITHOUT_EFFECT = ("check_same_thread", "uri", "isolation_level")
"""Django replaces all three by its own: no check, URIs on, autocommit."""


def translate(wrapper: BaseDatabaseWrapper, params: Mapping[str, Any], draft: Draft) -> None:
    """Turns ``sqlite3.connect``'s ``params`` into ``draft``, with the session that Django would make."""
    rest = draft.wanted(params)
    draft.fields["database"] = str(rest.pop("database"))
    _busy_timeout(rest.pop("timeout", None), draft)
    for name in _WITHOUT_EFFECT:
        rest.pop(name, None)
    if rest.pop("detect_types", 0) not in (0, _DJANGO_DETECTS):
        draft.refuse("detect_types", "cannot be replaced: SQLAlchemy's types convert; use a TypeDecorator")
    if rest.pop("factory", sqlite3.Connection) is not sqlite3.Connection:
        draft.refuse("factory", "cannot be replaced: use a connection_created receiver")
    if rest.pop("autocommit", _LEGACY_TRANSACTION_CONTROL) != _LEGACY_TRANSACTION_CONTROL:
        draft.refuse("autocommit", "must stay sqlite3.LEGACY_TRANSACTION_CONTROL, which Django needs as well")
    draft.driver_options["detect_types"] = _DJANGO_DETECTS
    if (statements := rest.pop("cached_statements", None)) is not None:
        draft.driver_options["cached_statements"] = statements
    _session(wrapper, draft)
    draft.refuse_rest(rest, "sqlite3.connect")


def _busy_timeout(value: Any, draft: Draft) -> None:
    if value is None:
        return
    if isinstance(value, int | float) and value >= 0:
        draft.fields["busy_timeout"] = float(value)
    else:
        draft.refuse("timeout", "is not a number of seconds")


def _session(wrapper: BaseDatabaseWrapper, draft: Draft) -> None:
    draft.session_settings |= {"foreign_keys": 1, "legacy_alter_table": 0}
    mode = getattr(wrapper, "transaction_mode", None)
    if mode is not None and "transaction_mode" not in draft.ignored:
        draft.driver_options["transaction_mode"] = mode
    commands = [command.strip() for command in getattr(wrapper, "init_commands", ()) if command.strip()]
    if commands and "init_command" not in draft.ignored:
        draft.fields["init_command"] = "; ".join(commands)
