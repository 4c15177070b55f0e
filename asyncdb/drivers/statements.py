"""What a statement does to a transaction, told from what was compiled.

A statement that nothing here recognises counts as the stronger kind: that costs a BEGIN, never a wrong result.
Read in SQLAlchemy 2.1.9: ``sql/compiler.py`` (visit methods), ``ext/compiler.py`` (``_compiler_dispatcher``).
"""

from __future__ import annotations

import enum
import functools
import re
from typing import TYPE_CHECKING, Any

from sqlalchemy.sql import functions, visitors

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import ExecutionContext

_Compiler: Any = object
"""What the mixin stands on: SQLAlchemy's visit methods are not typed."""


class Kind(enum.Enum):
    """The effect of one statement.

    - ``READ``: a plain ``select()``: under READ COMMITTED it needs no transaction;
    - ``OPAQUE``: nothing says that it writes, but it may lock, or call what writes (``text()``, FOR UPDATE,
      a function that is not known): it needs a transaction;
    - ``CONTROL``: it is about the transaction or the session itself (SAVEPOINT, SET): it needs a transaction;
    - ``BOUNDARY``: it begins or ends a transaction by hand (BEGIN, COMMIT);
    - ``WRITE``: it changes rows or the schema: it needs a transaction, and somebody has to commit it.
    """

    READ = "read"
    OPAQUE = "opaque"
    CONTROL = "control"
    BOUNDARY = "boundary"
    WRITE = "write"


PURE_FUNCTIONS = frozenset(
    """
    abs acos array_agg array_length array_to_string asin atan atan2 avg bit_and bit_length bit_or bool_and bool_or
    cardinality cbrt ceil ceiling char_length character_length coalesce concat concat_ws cos cot count cume_dist
    curdate curtime date date_add date_format date_part date_sub date_trunc datediff datetime day dayofmonth
    dayofweek dayofyear degrees dense_rank div every exp extract first_value floor format from_unixtime greatest
    group_concat hour if ifnull initcap instr isnull json_agg json_array json_array_length json_build_object
    json_contains json_extract json_length json_object json_type json_unquote json_valid jsonb_agg
    jsonb_array_length jsonb_build_object jsonb_extract_path_text julianday lag last_value lcase lead least left
    length ln locate log log10 log2 lower lpad ltrim make_date max md5 microsecond mid min minute mod month now
    nth_value ntile nullif octet_length percent_rank percentile_cont pi position pow power quarter radians rand
    random rank regexp_replace repeat replace reverse right round row_number rpad rtrim second sign sin similarity
    split_part sqrt stddev stddev_pop stddev_samp strftime string_agg strpos substr substring substring_index sum
    tan time timediff timestampdiff to_char to_date to_timestamp to_tsquery to_tsvector total translate trim
    truncate ts_rank ucase unaccent unix_timestamp upper utc_timestamp var_pop var_samp variance week weekday
    width_bucket word_similarity year
    """.split(),
)
"""Functions of the three families that neither write nor lock, whatever their arguments."""

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*(?!M?!).*?\*/", re.DOTALL)
_HARMLESS_LITERAL = re.compile(r"\*|[\w.]*|'[^'\\]*'")
_FIRST_WORD = re.compile(r"[\s(]*([a-z]+)", re.IGNORECASE)
_ROW_LOCK = re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b", re.IGNORECASE)
_WRITING_VERB = re.compile(r"\b(?:insert|update|delete|merge|into|call)\b", re.IGNORECASE)
_QUOTED_NAME = re.compile(r"\"[^\"]*\"|`[^`]*`")
_NOT_PLAIN = re.compile(
    r"\b(?:into|for\s+(?:no\s+key\s+|key\s+)?(?:update|share)|lock\s+in|procedure|call|next\s+value|nextval)\b|:=|;|@",
    re.IGNORECASE,
)
_CALL = re.compile(r"([\w.]+)\s*\(", re.IGNORECASE)
_BEFORE_PARENTHESES = frozenset(
    """
    all and any array as between by case cast convert distinct else except exists extract filter from group having in
    intersect interval is join lateral like not on or order over row rows select set some then trim union using values
    when where within
    """.split(),
)
_QUERIES = frozenset("select with explain values table show describe desc help pragma".split())
_INNERMOST = re.compile(r"\([^()]*\)")
_CONTROLS = frozenset("savepoint release rollback set reset use lock unlock declare fetch".split())
_BOUNDARY = re.compile(
    r"\s*(?:commit|begin|start|end|abort|rollback(?!(?:\s+work|\s+transaction)?\s+to\b))\b", re.IGNORECASE
)


