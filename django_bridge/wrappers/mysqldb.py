"""Django's MySQL backend without mysqlclient: a ``MySQLdb`` made of asyncmy's parts, while the backend is imported.

What Django takes of ``MySQLdb`` was read in Django 5.2 and 6.1 (``db/backends/mysql/*.py``,
``contrib/gis/db/backends/mysql/introspection.py``), its names in mysqlclient 2.3.1.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.db.utils import OperationalError

__all__ = ["NoSynchronousDriver", "make_importable"]

_BACKENDS = ("django.db.backends.mysql.", "django.contrib.gis.db.backends.mysql.")
"""The packages whose modules import ``MySQLdb``."""
_ERRORS = (
    "DataError",
    "DatabaseError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "MySQLError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Warning",
)
_STANDS_FOR = (2, 3, 1, "final", 0)
"""Django asks for 1.4.3 (5.2) and 2.2.1 (6.1) at least."""


class NoSynchronousDriver(ImproperlyConfigured, OperationalError):
    """Django wanted a synchronous connection of its own, and mysqlclient is not installed.

    Django goes on after it where it can do without a server: ``runserver`` (which catches ``ImproperlyConfigured``)
    and ``makemigrations`` (which catches ``OperationalError``) only leave out their look at the applied migrations.
    """


def make_importable() -> None:
    """Lets Django's MySQL backend be imported where no ``MySQLdb`` is installed.

    Whether one is there is decided when Django imports the backend: mysqlclient, and PyMySQL's
    ``install_as_MySQLdb()`` if it was called by then, are used as ever. A broken mysqlclient stays Django's error.
    Code that imports ``MySQLdb`` before or afterwards gets its ``ImportError``.
    """
    if f"{_BACKENDS[0]}base" in sys.modules or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the backend's modules where they are, and has them executed with the stand-in."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_BACKENDS):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._real
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        with _stand_in_if_missing():
            self._real.exec_module(module)


@contextmanager
def _stand_in_if_missing() -> Iterator[None]:
    if is_there("MySQLdb") or not is_there("asyncmy"):
        yield
        return
    modules = _stand_in()
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)


def is_there(name: str = "MySQLdb") -> bool:
    """Whether a driver can be imported."""
    if name in sys.modules:  # PyMySQL installs itself as MySQLdb here, and a None forbids the import
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


@functools.cache
def _stand_in() -> Mapping[str, ModuleType]:
    """The modules by the names under which Django imports them."""
    from asyncmy import constants, converters, errors
    from asyncmy.constants import CLIENT, CR, ER, FIELD_TYPE, FLAG  # noqa: F401  (makes them attributes of constants)

    module: Any = ModuleType("MySQLdb", "Stands in for mysqlclient, which is not installed.")
    module.apilevel, module.paramstyle, module.threadsafety = "2.0", "format", 1
    module.version_info = _STANDS_FOR
    module.__version__ = ".".join(map(str, _STANDS_FOR[:3]))
    module.constants, module.converters = constants, converters
    module.Binary = bytes
    module.Connection = module.Connect = module.connect = _connect
    for name in _ERRORS:
        setattr(module, name, getattr(errors, name))
    return {"MySQLdb": module, "MySQLdb.constants": constants, "MySQLdb.converters": converters}


def _connect(*args: Any, **kwargs: Any) -> NoReturn:
    name = kwargs.get("database", kwargs.get("db", ""))
    raise NoSynchronousDriver(
        f"Django wants a synchronous connection of its own to the MySQL database {name!r} (as under WSGI, in a "
        "management command or in a plain thread), and mysqlclient is not installed: pip install mysqlclient, or run "
        "it on the event loop, where asyncmy connects: await run_django(call_command, 'migrate')",
    )
