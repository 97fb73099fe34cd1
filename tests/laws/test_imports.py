"""The import graph of the package: no circles, few loose modules, few rooms."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "memcram"
LOOSE = {"__init__", "__main__", "errors", "files"}


def modules(folder: Path) -> dict[str, Path]:
    """Every module by its dotted name; a package is named like its folder."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: set[str]) -> set[str]:
    """The known modules that a file imports anywhere: in functions and for types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= inner or ({node.module} & known)
    return found


def graph(folder: Path) -> dict[str, set[str]]:
    """Imported modules by importing module.

    A package's `__init__` that only re-exports is passed through: importing a name from it counts
    as importing the module in it.
    """
    found = modules(folder)
    return {name: imports(path, set(found)) - {name} for name, path in found.items()}


def test_the_import_graph_has_no_circle():
    edges = graph(SOURCE)
    # The lazy table of the public API names strings, not imports; TYPE_CHECKING is for mypy.
    edges.pop("memcram")
    try:
        list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        pytest.fail(f"imports form a circle: {' -> '.join(error.args[1])}")


def test_a_circle_is_found(tmp_path: Path):
    package = tmp_path / "circle"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("from circle.b import x\n")
    (package / "b.py").write_text("def late():\n    from circle import a\n    return a\n")
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph(package)).static_order())


def test_at_most_four_loose_modules():
    assert {path.stem for path in SOURCE.glob("*.py")} <= LOOSE


def test_at_most_18_rooms():
    assert len({path.parent for path in SOURCE.rglob("*.py")}) <= 18
