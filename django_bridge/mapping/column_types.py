"""Two spellings of one column type, made equal: what a field's ``db_type`` says, and what the catalogue says.

Only spellings: a length, a precision, a sign, another type stay different. Pure functions, which ask no server.
"""

from __future__ import annotations

import re

__all__ = ["normalised"]

_MYSQL_NAMES = {
    "bool": "tinyint(1)",
    "boolean": "tinyint(1)",
    "char": "char(1)",
    "dec": "decimal",
    "double precision": "double",
    "fixed": "decimal",
    "int4": "int",
    "int8": "bigint",
    "integer": "int",
    "numeric": "decimal",
    "real": "double",
    "serial": "bigint unsigned",
}
_POSTGRESQL_NAMES = {
    "bigserial": "bigint",
    "bool": "boolean",
    "bpchar": "character",
    "char": "character",
    "decimal": "numeric",
    "float": "double precision",
    "float4": "real",
    "float8": "double precision",
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "serial": "integer",
    "smallserial": "smallint",
    "time": "time without time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "timetz": "time with time zone",
    "varbit": "bit varying",
    "varchar": "character varying",
}
_SHAPE = re.compile(r"(?P<name>[^(\[]+?)\s*((?P<size>\([^()]*\))\s*(?P<rest>[^(\[]*?))?\s*(?P<array>(\[\d*\]\s*)*)")
_QUOTED = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`)""")
_WIDTHLESS = {"bigint", "int", "mediumint", "smallint", "tinyint", "year"}
"""Types of MySQL whose number in brackets is a width on screen: MariaDB shows it, MySQL 8 no more."""


def normalised(vendor: str, column_type: str) -> str:
    """Returns the type as the catalogue of ``vendor`` spells it, small letters outside of quotes."""
    parts = _QUOTED.split(column_type)
    words = "".join(part if at % 2 else re.sub(r"\s+", " ", part.lower()) for at, part in enumerate(parts))
    words = re.sub(r"\s*,\s*", ",", words.strip())
    return {"mysql": _mysql, "postgresql": _postgresql, "sqlite": _sqlite}[vendor](words)


def _mysql(words: str) -> str:
    # What belongs to the column beside its type: the alphabet is not compared, and zerofill changes no value.
    words = re.sub(r" (character set|charset|collate) \S+| (auto_increment|zerofill|signed)\b", "", words)
    if (shape := _SHAPE.fullmatch(words)) is None:
        return words
    name, size, rest = shape["name"], shape["size"] or "", shape["rest"] or ""
    if name.endswith(" unsigned"):
        name, rest = name.removesuffix(" unsigned"), "unsigned"
    found = _MYSQL_NAMES.get(name, name)
    # A name stands for another one with a size of its own, unless it has one here.
    name, size = (found.partition("(")[0], size) if size else (found, "")
    if name in _WIDTHLESS and (name, size) != ("tinyint", "(1)"):
        size = ""
    if name == "decimal":
        size = {"": "(10,0)"}.get(size, size if "," in size else size.replace(")", ",0)"))
    return f"{name}{size}{' ' if rest else ''}{rest}"


def _postgresql(words: str) -> str:
    if (shape := _SHAPE.fullmatch(words)) is None:
        return words
    name, size, rest = shape["name"], shape["size"] or "", shape["rest"] or ""
    if rest:  # timestamp(3) with time zone
        name = f"{name} {rest}"
    name = _POSTGRESQL_NAMES.get(name, name)
    if name == "character" and not size:
        size = "(1)"
    if name == "numeric" and size and "," not in size:
        size = size.replace(")", ",0)")
    # The server keeps neither an array's length nor its dimensions.
    array = "[]" if shape["array"] else ""
    first, _, zone = name.partition(" ")
    if first in {"time", "timestamp"}:
        return f"{first}{size} {zone}{array}"
    return f"{name}{size}{array}"


def _sqlite(words: str) -> str:
    # The declared type alone; some versions leave words of the column's definition in it.
    return re.sub(r" (generated always|autoincrement|collate \S+)\b.*", "", words)