class NotingCompiler(_Compiler):  # type: ignore[misc]  # a mixin
    """Mixin of a dialect's compiler: notes while it compiles what is more than a plain read."""

    noted = Kind.READ

    def _note(self, kind: Kind) -> None:
        if self.noted is not Kind.WRITE:
            self.noted = kind

    def visit_textclause(self, *args: Any, **kw: Any) -> Any:
        self._note(Kind.OPAQUE)
        return super().visit_textclause(*args, **kw)

    def visit_textual_select(self, *args: Any, **kw: Any) -> Any:
        self._note(Kind.OPAQUE)
        return super().visit_textual_select(*args, **kw)

    def visit_custom_op_binary(self, *args: Any, **kw: Any) -> Any:
        self._note(Kind.OPAQUE)
        return super().visit_custom_op_binary(*args, **kw)

    def visit_function(self, func: Any, *args: Any, **kw: Any) -> Any:
        if not _is_pure(func):
            self._note(Kind.OPAQUE)
        return super().visit_function(func, *args, **kw)

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> Any:
        if column.is_literal and not _HARMLESS_LITERAL.fullmatch(column.name):
            self._note(Kind.OPAQUE)  # literal_column() may call what writes
        return super().visit_column(column, *args, **kw)

    def get_statement_hint_text(self, *args: Any, **kw: Any) -> Any:
        self._note(Kind.OPAQUE)
        return super().get_statement_hint_text(*args, **kw)

    def for_update_clause(self, *args: Any, **kw: Any) -> Any:
        self._note(Kind.OPAQUE)
        return super().for_update_clause(*args, **kw)

    def visit_insert(self, *args: Any, **kw: Any) -> Any:
        self._note(Kind.WRITE)
        return super().visit_insert(*args, **kw)

    def visit_update(self, *args: Any, **kw: Any) -> Any:
        self._note(Kind.WRITE)
        return super().visit_update(*args, **kw)

    def visit_delete(self, *args: Any, **kw: Any) -> Any:
        self._note(Kind.WRITE)
        return super().visit_delete(*args, **kw)


def _is_pure(func: Any) -> bool:
    if isinstance(func, functions.next_value):
        return False
    if isinstance(func, functions.GenericFunction) and type(func).__module__ == functions.__name__:
        return True
    return func.name.lower() in PURE_FUNCTIONS and not getattr(func, "packagenames", ())


def kind_of(context: ExecutionContext | None, statement: str) -> Kind:
    """Tells what ``statement`` does, from its compiled form where there is one, else from its words."""
    compiled: Any = getattr(context, "compiled", None)
    if compiled is None:
        return kind_of_text(statement)
    kind: Kind | None = compiled.__dict__.get("_asyncdb_kind")
    if kind is None:
        kind = compiled.__dict__["_asyncdb_kind"] = _kind_of_compiled(compiled, statement)
    return kind


def _kind_of_compiled(compiled: Any, statement: str) -> Kind:
    element = compiled.statement
    if not isinstance(compiled, NotingCompiler):
        return Kind.WRITE  # DDL has a compiler of its own
    if compiled.noted is Kind.WRITE or getattr(element, "is_dml", False):
        return Kind.WRITE
    if getattr(element, "is_text", False) or not getattr(element, "is_select", False):
        return kind_of_text(statement)
    if compiled.noted is Kind.READ and any(
        getattr(part, "_compiler_dispatcher", None) is not None for part in visitors.iterate(element)
    ):
        return Kind.OPAQUE  # a construct compiled by @compiles, whose text is not ours to read
    return compiled.noted


@functools.lru_cache(maxsize=1024)
def is_plain_read(statement: str) -> bool:
    """Whether SQL given as text reads and does nothing else: a SELECT that calls no function that is not known.

    Remembered by its text, since an ORM sends few texts many times.
    """
    if "\\" in statement or "$" in statement:  # where a literal ends is then a question of the server's settings
        return False
    words = _QUOTED.sub(" ", _QUOTED_NAME.sub(" unknown ", statement))
    match = _FIRST_WORD.match(words)
    if match is None or match.group(1).lower() != "select" or _NOT_PLAIN.search(words):
        return False
    return all((name := call.lower()) in PURE_FUNCTIONS or name in _BEFORE_PARENTHESES for call in _CALL.findall(words))


def compiles_to_plain_read(statement: Any, dialect: Any) -> bool:
    """Whether a statement that is not compiled yet, or no more, is a plain ``select()``."""
    if not getattr(statement, "is_select", False):
        return False
    compiled = statement.compile(dialect=dialect)
    return _kind_of_compiled(compiled, str(compiled)) is Kind.READ


def kind_of_text(statement: str) -> Kind:
    """Tells what SQL given as text does, as far as its words tell."""
    words = _QUOTED.sub(" ", statement)
    match = _FIRST_WORD.match(words)
    first = match.group(1).lower() if match else ""
    if _BOUNDARY.match(words):
        return Kind.BOUNDARY
    if first in _CONTROLS:
        return Kind.CONTROL
    asks = first in _QUERIES or (first == "copy" and _copies_out(words))
    if asks and not _WRITING_VERB.search(_ROW_LOCK.sub(" ", words)):
        return Kind.OPAQUE
    return Kind.WRITE


def _copies_out(words: str) -> bool:
    """Whether it is ``COPY … TO``: outside of brackets every other one has the word FROM."""
    while (less := _INNERMOST.sub(" ", words)) != words:
        words = less
    outside = words.lower().split()
    return "to" in outside and "from" not in outside
