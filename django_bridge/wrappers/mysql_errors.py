"""The errors of asyncmy as mysqlclient's."""

from __future__ import annotations

import sys
from typing import Any

from asyncmy import errors

_OF_OTHER_CLASS = {
    1166: "OperationalError",  # ER_WRONG_COLUMN_NAME
    1169: "IntegrityError",  # ER_DUP_UNIQUE
    1364: "IntegrityError",  # ER_NO_DEFAULT_FOR_FIELD
    1366: "OperationalError",  # ER_TRUNCATED_WRONG_VALUE_FOR_FIELD
    1367: "OperationalError",  # ER_ILLEGAL_VALUE_FOR_TYPE
}
"""What asyncmy 0.2.18 (``errors.pyx``) counts otherwise than mysqlclient 2.3.1 (``_mysql.c``: ``_mysql_Exception``)."""
_both: dict[type[Exception], type[Exception]] = {}


def of_mysqldb(error: Any) -> Any:
    """The same error, of the class that mysqlclient gives it; of mysqlclient's own too, where that was imported.

    Django's ``__cause__`` and code that uses the driver's cursor know mysqlclient's classes.
    """
    cls = type(error)
    if cls.__module__ == errors.__name__ and error.args and (name := _OF_OTHER_CLASS.get(error.args[0])):
        cls = getattr(errors, name)
    if (known := _both.get(cls)) is None:
        mysqlclients: Any = getattr(sys.modules.get("MySQLdb"), cls.__name__, None)
        if not isinstance(mysqlclients, type) or issubclass(cls, mysqlclients):
            return error if cls is type(error) else cls(*error.args)
        known = _both[cls] = type(cls.__name__, (cls, mysqlclients), {"__module__": cls.__module__})
    return known(*error.args)
