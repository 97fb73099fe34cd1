"""The public interface: every name can be imported, is documented, and ships its types."""

import ast
import importlib
import inspect
import re
from importlib.metadata import version
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

import memcram

NAMESPACES = [
    "memcram",
    *(f"memcram.{name}" for name in ("export", "metrics", "recipes", "study", "texts")),
]
NAMES = [
    (namespace, name)
    for namespace in NAMESPACES
    for name in importlib.import_module(namespace).__all__
]
_SOURCES = [path.read_text("utf-8") for path in Path(memcram.__file__).parent.rglob("*.py")]
# Names at the top of a module whose assignment is followed by a docstring.
_ATTRIBUTES = {
    ast.unparse(target)
    for source in _SOURCES
    for before, after in pairwise(ast.parse(source).body)
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    for target in getattr(before, "targets", [getattr(before, "target", ast.Name(""))])
}


@pytest.mark.parametrize(("namespace", "name"), NAMES)
def test_public_name_is_documented(namespace, name):
    value = getattr(importlib.import_module(namespace), name)
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        assert value.__doc__
        assert not value.__doc__.startswith(f"{name}(")  # written by `dataclass`, not by us
    else:  # a table or the version: a string follows its assignment
        assert value
        assert name in _ATTRIBUTES


def listed(namespace):
    """The values that a page of the documentation site takes the docstrings of, by name."""
    page = "index" if namespace == "memcram" else namespace.removeprefix("memcram.")
    text = (Path(__file__).parents[1] / f"docs/api/{page}.md").read_text("utf-8")
    names = re.findall(r"^::: (\S+)\.(\w+)$", text, re.MULTILINE)
    assert {home for home, _ in names} == {namespace}
    return {name: getattr(importlib.import_module(namespace), name) for _, name in names}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_public_names_are_on_a_page(namespace):
    module = importlib.import_module(namespace)
    names = {name for name in module.__all__ if not inspect.ismodule(getattr(module, name))}
    on_page = listed(namespace)
    assert set(on_page) <= names
    main = listed("memcram")
    elsewhere = {name for name in names if name in main and main[name] is getattr(module, name)}
    assert names == set(on_page) | elsewhere


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_public_names_are_listed_once(namespace):
    module = importlib.import_module(namespace)
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_this_name'"):
        _ = module.nothing_of_this_name


def test_version_is_that_of_the_package():
    assert memcram.__version__ == version("memcram")


def test_types_are_shipped():
    assert (files("memcram") / "py.typed").is_file()
