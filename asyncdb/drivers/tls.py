"""TLS by name, for drivers that take an ``ssl.SSLContext``: what is asked for is what is used."""

from __future__ import annotations

import ssl

from ..config import DatabaseConfig
from ..errors import ConfigurationError


def ssl_context(config: DatabaseConfig) -> ssl.SSLContext | None:
    """Builds the context for ``config.tls``; None when TLS is off.

    ``required`` encrypts and verifies nothing, ``verify_ca`` verifies the certificate, ``verify_identity`` the host
    name too (the MySQL manual's ``--ssl-mode``). Without ``tls_ca`` the system's authorities are used.

    - **errors**: ``ConfigurationError`` that names the file that cannot be read.
    """
    if config.tls in (None, "disabled"):
        return None
    try:
        context = ssl.create_default_context(cafile=config.tls_ca)
        context.check_hostname = config.tls == "verify_identity"
        context.verify_mode = ssl.CERT_NONE if config.tls == "required" else ssl.CERT_REQUIRED
        if config.tls_cert:
            context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as err:
        files = [name for name in (config.tls_ca, config.tls_cert, config.tls_key) if name]
        raise ConfigurationError(
            f"database {config.alias!r}: a TLS file cannot be used ({', '.join(files)}): {err}",
        ) from err
    return context
