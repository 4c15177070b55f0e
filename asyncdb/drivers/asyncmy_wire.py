"""asyncmy's connection made safe: what it sends and how it reads replies.

Read in asyncmy 0.2.18 (``connection.pyx``: ``Connection.query``, ``_read_query_result``, ``_fill_buffer``,
``_execute_command``, ``escape``, ``literal``, ``show_warnings``, ``close``, ``_proto``, ``_result``,
``_affected_rows``; ``_ProtocolState.buffer``, ``length``, ``pos``, ``exc``; ``MySQLResult``:
``_check_packet_is_eof``, ``_get_descriptions``, ``_read_load_local_packet``; ``protocol.pyx``:
``FieldDescriptorPacket``, ``_read_fast``). Only the text protocol is used: asyncmy's prepared statements
(``stmt_cache_size``) read their replies elsewhere, and stay off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from asyncmy import connection as asyncmy_connection
from asyncmy import errors
from asyncmy.constants import FIELD_TYPE
from asyncmy.constants.COMMAND import COM_QUERY
from asyncmy.constants.FIELD_TYPE import BLOB
from asyncmy.protocol import EOFPacketWrapper

from .asyncmy_login import GuardedLogin
from .mysql_errors import ends_connection, is_complete
from .mysql_literals import NO_BACKSLASH_ESCAPES, UnsendableParameter, as_utf8, literal

_Result: Any = asyncmy_connection.MySQLResult
"""Its stubs leave out all that is private."""
UNASKED_BYTES = 1 << 20
"""What a server may say at the login, or unasked: its farewell is a few hundred bytes."""
_COM_SET_OPTION = 0x1B  # MySQL manual, "COM_SET_OPTION"
_MANY, _ONE = b"\x00\x00", b"\x01\x00"
_SERVER_GONE, _SERVER_LOST, _LOCAL_INFILE_REFUSED = 2006, 2013, 2068  # MySQL manual, "Client Error Message Reference"
_TOO_LARGE = 1153  # ER_NET_PACKET_TOO_LARGE
_FIXED_PART, _TYPE = 13, 7
"""Bytes of a column's definition after its six strings, and which of them is its type; the character set is the second
and the third (MySQL manual, "Column Definition")."""
_KNOWN_TYPES = frozenset(value for name, value in vars(FIELD_TYPE).items() if name.isupper())
_BINARY = (63).to_bytes(2, "little")
"""The character set of what is no text."""
_ONE_BYTE = 250
_FULL_PACKET = 0xFFFFFF
_ERROR_PACKET = 0xFF
_sound: dict[int, tuple[bytes, ...]] = {}
"""Definitions of columns that are as long as they say, by how many columns they are of."""
_LONGEST_KEPT, _MOST_KEPT, _KEPT_EACH = 8192, 256, 8
_PASSED_ON = ("connection_made", "connection_lost", "get_buffer", "eof_received", "pause_writing", "resume_writing")
"""What the transport calls on asyncmy's protocol itself, for nothing is to be added to it."""


class Meter(asyncio.BufferedProtocol):
    """Stands before asyncmy's protocol and counts: a server that says more than it may is cut off."""

    def __init__(self, protocol: Any, transport: asyncio.Transport) -> None:
        self.protocol = protocol
        self._transport = transport
        self.taken = 0
        """Bytes that came since something was last expected."""
        self.allowed = UNASKED_BYTES
        self.whole = True
        """Whether all of a reply counts, or of a stream's only the rows that are not yet read."""
        for name in _PASSED_ON:
            setattr(self, name, getattr(protocol, name))
        transport.set_protocol(self)

    def buffer_updated(self, nbytes: int) -> None:
        self.taken += nbytes
        if self.taken > self.allowed:
            self._look_closer(nbytes)
        self.protocol.buffer_updated(nbytes)

    def _look_closer(self, nbytes: int) -> None:
        protocol = self.protocol
        if not self.whole:
            self.taken = protocol.length - protocol.pos + nbytes
            if self.taken <= self.allowed:
                return
        protocol.exc = protocol.exc or OverflowError(f"it says more than {self.allowed} bytes: max_reply_bytes")
        self._transport.abort()


