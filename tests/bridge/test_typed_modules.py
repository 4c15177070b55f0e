"""``manage.py asyncdb_models --types``: a module of mapped classes that is right at run time too."""

from __future__ import annotations

import ast
import importlib
import itertools
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from sqlalchemy.orm import Mapped

from django_bridge import mapped
from django_bridge.mapping import stubs

numbers = itertools.count()


@pytest.fixture
def app(tmp_path: Path, project: Any, default: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """``app(name=…)``: installs apps of these names with these models; returns the folder that they are in."""
    monkeypatch.syspath_prepend(tmp_path)
    default("sqlite", NAME="unused")
    before = set(sys.modules)

    def install(**sources: str) -> Path:
        for name, source in sources.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").touch()
            text = "from __future__ import annotations\nfrom django.db import models\n" + textwrap.dedent(source)
            (tmp_path / name / "models.py").write_text(text)
        project(INSTALLED_APPS=[*settings.INSTALLED_APPS, *sources])
        return tmp_path

    yield install
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


def run(*labels: str, **options: Any) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("asyncdb_models", *labels, types=True, stdout=out, **options)
    except SystemExit as left:
        return int(str(left.code)), out.getvalue()
    return 0, out.getvalue()


def module_of(text: str) -> ModuleType:
    module = ModuleType(f"made_{next(numbers)}")
    exec(compile(text, module.__name__, "exec"), vars(module))
    return module


def checked(text: str) -> ModuleType:
    """The module as a type checker reads it."""
    module = ModuleType(f"made_{next(numbers)}")
    sys.modules[module.__name__] = module  # annotations are looked up there
    exec(compile(text.replace("\nif TYPE_CHECKING:", "\nif True:"), module.__name__, "exec"), vars(module))
    return module


def attributes(cls: type[Any]) -> dict[str, Any]:
    found = typing.get_type_hints(cls)
    return {
        name: typing.get_args(found[name])[0]
        for one in reversed(cls.__mro__)
        for name in vars(one).get("__annotations__", {})
        if typing.get_origin(found[name]) is Mapped
    }


def test_each_attribute_of_a_mapped_class_is_typed_and_no_other(default: Any) -> None:
    default("postgresql")
    text = stubs.module_text([apps.get_app_config(label) for label in ("auth", "contenttypes")])
    at_run_time, for_checkers = module_of(text), checked(text)
    assert at_run_time.__all__ == ["ContentType", "Group", "Permission", "User"]
    for name in at_run_time.__all__:
        cls = getattr(at_run_time, name)
        assert cls is mapped(cls.__django_model__)
        assert set(attributes(getattr(for_checkers, name))) == set(cls.__mapper__.attrs.keys())
    assert attributes(for_checkers.Permission)["content_type"] is for_checkers.ContentType


def test_it_is_the_same_each_time_and_formatted_as_ruff_does(default: Any, tmp_path: Path) -> None:
    default("postgresql")
    config = apps.get_app_config("auth")
    text = stubs.module_text([config])
    assert stubs.module_text([config]) == text
    assert max(map(len, text.splitlines())) <= 110  # the first line names the command; no other is long
    assert "list[MappedModel]" not in text
    assert "content_type: Mapped[MappedModel]" in text  # of an app without a module


def test_a_module_is_written_beside_the_models_once(app: Any) -> None:
    folder = app(orders1="class Order(models.Model):\n    number = models.IntegerField()")
    code, text = run("orders1", check=True)
    assert (code, text.partition(":")[0]) == (1, f"{folder}/orders1/mapped.py is out of date")
    assert not (folder / "orders1/mapped.py").exists()
    assert run("orders1") == (0, f"{folder}/orders1/mapped.py: written\n")
    assert run("orders1") == (0, "")
    assert run("orders1", check=True) == (0, "")
    assert importlib.import_module("orders1.mapped").Order is mapped(apps.get_model("orders1", "Order"))
    text = (folder / "orders1/mapped.py").read_text()
    (folder / "orders1/mapped.py").write_text(text.replace("    ", "  "))
    assert run("orders1", check=True) == (0, "")  # formatted otherwise, and the same
    (folder / "orders1/mapped.py").write_text(text.replace("Mapped[int]", "Mapped[str]"))
    assert run("orders1", check=True)[0] == 1


def test_a_relation_to_another_app_is_typed_by_its_module(app: Any) -> None:
    folder = app(
        people2="class Person(models.Model):\n    name = models.CharField(max_length=9)",
        pets2="class Pet(models.Model):\n    owner = models.ForeignKey('people2.Person', models.CASCADE)",
    )
    run("pets2")
    assert "owner: Mapped[MappedModel]" in (folder / "pets2/mapped.py").read_text()
    run("people2", "pets2")
    pets = (folder / "pets2/mapped.py").read_text()
    assert "from people2 import mapped as _people2" in pets
    assert "owner: Mapped[_people2.Person]" in pets
    assert "pet_set: Mapped[list[_pets2.Pet]]" in (folder / "people2/mapped.py").read_text()
    assert run("pets2", check=True) == run("people2", check=True) == (0, "")
    for name in ("people2.mapped", "pets2.mapped"):
        importlib.import_module(name)
    checked(pets)


def test_one_module_may_have_several_apps_and_names_that_clash(app: Any) -> None:
    folder = app(
        blog3="class Tag(models.Model):\n    next = models.ForeignKey('shop3.Tag', models.CASCADE)",
        shop3="class Tag(models.Model): pass\nclass Mapped(models.Model): pass\nclass Child(Tag): pass",
    )
    path = folder / "both.py"
    assert run("blog3", "shop3", output=str(path)) == (0, f"{path}: written\n")
    module = checked(path.read_text())
    assert module.__all__ == ["Blog3Tag", "Child", "Shop3Mapped", "Shop3Tag"]
    assert attributes(module.Blog3Tag)["next"] is module.Shop3Tag
    assert issubclass(module.Child, module.Shop3Tag)
    assert module_of(path.read_text()).Blog3Tag is mapped(apps.get_model("blog3", "Tag"))
    assert run("blog3", "shop3", output="-") == (0, path.read_text())


def test_a_field_may_be_named_as_its_type_is(app: Any) -> None:
    app(
        odd4="""
        class Odd(models.Model):
            int = models.IntegerField()
            uuid = models.UUIDField()
            list = models.ForeignKey("self", models.CASCADE, related_name="str")
            Odd = models.JSONField()
            Any = models.TextField(null=True)
        """
    )
    text = run("odd4", output="-")[1]
    module = checked(text)
    found = {name: str(what) for name, what in attributes(module.Odd).items()}
    assert found == {
        "id": "<class 'int'>",
        "int": "<class 'int'>",
        "uuid": "<class 'uuid.UUID'>",
        "list_id": "<class 'int'>",
        "Odd": "typing.Any",
        "Any": "str | None",
        "list": f"<class '{module.__name__}.Odd'>",
        "str": f"list[{module.__name__}.Odd]",
    }
    # A checker looks a name up in the class first, where it is the attribute.
    (odd,) = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef))
    annotated = [node for node in odd.body if isinstance(node, ast.AnnAssign)]
    used = {node.id for one in annotated for node in ast.walk(one.annotation) if isinstance(node, ast.Name)}
    assert used.isdisjoint(found)


