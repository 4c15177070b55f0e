"""Looks in a test's own source for what excuses it.

What is read: the test, the fixtures of its class, and what these call, as far as it is of the same class or module.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from .excuses import MOCKS_CONNECT, MUST_RAISE, OWN_LOOP, REFUSES

_FIXTURES = ("setUp", "setUpClass", "setUpTestData", "asyncSetUp", "tearDown", "tearDownClass")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def why_not(test: str, reason: str, tests: Path) -> str | None:
    """Returns what is wrong with excusing ``test`` for ``reason``; None if its source bears the reason out."""
    module_name, class_name, method = test.rsplit(".", 2)
    try:
        owner = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError):
        return "there is no such test"
    read = list(_read(owner, method, tests))
    if method not in {function.name for function in read}:
        return "there is no such test"
    if any(_SIGNS[reason](node) for function in read for node in ast.walk(function)):
        return None
    return f"nothing in its source {reason}"


def _read(owner: type, method: str, tests: Path) -> Iterator[_Function]:
    """The functions that the test consists of."""
    methods: dict[str, _Function] = {}
    module: dict[str, ast.AST] = {}
    for each in reversed(inspect.getmro(owner)):
        path = Path(inspect.getsourcefile(each) or "") if each.__module__ != "builtins" else Path()
        if tests not in path.parents:
            continue
        tree = _parsed(path)
        module |= {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | _Function)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == each.__name__:
                methods |= {inner.name: inner for inner in node.body if isinstance(inner, _Function)}
    waiting = [methods[name] for name in (method, *_FIXTURES) if name in methods]
    seen = set()
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        yield function
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in ("self", "cls")
            ):
                named: ast.AST | None = methods.get(node.attr)
            else:
                named = module.get(node.id) if isinstance(node, ast.Name) else None
            if isinstance(named, _Function):
                waiting.append(named)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _name(node: ast.AST) -> str:
    """``a.b.c`` of such an expression."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _asserts_that_it_raises(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and _name(node.func).startswith("self.assertRaises")
        and any(_name(argument) == "SynchronousOnlyOperation" for argument in node.args)
    )


def _starts_a_loop(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = _name(node.func)
    return name in ("asyncio.run", "asyncio.Runner", "asyncio.new_event_loop") or name.endswith(".run_until_complete")


def _mocks_connect(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not _name(node.func).startswith(("mock.patch", "patch")):
        return False
    said = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
    return any(isinstance(target, str) and target.rsplit(".", 1)[-1] in ("connect", "Database") for target in said)


def _says_the_refusal(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == "You cannot use ATOMIC_REQUESTS with async views."


_SIGNS: dict[str, Callable[[ast.AST], bool]] = {
    MUST_RAISE: _asserts_that_it_raises,
    OWN_LOOP: _starts_a_loop,
    MOCKS_CONNECT: _mocks_connect,
    REFUSES: _says_the_refusal,
}
