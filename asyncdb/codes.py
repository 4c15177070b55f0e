"""What an error of the server says, whichever library it comes through: the driver, SQLAlchemy, Django."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["code_of"]

_DEEPEST = 4


def code_of(error: BaseException) -> int | str | None:
    """MySQL's number, PostgreSQL's SQLSTATE or SQLite's name of an error; None if it is no database's.

    An error of the caller's own is none, also if it was raised from one.
    """
    for one in _of_databases(error):
        code = getattr(one, "sqlstate", None) or getattr(one, "sqlite_errorname", None)
        if code is None and one.args and type(one.args[0]) is int:
            code = one.args[0]
        if code is not None:
            return code  # type: ignore[no-any-return]  # an attribute of some driver's error
    return None


def _of_databases(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those of other libraries that it stands for."""
    for _ in range(_DEEPEST):
        if error is None or not any(cls.__name__ in ("Error", "DBAPIError") for cls in type(error).__mro__):
            return
        yield error
        error = getattr(error, "orig", None) or error.__cause__