def test_a_model_that_cannot_be_mapped_is_left_out_and_named(app: Any) -> None:
    app(
        left5="""
        class Unknown(models.Field):
            pass
        class Place(models.Model):
            where = Unknown()
        class Kept(models.Model):
            place = models.ForeignKey(Place, models.CASCADE)
        """
    )
    text = run("left5", output="-")[1]
    assert "# left5.Place is left out: UnmappableField" in text
    assert module_of(text).__all__ == ["Kept"]


def test_a_file_of_somebody_else_is_not_overwritten(app: Any) -> None:
    folder = app(mine6="class Order(models.Model): pass")
    (folder / "mine6/mapped.py").write_text("PRECIOUS = 1\n")
    with pytest.raises(CommandError, match="was not made by this command") as raised:
        run("mine6")
    assert raised.value.returncode == 2
    assert (folder / "mine6/mapped.py").read_text() == "PRECIOUS = 1\n"


@pytest.mark.parametrize(("labels", "words"), [((), "needs the label"), (("nothing",), "nothing")])
def test_what_cannot_be_answered_is_an_error(labels: tuple[str, ...], words: str, default: Any) -> None:
    default("sqlite", NAME="unused")
    with pytest.raises(CommandError, match=words) as raised:
        run(*labels)
    assert raised.value.returncode == 2
