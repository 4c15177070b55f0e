"""A table on the terminal: by rich where it is installed, else in plain columns."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from django.core.management.base import OutputWrapper

__all__ = ["show"]


def show(heads: Sequence[str], rows: Sequence[Sequence[str]], *, out: OutputWrapper) -> None:
    """Writes the rows under their heads: drawn by rich on a terminal that has it, else in plain columns."""
    if out.isatty() and importlib.util.find_spec("rich"):
        _drawn(heads, rows)
    else:
        _plain(heads, rows, out)


def _plain(heads: Sequence[str], rows: Sequence[Sequence[str]], out: OutputWrapper) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, ["-" * width for width in widths], *rows):
        out.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _drawn(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # optional
    from rich.markup import escape
    from rich.table import Table

    table = Table(*heads)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
