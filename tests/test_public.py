"""The public interface: every name can be imported, has a docstring, and ships its types."""

import importlib
import inspect
from importlib.metadata import version
from importlib.resources import files

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


@pytest.mark.parametrize(("namespace", "name"), NAMES)
def test_public_name_is_documented(namespace, name):
    value = getattr(importlib.import_module(namespace), name)
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        assert value.__doc__
        assert not value.__doc__.startswith(f"{name}(")  # written by `dataclass`, not by us
    else:
        assert value  # a table or the version


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
