"""Django's MySQL backend where mysqlclient is not installed, and what Django takes of MySQLdb."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncmy.errors
import django
import django.db.utils
import pytest
from django.core.exceptions import ImproperlyConfigured
from sqlalchemy import make_url

import django_bridge
from asyncdb.testing import DatabaseServer, MySQLServer, RunningMySQLServer
from django_bridge.wrappers import mysqldb

ROOT = Path(django_bridge.__file__).parents[1]
DJANGO = Path(django.__file__).parent

WITHOUT_MYSQLCLIENT = """
import importlib.abc
class NoMySQLdb(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("MySQLdb", "_mysql"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoMySQLdb())
"""
WITHOUT_ASYNCMY = WITHOUT_MYSQLCLIENT.replace('("MySQLdb", "_mysql")', '("MySQLdb", "_mysql", "asyncmy")')
SETUP = """
from django.conf import settings
settings.configure(
    DATABASES={"default": database},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_bridge"],
    SECRET_KEY="only for the tests", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", USE_TZ=True,
)
django.setup()
"""


def python(code: str, *, database: dict[str, Any], before: str = WITHOUT_MYSQLCLIENT, setup: str = SETUP) -> str:
    """Runs ``code`` in a project of its own, and returns what it printed."""
    first = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{before}\nimport django\ndatabase = {database!r}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", first + setup + "\n" + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


NOWHERE = {"ENGINE": "django.db.backends.mysql", "NAME": "books", "HOST": "127.0.0.1", "PORT": 1, "PASSWORD": "s3cret"}


def test_models_are_loaded_and_nothing_of_the_stand_in_is_left() -> None:
    printed = python(
        """
        from django.db import connection
        print(connection.vendor, "django.db.backends.mysql.base" in sys.modules, connection.Database.connect.__module__)
        print([name for name in sys.modules if name.startswith("MySQLdb")])
        try:
            import MySQLdb
        except ImportError:
            print("no MySQLdb")
        """,
        database=NOWHERE,
    )
    assert printed.splitlines() == ["mysql True django_bridge.wrappers.mysqldb", "[]", "no MySQLdb"]


def test_the_configuration_is_the_one_that_mysqlclient_gives() -> None:
    database = NOWHERE | {"USER": "app", "OPTIONS": {"connect_timeout": 7, "sql_mode": "TRADITIONAL"}}
    show = "from django_bridge.conf import config_for; print(config_for('default').model_dump_json())"
    without, with_it = (python(show, database=database, before=before) for before in (WITHOUT_MYSQLCLIENT, ""))
    assert json.loads(without) == json.loads(with_it)
    assert json.loads(without)["connect_timeout"] == 7.0


@pytest.mark.parametrize(("flags", "complaint"), [(2 | 1, "none"), (2 | 1 << 16, "MULTI_STATEMENTS"), (1, "lacks")])
def test_client_flags_are_judged_by_their_names_as_with_mysqlclient(flags: int, complaint: str) -> None:
    printed = python(
        """
        from asyncdb.errors import ConfigurationError
        from django_bridge.conf import config_for
        try:
            config_for("default")
            print("none")
        except ConfigurationError as err:
            print(err)
        """,
        database=NOWHERE | {"OPTIONS": {"client_flag": flags}},
    )
    assert complaint in printed
    assert "CAPABILITIES" not in printed


def test_the_backend_of_contrib_gis_has_it_too_in_whatever_order_its_modules_come() -> None:
    printed = python(
        """
        from types import ModuleType
        gdal = sys.modules["django.contrib.gis.gdal"] = ModuleType("gdal")  # GDAL itself need not be installed
        gdal.OGRGeomType = None
        from django.contrib.gis.db.backends.mysql import introspection as of_gis
        from django.db.backends.mysql import base, introspection
        print(of_gis.FIELD_TYPE.__name__, introspection.FIELD_TYPE is of_gis.FIELD_TYPE, base.Database.version_info[0])
        print([name for name in sys.modules if name.startswith("MySQLdb")])
        """,
        database=NOWHERE,
        setup="from django_bridge.wrappers import mysqldb; mysqldb.make_importable()",
    )
    assert printed.splitlines() == ["asyncmy.constants.FIELD_TYPE True 2", "[]"]


@pytest.mark.families("mariadb", "mysql")
def test_a_session_reads_and_maps_errors_without_mysqlclient(
    server: DatabaseServer, server_url: str, tmp_path: Path
) -> None:
    url = make_url(server_url)
    options = {}
    if isinstance(server, MySQLServer | RunningMySQLServer):  # without TLS a login has to know the server's key
        key = tmp_path / "server_key.pem"
        key.write_text(server.public_key())
        options = {"OPTIONS": {"server_public_key_path": str(key)}}
    place = {"HOST": url.host or "", "PORT": url.port or "", "USER": url.username, "PASSWORD": url.password or ""}
    printed = python(
        """
        import asyncio
        from sqlalchemy import text
        from asyncdb import registry
        from django.db import ProgrammingError
        from django.db.backends.signals import connection_created
        from django_bridge import session

        def created(connection, **_):
            with connection.cursor() as cursor:
                try:
                    cursor.execute("SELECT * FROM no_such_table")
                except ProgrammingError as err:
                    print(type(err.__cause__).__module__)

        connection_created.connect(created)

        async def main():
            async with session() as db:
                print((await db.execute(text("SELECT DATABASE(), CAST('10:11:12' AS TIME)"))).one())
            await registry.close_all()

        asyncio.run(main())
        print([name for name in sys.modules if name.startswith("MySQLdb")])
        """,
        database=NOWHERE | place | {"NAME": url.database} | options,
    )
    assert printed.splitlines() == [
        "asyncmy.errors",
        f"({url.database!r}, datetime.timedelta(seconds=36672))",
        "[]",
    ]


@pytest.mark.parametrize("where", ["ask()", "run(ask)"], ids=["main thread", "plain thread"])
def test_a_synchronous_connection_of_djangos_own_is_a_clear_error(where: str) -> None:
    printed = python(
        f"""
        from concurrent.futures import ThreadPoolExecutor
        from django.contrib.auth.models import User
        from django_bridge.wrappers.mysqldb import NoSynchronousDriver

        def ask():
            try:
                User.objects.count()
            except NoSynchronousDriver as err:
                print(err)

        def run(function):
            with ThreadPoolExecutor() as pool:
                pool.submit(function).result()

        {where}
        """,
        database=NOWHERE,
    )
    for word in ("'books'", "WSGI", "management command", "thread", "pip install mysqlclient", "await run_django("):
        assert word in printed
    assert "s3cret" not in printed


def test_the_clear_error_is_what_django_expects_of_wrong_settings_and_of_an_absent_server() -> None:
    assert issubclass(mysqldb.NoSynchronousDriver, ImproperlyConfigured)
    assert issubclass(mysqldb.NoSynchronousDriver, django.db.utils.OperationalError)


def test_makemigrations_goes_on_without_the_server() -> None:
    printed = python(
        """
        import warnings
        from django.core.management import call_command
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            call_command("makemigrations", "--check", "--dry-run")
        print([str(warning.message) for warning in caught])
        """,
        database=NOWHERE,
    )
    assert "No changes detected" in printed
    assert "pip install mysqlclient" in printed


@pytest.mark.families("mariadb", "mysql")
def test_with_mysqlclient_nothing_of_ours_is_used() -> None:
    printed = python(
        """
        import MySQLdb
        from django.db import connection
        from django.db.backends.mysql import base, introspection
        print(base.Database is MySQLdb, base.CLIENT.__name__, introspection.FIELD_TYPE.__name__)
        print(type(base.__loader__).__module__, base.__spec__.loader is base.__loader__)
        """,
        database=NOWHERE,
        before="",
    )
    assert printed.splitlines()[0] == "True MySQLdb.constants.CLIENT MySQLdb.constants.FIELD_TYPE"
    assert printed.splitlines()[1].endswith(" True")
    assert "django_bridge" not in printed


def test_what_another_package_installed_as_mysqldb_is_used_even_if_it_comes_later() -> None:
    install = """
from types import ModuleType
from django_bridge.wrappers import mysqldb
mysqldb.make_importable()
modules = dict(mysqldb._stand_in())
modules["MySQLdb"] = ModuleType("pymysql")
vars(modules["MySQLdb"]).update(version_info=(2, 9, 9), Error=Exception, DatabaseError=Exception, connect="pymysql's")
sys.modules.update(modules)
"""
    printed = python(
        """
        from django.db.backends.mysql import base
        print(base.Database.connect, sys.modules["MySQLdb"] is base.Database)
        """,
        database=NOWHERE,
        setup=install,
    )
    assert printed == "pymysql's True"


def test_without_asyncmy_either_djangos_own_error_stays() -> None:
    printed = python(
        """
        from django.core.exceptions import ImproperlyConfigured
        from django_bridge.wrappers import mysqldb
        mysqldb.make_importable()
        try:
            import django.db.backends.mysql.base
        except ImproperlyConfigured as err:
            print(err)
        """,
        database=NOWHERE,
        before=WITHOUT_ASYNCMY,
        setup="",
    )
    assert "Did you install mysqlclient?" in printed


def test_making_it_importable_twice_adds_one_finder() -> None:
    printed = python(
        """
        from django_bridge.wrappers import mysqldb
        mysqldb.make_importable()
        mysqldb.make_importable()
        print(sum(isinstance(finder, mysqldb._Finder) for finder in sys.meta_path))
        """,
        database=NOWHERE,
        setup="",
    )
    assert printed == "1"


# What Django takes of MySQLdb


def sources() -> Iterator[tuple[str, ast.Module]]:
    """The modules of Django that import MySQLdb, by name."""
    for path in DJANGO.rglob("*.py"):
        if "MySQLdb" in (text := path.read_text("utf-8")):
            name = ".".join(("django", *path.relative_to(DJANGO).with_suffix("").parts))
            tree = ast.parse(text)
            if any("MySQLdb" in module for module, _, _ in imports(tree)):
                yield name, tree


def imports(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Each import as the module, the name taken from it (or nothing), and what it is called here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((one.name, "", one.asname or one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module or "", one.name, one.asname or one.name) for one in node.names)


def taken() -> set[str]:
    """``MySQLdb.constants.CLIENT.FOUND_ROWS`` and the like: all that Django's sources name."""
    found: set[str] = set()
    for _, tree in sources():
        called = {local: f"{module}.{name}".rstrip(".") for module, name, local in imports(tree) if "MySQLdb" in module}
        found |= set(called.values())
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            if isinstance(node.value, ast.Name) and node.value.id in called:
                found.add(f"{called[node.value.id]}.{node.attr}")
            elif isinstance(node.value, ast.Attribute) and node.value.attr == "Database":
                found.add(f"MySQLdb.{node.attr}")
    return found


def missing(names: set[str]) -> list[str]:
    modules = mysqldb._stand_in()

    def has(name: str) -> bool:
        home = max((known for known in modules if f"{name}.".startswith(f"{known}.")), key=len)
        value: Any = modules[home]
        for part in name.removeprefix(home).strip(".").split("."):
            if part and (value := getattr(value, part, None)) is None:
                return False
        return True

    return sorted(name for name in names if not has(name))


def test_the_stand_in_has_all_that_this_django_takes_of_mysqldb() -> None:
    names = taken()
    assert {"MySQLdb.connect", "MySQLdb.constants.FIELD_TYPE.GEOMETRY", "MySQLdb.converters.conversions"} <= names
    assert missing(names) == []


def test_the_canary_sings_by_name() -> None:
    assert missing({"MySQLdb.constants.CLIENT.FOUND_ROWS", "MySQLdb.constants.CLIENT.NEW", "MySQLdb.pool.x"}) == [
        "MySQLdb.constants.CLIENT.NEW",
        "MySQLdb.pool.x",
    ]


def test_no_other_module_of_django_imports_mysqldb() -> None:
    assert [name for name, _ in sources() if not name.startswith(mysqldb._BACKENDS)] == []


def test_the_errors_are_asyncmys_own_by_every_name_that_django_maps() -> None:
    module = mysqldb._stand_in()["MySQLdb"]
    mapped = [cls.__name__ for cls in vars(django.db.utils).values() if isinstance(cls, type) and is_error(cls)]
    assert len(mapped) == 9
    for name in [*mapped, "MySQLError", "Warning"]:
        assert getattr(module, name) is getattr(asyncmy.errors, name)


def is_error(cls: type) -> bool:
    return issubclass(cls, django.db.utils.Error)
