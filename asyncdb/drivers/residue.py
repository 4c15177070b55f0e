"""What a statement leaves on its session, and what it reads of what another left, told from its words.

A later user of the connection must not meet what the first one left. What nothing here recognises counts as leaving
something: that costs a reset of the connection, never a wrong result. Of a function the words tell nothing; its
connection knows the server's own, and asks the server about the others (``routines``).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .routines import MYSQL, POSTGRESQL


@dataclass(frozen=True, slots=True)
class Residue:
    """What is left on the session after one statement.

    - ``left``: whether it is more than rows: a setting, a variable, a lock, a temporary table, a prepared statement;
    - ``reads_left``: whether the statement asks for what an earlier one of its session left (``LAST_INSERT_ID()``);
    - ``left_on``: the families on which it is so, where they read the same words in different ways;
    - ``calls``: the functions that it calls, in lower case, each of which may leave something;
    - ``defines_routines``: whether what is known of functions is out of date after it.
    """

    left: bool = False
    reads_left: bool = False
    left_on: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    defines_routines: bool = False


_ROWS_AND_SCHEMA = frozenset(
    """
    select with explain values table show describe desc help insert update delete replace merge truncate
    create alter drop rename comment analyze optimize vacuum reindex refresh notify
    savepoint release begin start commit rollback end abort grant revoke check repair copy
    """.split(),
)
"""First words of statements that leave rows, a schema or the transaction's own state, unless a word below says more."""

