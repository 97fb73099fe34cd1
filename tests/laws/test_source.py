"""What the package's own source may not do, and where it may do the rest."""

import ast
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

PACKAGE = Path(str(files("memcram")))
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in PACKAGE.rglob("*.py")
}


def places_of_calls():
    """By the last name of what is called: the files that call it."""
    places = defaultdict(set)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = node.func
                last = called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)
                places[last].add(name)
    return places


def test_one_loop_and_one_loader():
    places = places_of_calls()
    assert places["backward"] == {"engine/loop.py"}
    assert places["grad"] == {"engine/loop.py"}
    assert places["from_pretrained"] == {"models/loading.py"}


def test_no_code_is_loaded_with_data():
    imported = {
        alias.name.partition(".")[0]
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").partition(".")[0]
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert not imported & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    loads = [
        (name, ast.unparse(node))
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "eval", "exec"}
    ]
    assert loads == []


def test_code_of_a_model_is_never_trusted():
    given = [
        (name, ast.unparse(word.value))
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "trust_remote_code"
    ]
    assert given
    assert {value for _, value in given} == {"False"}
    # Where it is left out, transformers asks at the terminal.
    asks = {"from_pretrained", "from_config"}
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                words = {word.arg for word in node.keywords}
                assert node.func.attr not in asks or "trust_remote_code" in words, (
                    name,
                    ast.unparse(node),
                )
