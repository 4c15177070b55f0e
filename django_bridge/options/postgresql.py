"""libpq's keywords and psycopg's arguments.

Read in psycopg 3.3 (``connection_async.py``), PostgreSQL 18 (34.1.2 "Parameter Key Words") and
Django 5.2 and 6.1 (``db/backends/postgresql/base.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper

from .draft import Draft

_TLS_MODES = {"disable": "disabled", "require": "required", "verify-ca": "verify_ca", "verify-full": "verify_identity"}
_ISOLATION_LEVELS = {1: "READ UNCOMMITTED", 2: "READ COMMITTED", 3: "REPEATABLE READ", 4: "SERIALIZABLE"}
_TLS_FILES = {"sslrootcert": "tls_ca", "sslcert": "tls_cert", "sslkey": "tls_key"}
PASSED_ON = frozenset(
    """
    application_name channel_binding fallback_application_name gssdelegation gssencmode gsslib hostaddr keepalives
    keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts max_protocol_version
    min_protocol_version oauth_client_id oauth_client_secret oauth_issuer oauth_scope options passfile require_auth
    requirepeer scram_client_key scram_server_key service servicefile ssl_max_protocol_version
    ssl_min_protocol_version sslcertmode sslcompression sslcrl sslcrldir sslkeylogfile sslnegotiation sslpassword
    sslsni target_session_attrs tcp_user_timeout
    """.split(),
)
"""libpq's keywords that reach libpq unchanged."""
_MUST_BE_ABSENT = {
    "conninfo": "cannot be given whole: give HOST, PORT, USER, NAME and the rest one by one",
    "replication": "opens a replication connection, which runs no ordinary SQL",
    "requiressl": "was removed from libpq: use 'sslmode': 'require'",
    "row_factory": "cannot be replaced: rows are SQLAlchemy's",
    "async_": "has no meaning here",
}
_POOL_FIELDS = {"max_size": "pool_size", "timeout": "pool_timeout", "max_lifetime": "pool_recycle"}
_POOL_OF_THREADS = frozenset(
    {
        "min_size",
        "max_idle",
        "max_waiting",
        "name",
        "num_workers",
        "reconnect_timeout",
        "reconnect_failed",
        "check",
        "open",
        "close_returns",
    },
)
"""Options of Django's own pool that say nothing of a connection."""


def translate(wrapper: BaseDatabaseWrapper, params: Mapping[str, Any], draft: Draft) -> None:
    """Turns psycopg's ``params`` into ``draft``, with the session that Django would make."""
    rest = draft.wanted(params)
    options = draft.wanted(wrapper.settings_dict["OPTIONS"])
    _place(rest, draft)
    _tls(rest, draft)
    draft.seconds("connect_timeout", "connect_timeout", rest.pop("connect_timeout", None))
    _psycopg(wrapper, rest, draft)
    _session(wrapper, options, draft)
    _pool(options.get("pool"), draft)
    rest.pop("client_encoding", None)  # Django's is UTF8, and so is asyncdb's
    for name, reason in _MUST_BE_ABSENT.items():
        if rest.pop(name, None):
            draft.refuse(name, reason)
    for name in PASSED_ON & rest.keys():
        draft.driver_options[name] = rest.pop(name)
    draft.refuse_rest(rest, "psycopg")


def _place(rest: dict[str, Any], draft: Draft) -> None:
    draft.fields["database"] = rest.pop("dbname", None) or ""
    for name in ("user", "password"):
        if value := rest.pop(name, None):
            draft.fields[name] = value
    if host := rest.pop("host", None):
        draft.fields["unix_socket" if str(host).startswith(("/", "@")) else "host"] = str(host)
    if port := rest.pop("port", None):
        if "," in str(port):
            draft.refuse("port", "names several ports: use the same one on each host")
        elif not str(port).isdecimal():
            draft.refuse("port", "is not a number")
        else:
            draft.fields["port"] = int(port)


def _tls(rest: dict[str, Any], draft: Draft) -> None:
    mode = rest.pop("sslmode", None)
    for name, field in _TLS_FILES.items():
        if value := rest.pop(name, None):
            draft.fields[field] = str(value)
            if mode in (None, "prefer"):
                draft.refuse(
                    name,
                    "needs 'sslmode': 'require', 'verify-ca' or 'verify-full': 'prefer' goes on in "
                    "clear text where the server offers no TLS",
                )
    if mode in _TLS_MODES:
        draft.fields["tls"] = _TLS_MODES[mode]
    elif mode == "allow":
        draft.refuse("sslmode", "is 'allow', which tries clear text first: use 'prefer' or 'require'")
    elif mode not in (None, "prefer"):
        draft.refuse("sslmode", f"must be one of prefer, {', '.join(_TLS_MODES)}")


def _psycopg(wrapper: BaseDatabaseWrapper, rest: dict[str, Any], draft: Draft) -> None:
    from django.db.backends.postgresql import base, psycopg_any

    if not psycopg_any.is_psycopg3:
        draft.refuse(
            "psycopg2", "is Django's driver here, and the async side needs psycopg 3: pip install 'psycopg[binary]'"
        )
        return
    factory = rest.pop("cursor_factory", None)
    # A class made of Django's own, as instrumentation makes one, is what the ORM's cursors are made of here, too.
    if factory is not None and not _is_made_of(factory, base.Cursor, base.ServerBindingCursor):
        draft.refuse("cursor_factory", "cannot be replaced: cursors are SQLAlchemy's")
    django_adapters = psycopg_any.get_adapters_template(settings.USE_TZ, wrapper.timezone)
    if rest.pop("context", None) not in (None, django_adapters):
        draft.refuse("context", "cannot be replaced: SQLAlchemy's types convert; use a TypeDecorator")
    draft.driver_options["prepare_threshold"] = rest.pop("prepare_threshold", None)
    rest.pop("autocommit", None)  # Django sets it itself after it connected


def _is_made_of(factory: Any, *classes: type[Any]) -> bool:
    return isinstance(factory, type) and issubclass(factory, classes)


def _session(wrapper: BaseDatabaseWrapper, options: Mapping[str, Any], draft: Draft) -> None:
    if name := wrapper.timezone_name:
        draft.session_settings["TimeZone"] = name
    if role := options.get("assume_role"):
        draft.session_settings["role"] = role
    if (level := options.get("isolation_level")) is not None:
        known = _ISOLATION_LEVELS.get(getattr(level, "value", level))
        if known is None:
            raise ImproperlyConfigured("OPTIONS['isolation_level'] must be one of the psycopg.IsolationLevel values")
        draft.fields["isolation_level"] = known


def _pool(pool: Any, draft: Draft) -> None:
    """The numbers of Django's own pool hold for ours, unless ASYNC_DB gives others."""
    if not isinstance(pool, Mapping):
        return
    for name, value in pool.items():
        if name in _POOL_FIELDS:
            if value is not None:
                draft.fields[_POOL_FIELDS[name]] = value
        elif name not in _POOL_OF_THREADS:
            draft.refuse(
                "pool",
                f"has {name!r}, which concerns psycopg_pool's own connections: use a connection_created receiver",
            )
    if pool.get("max_waiting"):
        draft.fields["max_waiting"] = pool["max_waiting"]
    if pool.get("min_size") and pool.get("max_size") is None:
        draft.fields["pool_size"] = pool["min_size"]