_NAME = re.compile(r"\"(\w+)\"|`(\w+)`")
_CALL_OF_AN_ODD_NAME = re.compile(r"(?:\"[^\"]+\"|`[^`]+`)(?:\s|/\*.*?\*/)*\(", re.DOTALL)
_ODD_ON = {
    # SET LOCAL is SET SESSION there; "#" and "--x" are other comments than elsewhere; a backslash escapes in "..." too.
    "mysql": re.compile(r"\bset\s+local\b|/\*M?!|#|--\S|\"[^\"]*\\", re.IGNORECASE),
    # Where a dollar quote, a nested comment, an escaped name or string ends, is not told here.
    "postgresql": re.compile(r"\$\w*\$|/\*(?:(?!\*/).)*/\*|\bU&[\"']|\bE'[^']*\\", re.IGNORECASE | re.DOTALL),
}
"""What a family reads in another way than these expressions do."""
_REST_OF_QUOTED = r"|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*(?!M?!).*?\*/"
_QUOTED = re.compile(r"'(?:[^']|'')*'" + _REST_OF_QUOTED, re.DOTALL)
_QUOTED_WITH_ESCAPES = re.compile(r"'(?:[^'\\]|''|\\.)*'" + _REST_OF_QUOTED, re.DOTALL)
"""The same where a backslash escapes, as MySQL reads it by default; SQLite and PostgreSQL do not."""
_FIRST_WORD = re.compile(r"[\s(]*([a-z]+)", re.IGNORECASE)
_LEAVES = re.compile(
    r"\b(?:get_lock|release_lock|release_all_locks|set_config|pg_(?:try_)?advisory_(?:un)?lock\w*|setseed|load_extension"
    r"|dblink_connect\w*|lo_open|pg_replication_origin_session\w*|query_to_xml\w*|cursor_to_xml\w*|ts_stat"
    r"|ts_rewrite)\b"
    r"|:=|\binto\s+@|\bpg_temp\b|\bupdate\s+(?:pg_catalog\s*\.\s*)?pg_settings\b",
    re.IGNORECASE,
)
_TEMPORARY = re.compile(r"\b(?:create|into)\b[^;]*\btemp(?:orary)?\b", re.IGNORECASE)
_DROPPED_AT_COMMIT = re.compile(r"\bon\s+commit\s+drop\b", re.IGNORECASE)
_PRAGMAS_THAT_READ = (
    "foreign_key_check foreign_key_list index_info index_list index_xinfo integrity_check table_info table_xinfo"
)
_OF_THE_TRANSACTION = re.compile(
    r"[\s(]*(?:set\s+(?:local|constraints)\b|lock\s+table\b"
    rf"|pragma\s+(?:\w+\.)?(?:\w+\s*(?:;|$)|(?:{'|'.join(_PRAGMAS_THAT_READ.split())})\b))",
    re.IGNORECASE,
)
_SET_CONFIG = re.compile(r"\bset_config\s*\(", re.IGNORECASE)
_ADVISORY_OF_THE_TRANSACTION = re.compile(r"\bpg_(?:try_)?advisory_xact_lock\w*", re.IGNORECASE)
_READS = re.compile(
    r"\b(?:last_insert_id|found_rows|row_count|lastval|last_insert_rowid|changes|total_changes)\s*\(\s*\)"
    r"|\bcurrval\s*\(|(?<!@)@(?!@)\w|@@(?:(?:session|local)\.)?(?:identity|last_insert_id)\b",
    re.IGNORECASE,
)
_ANOTHER = re.compile(r";\s*[^\s;]")
"""A second statement in the same text."""
_ONE_OF_SEVERAL = re.compile(
    r"[\s(]*(?:select|explain|insert|update|delete|merge|values|savepoint|release|rollback\s+to)\b", re.IGNORECASE
)
"""One that may stand beside others in a text: it says what it is, and neither begins a transaction nor ends one."""
_MYSQL_LOCK = re.compile(r"[\s(]*lock\s+tables?\b.*\b(?:read|write)\b", re.IGNORECASE | re.DOTALL)
_CALL = re.compile(r"(?:\b(\w+)\s*\.\s*)?(?<![\w$])([^\W\d][\w$]*)\s*\(", re.IGNORECASE)
_NAMES_BEFORE_COLUMNS = re.compile(
    r"\b(?:into|copy)\s+\w+(?:\s*\.\s*\w+)*\s*\("  # INSERT INTO t (a, b), COPY t (a, b)
    r"|\bas\s+\w+\s*\(",  # AS t (a, b)
    re.IGNORECASE,
)
_NAMES_OF_A_WITH = re.compile(  # WITH t (a, b) AS (
    r"\bwith\s+(?:recursive\s+)?\w+\s*\([\w\s,]*\)\s*"
    r"(?=as\s*(?:(?:not\s+)?materialized\s*)?\()",
    re.IGNORECASE,
)
_DEFINES_BY_A_QUERY = re.compile(r"\b(?:select|using|values)\b|\b(?:default|check)\b[^,]*\w\s*\(", re.IGNORECASE)
_BEFORE_BRACKETS = frozenset(
    """
    all and any array as between by case check conflict distinct else except exists filter from group grouping having
    in intersect interval into is join lateral like limit not offset on operator or order over partition returning row
    select set some then to union update using values when where window with within
    """.split(),
)
"""What stands before a bracket and calls nothing: words that no function can have for its name."""
_DEFINES = frozenset("create alter drop rename comment".split())
_DEFINES_ROUTINE = re.compile(
    r"[\s(]*(?:create|alter|drop)\b.*\b(?:function|procedure|schema|extension)\b", re.IGNORECASE | re.DOTALL
)
NOTHING = Residue()


@functools.lru_cache(maxsize=1024)
def residue(statement: str) -> Residue:
    """Tells what ``statement`` leaves and reads; remembered by its text, since an ORM sends few texts many times."""
    bare = _NAME.sub(lambda quoted: f" {quoted.group(1) or quoted.group(2)} ", statement)
    bare = _CALL_OF_AN_ODD_NAME.sub(" of_an_odd_name (", bare)
    found = _of_words(_QUOTED.sub(" ", bare))
    if "\\" in statement:
        found = _together((found, _of_words(_QUOTED_WITH_ESCAPES.sub(" ", bare))))
    odd = frozenset(family for family, words in _ODD_ON.items() if words.search(statement))
    return dataclasses.replace(found, left_on=odd) if odd else found


