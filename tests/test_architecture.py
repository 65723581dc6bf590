"""What the import contracts cannot say about who may touch what."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "runner" / "trace_recipe"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def _code_strings(path: Path) -> list[str]:
    """Every string constant that is not a docstring."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


def test_only_one_module_knows_where_tracefs_is():
    found = {_name(path) for path in MODULES if "/sys/kernel/tracing" in _code_strings(path)}

    assert found == {"tracefs.py"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_only_the_command_line_prints_or_exits(path):
    calls = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    }
    forbidden = calls & {"print", "exit", "input"}

    assert not forbidden or _name(path).startswith("cli/")


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_module_starts_a_shell(path):
    text = path.read_text()

    assert "shell=True" not in text
    assert "os.system" not in text
    assert "subprocess" not in text


def test_every_module_says_in_its_docstring_what_it_holds():
    silent = [_name(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]

    assert silent == []
