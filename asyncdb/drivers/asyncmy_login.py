"""asyncmy's login, held to what was asked for: no password in clear, no TLS that is silently left out.

Read in asyncmy 0.2.18 (``connection.pyx``: ``_get_server_information``, ``_request_authentication``,
``_process_auth``, ``_secure``, ``_ssl_context``, ``_server_public_key``, ``_password``, ``_client_flag``;
``auth.py``). Each check may go when asyncmy makes it by itself; ``tests/unit/test_upstream.py`` tells.
"""

from __future__ import annotations

import asyncio
from typing import Any

from asyncmy import connection, errors
from asyncmy.constants import CLIENT

_Asyncmy: Any = connection.Connection
"""Its stubs leave out all that is private."""

_CLEAR = frozenset({b"mysql_clear_password", b"dialog"})
"""Plugins that send the password as it is (MySQL manual, "Client-Side Cleartext Pluggable Authentication"; MariaDB
documentation, "Authentication Plugin - PAM")."""
_OLD = b"mysql_old_password"
_ENCRYPTS_FOR_SERVER = frozenset({b"caching_sha2_password", b"sha256_password"})
"""Plugins that, without TLS, encrypt the password with the public key that the server shows."""
_TLS_ERROR, _PLUGIN_ERROR, _HANDSHAKE_ERROR = 2026, 2061, 2012  # MySQL manual, "Client Error Message Reference"


class GuardedLogin(_Asyncmy):  # type: ignore[misc]  # its private parts have no types
    """asyncmy's connection, whose login sends nothing that the configuration does not allow."""

    takes_key_of_server = False
    """Whether the password may be encrypted, without TLS, for a public key that nobody has verified."""

    def __init__(self, **arguments: Any) -> None:
        self._plugin = b""
        super().__init__(**arguments)
        # asyncmy adds it to whatever it is given.
        self._client_flag &= ~(CLIENT.MULTI_STATEMENTS | CLIENT.LOCAL_FILES)

    @property
    def _server_public_key(self) -> Any:
        """The key that is configured; a server may show its own only where none is, and it is trusted to."""
        return self._pinned_key or self._shown_key

    @_server_public_key.setter
    def _server_public_key(self, key: Any) -> None:
        if "_pinned_key" not in vars(self):
            self._pinned_key, self._shown_key = key, None
            return
        self._require_trusted_key()
        self._shown_key = key

    async def _get_server_information(self) -> None:
        try:
            await super()._get_server_information()
        except (errors.Error, OSError, asyncio.CancelledError):
            raise
        except Exception as err:
            raise _not_understood(err) from None
        # asyncmy 0.2.18 takes a row whose first column has 16 MiB or more for the end of the rows where both sides
        # agreed on this: without it the end is a packet of its own kind.
        self.server_capabilities &= ~CLIENT.DEPRECATE_EOF
        self._plugin = self._auth_plugin_name.encode()
        if self._ssl_context is not None and not self.server_capabilities & CLIENT.SSL:
            raise errors.OperationalError(_TLS_ERROR, "TLS is wanted and the server offers none: nothing was sent")

    async def _request_authentication(self) -> Any:
        try:
            packet = await super()._request_authentication()
        except (errors.Error, OSError, asyncio.CancelledError):
            raise
        except Exception as err:  # its frames hold the password
            failure = _not_understood(err)
        else:
            # asyncmy reads the last packet of caching_sha2_password itself, raises if it is an error, and returns none.
            if packet is None or packet.is_ok_packet():
                self._require_trusted_key()
                return packet
            failure = errors.OperationalError(_HANDSHAKE_ERROR, "the server did not say whether the login succeeded")
        raise failure

    async def _process_auth(self, plugin_name: Any, auth_packet: Any) -> Any:
        self._plugin = bytes(plugin_name)
        if self._plugin == _OLD:
            raise errors.OperationalError(
                _PLUGIN_ERROR, "the server asks for mysql_old_password, whose hash is as good as the password: refused"
            )
        if self._plugin in _CLEAR and not self._secure:
            raise errors.OperationalError(
                _PLUGIN_ERROR,
                f"the server asks for the password in clear ({self._plugin.decode('ascii', 'replace')}) and there is "
                "no TLS: refused, nothing was sent; set tls='verify_identity' (or 'verify_ca', 'required')",
            )
        self._require_trusted_key()
        return await super()._process_auth(plugin_name, auth_packet)

    def _require_trusted_key(self) -> None:
        """Refuses to encrypt the password for whoever answers.

        Also where the server knew the password by heart and asked for nothing this time: it would ask again after its
        next start, and a pool that logged in before could not then.
        """
        trusted = self._secure or self._pinned_key or self.takes_key_of_server
        if self._plugin in _ENCRYPTS_FOR_SERVER and self._password and not trusted:
            raise errors.OperationalError(
                _PLUGIN_ERROR,
                f"{self._plugin.decode()} without TLS gives the password to whoever answers as the server: set "
                "tls='required' or better, or driver_options server_public_key (the server's key), or, in a network "
                "that is trusted, driver_options get_server_public_key=True",
            )


def _not_understood(error: Exception) -> Exception:
    found: Exception = errors.OperationalError(
        _HANDSHAKE_ERROR, f"what the server said at the login cannot be understood ({type(error).__name__})"
    )
    return found
