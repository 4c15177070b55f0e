"""``DatabaseConfig``: all that asyncdb knows of one database, checked once and frozen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from .errors import ConfigurationError

Family = Literal["mysql", "postgresql", "sqlite"]
TLSMode = Literal["disabled", "required", "verify_ca", "verify_identity"]
IsolationLevel = Literal["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]

_FAMILIES: Mapping[str, Family] = {
    "mysql": "mysql",
    "mariadb": "mysql",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "sqlite": "sqlite",
}
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


class DatabaseConfig(BaseModel):
    """Describes one database: where it is, its pool, its time-outs, its session settings.

    Names are SQLAlchemy's where it has them. An unknown name is an error.

    - **units**: every time-out is in seconds; sizes are connections.
    - **errors**: ``ConfigurationError``, from :meth:`of` and :meth:`from_url`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    alias: str = "default"
    family: Family
    host: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    unix_socket: str | None = None
    user: str | None = None
    password: SecretStr | None = None
    database: str = ""

    pool_size: int = Field(default=10, ge=1)
    """Connections kept. Ten keep two cores busy; multiply by workers before you raise it."""
    max_overflow: int = Field(default=0, ge=0)
    """Connections above ``pool_size``. None: a burst waits in line, it does not storm the server."""
    pool_timeout: float = Field(default=5.0, gt=0)
    """Seconds to wait for a connection. A web request that waited longer is lost to its user;
    SQLAlchemy's 30 hides an overload until every worker stands in line."""
    max_waiting: int | None = Field(default=None, ge=0)
    """Callers that may wait at once; one more gets ``PoolOverloaded``. None: any number, each bounded in time."""
    pool_recycle: float = Field(default=1800.0)
    """Seconds after which a connection is replaced, less up to a tenth at random so that a pool does not
    reconnect all at once; never more than the server's own idle limit allows. -1: only that limit."""
    pool_pre_ping: bool = True
    """Whether an idle connection may be pinged at checkout; a look at its socket is taken in any case."""
    ping_after: float = Field(default=30.0, ge=0)
    """Idle seconds after which a checkout pings. A server that goes away closes the socket, and the local
    look sees that for nothing; a ping is for what drops idle connections in silence (NAT, proxies, firewalls),
    and the shortest such limits in common use are 50 to 60 s. 0: a ping at every checkout, as SQLAlchemy's."""

    leak_after: float | None = Field(default=None, gt=0)
    """Seconds after which a connection that is still held is reported, once, with the place that took it. None: off,
    because to note the place costs some microseconds at each checkout; in a Django project on under ``DEBUG``."""
    held_idle_after: float | None = Field(default=None, gt=0)
    """Seconds after which a connection is reported that is held while nothing is asked of it, as across a call to
    another service. None: off; in a Django project on under ``DEBUG``."""

    connect_timeout: float = Field(default=10.0, gt=0)
    """Seconds for the whole login: TCP, TLS, authentication, session settings."""
    ping_timeout: float = Field(default=2.0, gt=0)
    """Seconds for the answer to a ping, after which the connection counts as dead."""
    read_timeout: float | None = Field(default=300.0, gt=0)
    """Seconds to wait for the reply to one statement, after which the connection is dropped. None: no bound."""
    max_reply_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """MySQL and MariaDB: bytes of one reply, or of the rows of a stream that nobody has read yet, after which the
    connection is dropped. A server allows one value, and so one row, of 1 GiB at most."""
    statement_timeout: float | None = Field(default=None, gt=0)
    """Seconds that the server may work on one statement; MySQL itself stops only SELECTs, the client stops the rest a
    second later. None: the server's own limit, because a stream that is read slowly is one long statement to MySQL,
    and ``read_timeout`` bounds the wait in any case. ``statement_limit()`` says another for some calls."""
    lock_timeout: float | None = Field(default=None, gt=0)
    """Seconds that a statement waits for a lock, in whole seconds on MySQL. None: the server's own, 50 s for rows on
    MySQL, no bound on PostgreSQL, where ``read_timeout`` is one. SQLite has ``busy_timeout``."""
    tcp_keepalive: float | None = Field(default=30.0, ge=1)
    """Seconds of silence after which the system asks whether the peer is there, three times ten seconds apart; what
    was sent may stay unacknowledged as long. Thirty keeps a path open through firewalls and NAT, which forget it after
    50 s at the earliest in common use. None: the system's own, two hours on Linux."""
    close_timeout: float = Field(default=1.0, gt=0)
    """Seconds of grace for a polite goodbye, after which the socket is closed without one."""
    commit_grace: float = Field(default=2.0, ge=0)
    """Seconds that a COMMIT may go on when its task is cancelled, so that its outcome is known. A commit takes
    milliseconds; two seconds outlast a disk that stalls, and end well before a server that shuts down loses patience.
    0: the cancellation is raised at once, and leaves each such commit in doubt."""
    busy_timeout: float = Field(default=5.0, ge=0)
    """SQLite alone: seconds to wait for another connection's lock."""

    tls: TLSMode | None = None
    """None is what the driver does by itself: MySQL no TLS, PostgreSQL TLS where the server offers it."""
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    connect_attempts: int = Field(default=3, ge=1)
    """Times that a connection is tried for while the server cannot be reached or has too many connections. Three
    bridge a dropped packet and a fail-over's gap; what takes longer is for the caller to know. 1: no retry."""
    retry_lost_reads: bool = True
    """Whether a plain ``select()`` outside of a transaction is sent once more if its reply was lost."""
    transaction_attempts: int = Field(default=5, ge=1)
    """Times that a retried transaction is tried in all while it deadlocks or cannot be serialized. Of 300 transfers
    that conflict with each other more than 98 % succeed within five."""
    retry_wait: float = Field(default=0.1, gt=0)
    """Seconds of pause before the second attempt, at most; each further one may be twice as long. How long it is, is
    random (full jitter), for those who conflicted would else meet again."""
    retry_wait_max: float = Field(default=2.0, gt=0)
    """Seconds that no pause between two attempts exceeds. Longer ones belong into a queue, not into a request."""

    isolation_level: IsolationLevel | None = None
    """The level of every transaction that asks for no other. None is the server's own default."""
    session_settings: Mapping[str, str | int | float | bool | None] = Field(default_factory=dict)
    """Set on each new connection: MySQL ``SET SESSION name = value``, PostgreSQL ``SET``, SQLite ``PRAGMA``."""
    init_command: str | None = None
    """SQL sent once on each new connection: on MySQL before the session settings, elsewhere after them."""
    driver_options: Mapping[str, Any] = Field(default_factory=dict, repr=False)
    """Further arguments of the driver's ``connect``; each family has a list of those it honours."""

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Checks ``options`` and returns the configuration.

        - **errors**: one ``ConfigurationError`` that lists every wrong option, with the nearest known name
          for an unknown one and never a value.
        """
        try:
            return cls(**options)
        except ValidationError as err:
            alias = options.get("alias", "default")
            raise ConfigurationError(f"database {alias!r}: {'; '.join(map(cls._explain, err.errors()))}") from None

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Builds a configuration from a database URL (``mysql://``, ``mariadb://``, ``postgresql://``, ``sqlite:///``).

        - **errors**: ``ConfigurationError``; it does not repeat the URL.
        """
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            parsed = None
        if parsed is None:  # raised here, for the error above may repeat a part of the URL
            raise ConfigurationError("this is not a database URL (mysql://user:password@host/name)")
        backend = parsed.drivername.partition("+")[0]
        if backend not in _FAMILIES:
            raise ConfigurationError(
                f"no driver for {backend!r} URLs: use one of {', '.join(sorted(_FAMILIES))}",
            )
        query = {name: value if isinstance(value, str) else value[-1] for name, value in parsed.query.items()}
        place = {
            "host": parsed.host,
            "port": parsed.port,
            "user": parsed.username,
            "password": parsed.password,
            "database": parsed.database or (":memory:" if backend == "sqlite" else ""),
        }
        return cls.of(**place | query | options | {"family": _FAMILIES[backend]})

    @classmethod
    def _explain(cls, error: Any) -> str:
        name = ".".join(str(part) for part in error["loc"])
        if error["type"] != "extra_forbidden":
            return f"{name}: {error['msg']}" if name else error["msg"].removeprefix("Value error, ")
        near = difflib.get_close_matches(name, cls.model_fields, n=1)
        return f"unknown option {name!r}" + (f": did you mean {near[0]!r}?" if near else "")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.pool_recycle != -1 and self.pool_recycle <= 0:
            raise ValueError("pool_recycle must be a positive number of seconds, or -1")
        explicit = self.model_fields_set >= {"read_timeout", "statement_timeout"}
        if explicit and (self.read_timeout or 0) and (self.statement_timeout or 0) >= (self.read_timeout or 0):
            raise ValueError("statement_timeout must be below read_timeout: the server's word comes first")
        if self.tls in ("verify_ca", "verify_identity") and self.tls_ca is None and self.family != "mysql":
            raise ValueError(f"tls={self.tls!r} needs tls_ca, the certificate authority to verify against")
        if self.tls in (None, "disabled") and (self.tls_ca or self.tls_cert or self.tls_key):
            raise ValueError("tls_ca, tls_cert and tls_key need tls='required', 'verify_ca' or 'verify_identity'")
        if bad := [name for name in self.session_settings if not _SETTING_NAME.fullmatch(name)]:
            raise ValueError(f"session_settings: {bad[0]!r} is not the name of a setting")
        if self.tls_key and not self.tls_cert:
            raise ValueError("tls_key needs tls_cert")
        if self.family == "sqlite":
            if not self.database:
                raise ValueError("a SQLite database needs a file name or ':memory:'")
            if self.host or self.port or self.user or self.password or self.unix_socket or self.tls:
                raise ValueError("SQLite takes no host, port, unix_socket, user, password or tls")
            if self.lock_timeout is not None:
                raise ValueError("lock_timeout: SQLite has busy_timeout in its place")
            if self.isolation_level not in (None, "SERIALIZABLE"):
                raise ValueError("isolation_level: each transaction of SQLite is SERIALIZABLE")
        elif self.host and self.unix_socket:
            raise ValueError("give host or unix_socket, not both")
        elif "busy_timeout" in self.model_fields_set:
            raise ValueError("busy_timeout is SQLite's alone: use session_settings (lock_wait_timeout, lock_timeout)")
        return self

    @property
    def in_memory(self) -> bool:
        """Whether this is a SQLite database that lives in memory, so that its one connection is never replaced."""
        return self.family == "sqlite" and (self.database == ":memory:" or "mode=memory" in self.database)

    def __str__(self) -> str:
        place = self.unix_socket or ":".join(str(part) for part in (self.host, self.port) if part) or self.database
        return f"{self.alias!r} ({self.family} at {place})"