class Reply(_Result):  # type: ignore[misc]  # its private parts have no types
    """One reply, read without asyncmy's defects."""

    connection: Any
    description: Any

    def _check_packet_is_eof(self, packet: Any) -> bool:
        # asyncmy 0.2.18 forgets the server's status here, which says whether a transaction is open.
        if not packet.is_eof_packet():
            return False
        end = EOFPacketWrapper(packet)
        self.warning_count, self.has_next = end.warning_count, end.has_next
        self.server_status = self.connection.server_status = end.server_status
        if not end.has_next and (meter := self.connection._meter) is not None:
            meter.taken, meter.allowed, meter.whole = 0, UNASKED_BYTES, True
        return True

    async def _read_load_local_packet(self, first_packet: Any) -> None:
        # asyncmy's own refusal is a RuntimeError, which no DB-API caller expects.
        raise errors.OperationalError(
            _LOCAL_INFILE_REFUSED, "the server asks for a file of this machine (LOCAL INFILE): refused"
        )

    def _get_descriptions(self) -> Awaitable[None]:
        protocol = self.connection._proto
        buffer, position = protocol.buffer, protocol.pos
        for block in _sound.get(self.field_count, ()):
            if buffer.startswith(block, position) and position + len(block) <= protocol.length:
                described: Awaitable[None] = super()._get_descriptions()
                return described
        return self._measure_descriptions()

    async def _measure_descriptions(self) -> None:
        unknown = await self._check_descriptions()
        await super()._get_descriptions()
        if unknown:
            described = list(self.description)
            for index, type_code in unknown.items():
                self.fields[index].type_code = type_code
                described[index] = (described[index][0], type_code, *described[index][2:])
            self.description = tuple(described)

    async def _check_descriptions(self) -> dict[int, int]:
        """Measures the columns' definitions before asyncmy reads them; returns the types that it does not know.

        asyncmy 0.2.18 trusts the length of each string in them (``_read_fast``), and reads whatever memory follows.
        It takes values of a type that it does not know for ASCII (MySQL 9's VECTOR): here they are read as bytes.
        """
        unknown: dict[int, int] = {}
        connection = self.connection
        offset = 0  # from ``pos``: the buffer may move while more is awaited
        for index in range(self.field_count):
            protocol = connection._proto
            if protocol.length - protocol.pos < offset + 4:
                await connection._fill_buffer(offset + 4)
            start = protocol.pos + offset
            buffer = protocol.buffer
            size = buffer[start] | buffer[start + 1] << 8 | buffer[start + 2] << 16
            if protocol.length - start - 4 < size:
                await connection._fill_buffer(offset + 4 + size)
                start, buffer = protocol.pos + offset, protocol.buffer
            position, end = start + 4, start + 4 + size
            if size and buffer[position] == _ERROR_PACKET:
                return unknown  # an error in place of the rest: asyncmy raises it
            for _ in range(6):
                length = buffer[position] if position < end else end
                if length > _ONE_BYTE:
                    length, position = _length(buffer, position, end)
                position += length + 1
            if position + _FIXED_PART > end or size == _FULL_PACKET:
                raise errors.InternalError("a column's definition is not as long as it says")
            if (type_code := buffer[position + _TYPE]) not in _KNOWN_TYPES:
                unknown[index] = type_code
                buffer[position + _TYPE] = BLOB
                buffer[position + 1 : position + 3] = _BINARY
            offset += 4 + size
        if not unknown:
            _remember(self.field_count, bytes(connection._proto.buffer[connection._proto.pos :][:offset]))
        return unknown


def _remember(columns: int, block: bytes) -> None:
    """Keeps what was found sound, for the same columns are asked for again and again."""
    if len(block) > _LONGEST_KEPT:
        return
    if len(_sound) >= _MOST_KEPT:
        _sound.clear()
    _sound[columns] = (block, *_sound.get(columns, ())[: _KEPT_EACH - 1])


def _length(buffer: bytearray, position: int, end: int) -> tuple[int, int]:
    """A length of more than one byte, and the place of the last of its bytes."""
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(buffer[position] if position < end else 0, 0)
    return (int.from_bytes(buffer[position + 1 : position + 1 + width], "little") if width else end), position + width


