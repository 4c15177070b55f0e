"""What a statement leaves behind on its connection, and what it reads of what another left, told from its words.

Whoever comes next on the connection must not see the first. What nothing here recognises counts as leaving
something: that costs a connection, never a wrong result.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from .statements import PURE_FUNCTIONS


@dataclass(frozen=True, slots=True)
class Residue:
    """What is left on the session after one statement.

    - ``left``: whether it is more than rows: a setting, a variable, a lock, a temporary table, a prepared statement;
    - ``reads_left``: whether the statement asks for what an earlier one of its session left (``LAST_INSERT_ID()``).
    """

    left: bool = False
    reads_left: bool = False


_ROWS_AND_SCHEMA = frozenset(
    """
    select with explain values table show describe desc help insert update delete replace merge truncate
    create alter drop rename comment analyze optimize vacuum reindex refresh
    savepoint release begin start commit rollback end abort grant revoke check repair copy
    """.split(),
)
"""First words of statements that leave rows, a schema or the transaction's own state, unless a word below says more."""

_REST_OF_QUOTED = r"|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*(?!M?!).*?\*/"
_QUOTED = re.compile(r"'(?:[^']|'')*'" + _REST_OF_QUOTED, re.DOTALL)
_QUOTED_WITH_ESCAPES = re.compile(r"'(?:[^'\\]|''|\\.)*'" + _REST_OF_QUOTED, re.DOTALL)
"""The same where a backslash escapes, as MySQL reads it by default; SQLite and PostgreSQL do not."""
_FIRST_WORD = re.compile(r"[\s(]*([a-z]+)", re.IGNORECASE)
_LEAVES = re.compile(
    r"\b(?:get_lock|release_lock|release_all_locks|set_config|pg_(?:try_)?advisory_(?:un)?lock\w*|setseed"
    r"|dblink_connect|lo_open)\b|:=|\binto\s+@|\bpg_temp\b|\b(?:create|into)\b[^;]*\btemp(?:orary)?\b",
    re.IGNORECASE,
)
_PRAGMAS_THAT_READ = (
    "foreign_key_check foreign_key_list index_info index_list index_xinfo integrity_check table_info table_xinfo"
)
_OF_THE_TRANSACTION = re.compile(
    r"[\s(]*(?:set\s+(?:local|constraints)\b|lock\s+table\b"
    rf"|pragma\s+(?:\w+\.)?(?:\w+\s*(?:;|$)|(?:{'|'.join(_PRAGMAS_THAT_READ.split())})\b))",
    re.IGNORECASE,
)
_ADVISORY_OF_THE_TRANSACTION = re.compile(r"\bpg_(?:try_)?advisory_xact_lock\w*", re.IGNORECASE)
_READS = re.compile(
    r"\b(?:last_insert_id|found_rows|row_count|lastval|last_insert_rowid|changes|total_changes)\s*\(\s*\)"
    r"|\bcurrval\s*\(|(?<!@)@(?!@)\w",
    re.IGNORECASE,
)
_ANOTHER = re.compile(r";\s*[^\s;]")
"""A second statement in the same text, of which nobody looks at the first word."""
_MYSQL_LOCK = re.compile(r"[\s(]*lock\s+tables?\b.*\b(?:read|write)\b", re.IGNORECASE | re.DOTALL)
_CALL = re.compile(r"\b([a-z_]\w*)\s*\(", re.IGNORECASE)
_TABLE_AND_COLUMNS = re.compile(r"\binto\s+[\w.]*\s*\(", re.IGNORECASE)
_BEFORE_BRACKETS = frozenset(
    """
    all and any array as between by case check else except exists filter from group having in intersect interval
    into is join like limit not offset on or over partition returning row select some then union using values when
    where with within
    bigint binary bit char character date datetime decimal double float int integer json nchar numeric nvarchar
    real signed smallint text time timestamp tinyint unsigned uuid varbinary varchar varying year
    connection_id current_database current_schema current_setting current_user database gen_random_uuid
    pg_backend_pid pg_sleep schema session_user sleep user version
    cast convert json_table unnest generate_series last_insert_id found_rows row_count changes excluded
    """.split(),
)
"""What stands before a bracket and calls nothing that leaves something."""
_DEFINES = frozenset("create alter drop rename comment".split())
NOTHING = Residue()


@functools.lru_cache(maxsize=1024)
def residue(statement: str) -> Residue:
    """Tells what ``statement`` leaves and reads; remembered by its text, since an ORM sends few texts many times."""
    found = _of_words(_QUOTED.sub(" ", statement))
    if "\\" in statement:
        other = _of_words(_QUOTED_WITH_ESCAPES.sub(" ", statement))
        return Residue(found.left or other.left, found.reads_left or other.reads_left)
    return found


@functools.lru_cache(maxsize=1024)
def leaves_something(statement: str) -> bool:
    """Whether whoever comes next on the connection might meet something of ``statement``.

    Here a function that is not known counts too: it may set what it likes, and to wash a connection costs little.
    """
    if residue(statement).left:
        return True
    words = _TABLE_AND_COLUMNS.sub(" ", _QUOTED.sub(" ", statement))
    first = _FIRST_WORD.match(words)
    if first is not None and first.group(1).lower() in {*_DEFINES, "pragma"}:  # a PRAGMA was judged above
        return False
    called = {name.lower() for name in _CALL.findall(_ADVISORY_OF_THE_TRANSACTION.sub(" ", words))}
    return not called <= _BEFORE_BRACKETS | PURE_FUNCTIONS


def _of_words(words: str) -> Residue:
    match = _FIRST_WORD.match(words)
    first = match.group(1).lower() if match else ""
    known = first in _ROWS_AND_SCHEMA or (
        _OF_THE_TRANSACTION.match(words) is not None and _MYSQL_LOCK.match(words) is None
    )
    left = (
        not known
        or _ANOTHER.search(words) is not None
        or _LEAVES.search(_ADVISORY_OF_THE_TRANSACTION.sub(" ", words)) is not None
    )
    reads = _READS.search(words) is not None
    return Residue(left, reads) if left or reads else NOTHING