def leaves_something(statement: str) -> bool:
    """Whether a connection must be kept, or washed, after ``statement``, as far as no server has to be asked."""
    found = residue(statement)
    return found.left or bool(found.left_on) or not found.calls <= POSTGRESQL | MYSQL


def _together(found: Sequence[Residue]) -> Residue:
    """What is left where several readings may be meant, or several statements are."""
    return Residue(
        any(one.left for one in found),
        any(one.reads_left for one in found),
        calls=frozenset[str]().union(*(one.calls for one in found)),
        defines_routines=any(one.defines_routines for one in found),
    )


def first_word(statement: str) -> str:
    """A statement as errors name it."""
    match = _FIRST_WORD.match(statement)
    return match.group(1).upper()[:20] if match else "a statement"


def _of_words(words: str) -> Residue:
    words = _ADVISORY_OF_THE_TRANSACTION.sub(" ", _without_settings_of_the_transaction(words))
    if _ANOTHER.search(words) is not None:
        # django-pghistory and django-pgtrigger put SELECT set_config(…, true) before a statement, in one text with it.
        parts = [part for part in words.split(";") if part.strip()]
        if all(_ONE_OF_SEVERAL.match(part) for part in parts):
            return _together([_of_words(part) for part in parts])
    match = _FIRST_WORD.match(words)
    first = match.group(1).lower() if match else ""
    known = first in _ROWS_AND_SCHEMA or (
        _OF_THE_TRANSACTION.match(words) is not None and _MYSQL_LOCK.match(words) is None
    )
    left = (
        not known
        or _ANOTHER.search(words) is not None
        or _LEAVES.search(words) is not None
        or (_TEMPORARY.search(words) is not None and _DROPPED_AT_COMMIT.search(words) is None)
    )
    reads = _READS.search(words) is not None
    if first in _DEFINES or first == "pragma":  # the names before their brackets are those of tables, types and rows
        defines = _DEFINES_ROUTINE.match(words) is not None
        left = left or _DEFINES_BY_A_QUERY.search(words) is not None  # which may call what it likes
        return Residue(left, reads, defines_routines=defines) if left or reads or defines else NOTHING
    if first == "with":
        words = _NAMES_OF_A_WITH.sub(" ", words)
    calls = frozenset(_calls(_NAMES_BEFORE_COLUMNS.sub(" ", words)))
    return Residue(left, reads, calls=calls) if left or reads or calls else NOTHING


def _calls(words: str) -> Iterator[str]:
    for schema, name in _CALL.findall(words):
        called = name.lower()
        if schema and schema.lower() != "pg_catalog":
            yield f".{called}"  # one of a schema's, though the server may have one of that name
        elif called not in _BEFORE_BRACKETS:
            yield called


def _without_settings_of_the_transaction(words: str) -> str:
    """Takes out each ``set_config(name, value, true)``, whose setting ends with the transaction."""
    match = _SET_CONFIG.search(words)
    while match is not None:
        end, last = _arguments(words, match.end())
        if last.strip().lower() in {"true", "is_local => true", "is_local := true"}:
            inside = words[match.end() : end]
            words = f"{words[: match.start()]} ({inside}{words[end:]}"
            match = _SET_CONFIG.search(words, match.start())
        else:
            match = _SET_CONFIG.search(words, match.end())
    return words


def _arguments(words: str, start: int) -> tuple[int, str]:
    """Where the bracket that was opened before ``start`` is closed, and the last argument in it."""
    depth, comma = 0, start
    for place in range(start, len(words)):
        sign = words[place]
        if sign == "(":
            depth += 1
        elif sign == ")":
            if not depth:
                return place, words[comma:place]
            depth -= 1
        elif sign == "," and not depth:
            comma = place + 1
    return len(words), ""