class SafeConnection(GuardedLogin):
    """asyncmy's connection as the pool uses it."""

    max_reply_bytes = 1 << 30
    owed: Callable[[str | None], Awaitable[None]] | None = None
    """What is called before each statement once somebody has this connection in hand."""
    _meter: Meter | None = None
    _transport: Any
    _result: Any
    _agreed = 0
    """The server's status when it was last sure how the session reads strings."""

    def _fill_buffer(self, need: int) -> Awaitable[None]:
        if self._meter is None or self._meter.protocol is not self._proto:
            self._measure()
        filled: Awaitable[None] = super()._fill_buffer(need)
        return filled

    def _measure(self) -> Meter | None:
        """The meter of this connection's protocol, which is one for the TCP connection, then another for TLS."""
        if self._transport is not None and (self._meter is None or self._meter.protocol is not self._proto):
            self._meter = Meter(self._proto, self._transport)
        return self._meter

    async def query(self, sql: str | bytes, unbuffered: bool = False) -> Any:  # noqa: FBT001, FBT002  (asyncmy's)
        if self.owed is not None:
            await self.owed(sql if isinstance(sql, str) else bytes(sql).decode(errors="replace"))
        protocol, meter = self._proto, self._meter
        if protocol is not None and protocol.length != protocol.pos:
            self._require_answered()
        if isinstance(sql, str):
            sql = as_utf8(sql)  # asyncmy would let lone surrogates through, as bytes that are no UTF-8
        if meter is None or meter.protocol is not protocol:
            meter = self._measure()
        if meter is not None:
            meter.taken, meter.allowed, meter.whole = 0, self.max_reply_bytes, not unbuffered
        await self._execute_command(COM_QUERY, sql)
        try:
            if unbuffered:
                await self._read_query_result(unbuffered=True)
            else:
                self._result = None
                result = Reply(self)
                await result.read()
                self._keep(result)
                if (self.server_status ^ self._agreed) & NO_BACKSLASH_ESCAPES and not result.has_next:
                    await self._agree()
        except errors.InternalError as err:
            if len(sql) < _FULL_PACKET or is_complete(err.args[0] if err.args else None):
                raise
            # The server's refusal of a statement that it did not read to its end: asyncmy 0.2.18 counts packets, the
            # server (MariaDB 10.11) does not count those that it did not read.
            raise errors.OperationalError(_TOO_LARGE, "Got a packet bigger than 'max_allowed_packet' bytes") from err
        except errors.MySQLError as err:
            if not ends_connection(err):
                await self._agree_after_error(sql)
            raise
        return self._affected_rows

    def _require_answered(self) -> None:
        result = self._result
        if self.spoke_unasked and (result is None or not (result.has_next or result.unbuffered_active)):
            # Whatever it is, it answers nothing that was asked, and would be taken for the answer to what comes next.
            self.close()
            raise errors.OperationalError(_SERVER_GONE, "the server spoke unasked; the statement was not sent")

    async def _read_query_result(self, unbuffered: bool = False) -> None:  # noqa: FBT001, FBT002  (asyncmy's)
        self._result = None
        result = Reply(self)
        if unbuffered:
            try:
                await result.init_unbuffered_query()
            except Exception:
                result.unbuffered_active, result.connection = False, None
                raise
        else:
            await result.read()
        self._keep(result)
        if (
            (self.server_status ^ self._agreed) & NO_BACKSLASH_ESCAPES
            and not result.has_next
            and not result.unbuffered_active
        ):
            await self._agree()

    def _keep(self, result: Reply) -> None:
        self._result = result
        self._affected_rows = result.affected_rows
        if not result.field_count:
            self.server_status = result.server_status  # also where it is 0, which asyncmy takes for none
            if not result.has_next and (meter := self._meter) is not None:
                meter.taken, meter.allowed, meter.whole = 0, UNASKED_BYTES, True

    @property
    def spoke_unasked(self) -> bool:
        """Whether something lies unread that nobody asked for, on a connection that is at rest."""
        protocol = self._proto
        return protocol is not None and protocol.length != protocol.pos

    async def show_warnings(self) -> None:
        """Nothing: asyncmy's cursor would ask the server after each statement that had a warning."""

    @property
    def plain(self) -> bool:
        """Whether the session knows no backslash escapes.

        - **errors**: ``UnsendableParameter`` where nobody knows.
        """
        if (self.server_status ^ self._agreed) & NO_BACKSLASH_ESCAPES:
            raise UnsendableParameter(
                "the statement whose rows were streamed changed sql_mode, as the server says, and whether for the "
                "session is not known: run a statement without parameters first",
            )
        return bool(self._agreed & NO_BACKSLASH_ESCAPES)

    async def _agree(self) -> None:
        """Has the server say how it reads strings, where it says that this has changed.

        A stored routine that sets sql_mode sets it for itself alone, and the server's status (MySQL 9.7, MariaDB 10.11)
        goes on saying that the session has it: a quoted backslash would then end its literal. To set the session's mode
        to itself makes the status true again.
        """
        kept, rows = self._result, self._affected_rows
        await self._execute_command(COM_QUERY, b"SET SESSION sql_mode = @@SESSION.sql_mode")
        result = Reply(self)
        await result.read()
        self.server_status = self._agreed = result.server_status
        self._result, self._affected_rows = kept, rows

    async def _agree_after_error(self, sql: bytes) -> None:
        """An error has no status; a SET of several variables may have made the first of them."""
        if b"sql_mode" in sql.lower():
            with contextlib.suppress(
                errors.MySQLError
            ):  # the statement's own error is to be raised; who asks next meets this one
                await self._agree()

    def escape(self, obj: Any, mapping: Any = None) -> str:
        return literal(obj, plain=self.plain)

    def literal(self, obj: Any) -> str:
        return literal(obj, plain=self.plain)

    async def run_script(self, sql: str) -> None:
        """Runs what may be several statements, as mysqlclient does for what the project itself has written."""
        if several := ";" in sql:
            await self._take(_MANY)
        await self.query(sql)
        if several:
            await self._take(_ONE)

    async def _take(self, statements: bytes) -> None:
        await self._execute_command(_COM_SET_OPTION, statements)
        packet = await self.read_packet()
        if not (packet.is_eof_packet() or packet.is_ok_packet()):
            raise errors.OperationalError(_SERVER_LOST, "the server did not switch several statements on or off")

    def close(self) -> None:
        # Called where something went wrong: a TLS connection would wait for its peer's goodbye, for up to 30 s. And by
        # asyncmy 0.2.18 where the rows of a stream are collected unread, which may be in any thread.
        transport, self._transport, self._connected = self._transport, None, False
        if transport is None:
            return
        if asyncio._get_running_loop() is self._loop:
            transport.abort()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the transport with it
                self._loop.call_soon_threadsafe(transport.abort)
