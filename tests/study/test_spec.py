"""Every mistake in a spec is a one-line error that names file and key."""

import pytest

from memcram.errors import UsageError
from memcram.study.cells import cells
from memcram.study.read import read_spec

GOOD = """\
# a study
name = "a"
models = ["pocket", {id = "pocket", layout = "mem+bos"}]
lengths = [
  4,
  8,  # eight
]
samples = 2

[[texts]]
name = "books"
source = "files"
path = "texts"

[[texts]]
name = "more"
source = "files"
path = "more"
vectors = [1, 2]
"""

MISTAKES = {
    "unknown key": (("samples = 2", "sample = 2"), "sample: unknown key, allowed: name, kind,"),
    "unknown key of a model": (('layout = "mem+bos"', "width = 3"), "models[1].width: unknown"),
    "unknown option": (('path = "more"', 'folder = "more"'), "texts[1].folder: unknown"),
    "missing option": (('path = "more"\n', ""), "texts[1].path: got nothing"),
    "missing key": (('name = "a"\n', ""), "name: missing"),
    "missing key of a text": (('name = "more"\n', ""), "texts[1].name: missing"),
    "wrong type": (("samples = 2", 'samples = "2"'), "samples: got '2', allowed: a valid int"),
    "wrong element": (("  8,  # eight", "  true,"), "lengths[1]: got True, allowed:"),
    "too small": (("  4,", "  0,"), "lengths[0]: got 0, allowed: greater than or equal to 1"),
    "too small in a text": (("vectors = [1, 2]", "vectors = [1, -2]"), "texts[1].vectors[1]:"),
    "no texts": (("[[texts]]", "[[words]]"), "texts: missing"),
    "unknown kind": (("samples = 2", 'kind = "capacities"'), "kind: got 'capacities', allowed:"),
    "unknown recipe": (("samples = 2", 'recipes = ["x"]'), "recipes[0]: got 'x', allowed: def"),
    "recipe without horizon": (
        ("samples = 2", 'kind = "horizon"\nrecipes = ["default", "kuratov2025"]'),
        "recipes[1]: 'kuratov2025' crams texts of given length",
    ),
    "unknown source": (('source = "files"', 'source = "file"'), "texts[0].source: got 'file'"),
    "unknown dtype": (("samples = 2", 'dtype = "half"'), "dtype: got 'half', allowed: 'float32"),
    "a name that is not a file name": (('name = "a"', 'name = "a/b"'), "name: got 'a/b', allowed"),
    "two kinds of length": (
        ("vectors = [1, 2]", "lengths = [3]\nlengths_up_to = 9"),
        "texts[1].lengths_up_to: given together with lengths",
    ),
    "an option called kind": (
        ('path = "more"', 'path = "more"\nkind = "x"'),
        "texts[1].kind: unknown",
    ),
    "too many samples": (("samples = 2", f"samples = {10**20}"), "samples: got 1000000000"),
    "too many starts": (("samples = 2", "starts = 1000000000"), "starts: got 1000000000,"),
    "an impossible path": (
        ('path = "more"', r'path = "a\u0000"'),
        r"texts[1].path: got 'a\x00', allowed: a path",
    ),
    "an impossible model": (('id = "pocket"', r'id = "a\u0000"'), "models[1].id: got"),
    "seed too large": (("samples = 2", "seed = 4294967296"), "seed: got 4294967296, allowed"),
}


def refusal(path):
    with pytest.raises(UsageError) as caught:
        read_spec(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("mistake", MISTAKES)
def test_error_names_file_and_key(tmp_path, mistake):
    (old, new), begins = MISTAKES[mistake]
    assert old in GOOD
    path = tmp_path / "a.toml"
    path.write_text(GOOD.replace(old, new))
    message = refusal(path)
    assert message.startswith(f"{path}: {begins}"), message


def test_error_of_missing_lengths_names_the_text(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\nmodels = ["pocket"]\n[[texts]]\nname = "b"\nsource = "x"\n')
    assert f"{path}: texts[0]: no lengths" in refusal(path)


def test_error_counts_the_other_mistakes(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(GOOD.replace("samples = 2", "samples = 0\nfoo = 1"))
    assert refusal(path).endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name = ", "not TOML: Invalid value (at end of document)"),
        (b"a = 1\na = 2\n", "not TOML: Cannot overwrite a value (at line 2, column 6)"),
        (b"\xff", "is not UTF-8 (byte 0)"),
    ],
)
def test_other_files_are_refused(tmp_path, content, says):
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    assert says in refusal(path)


def test_missing_file(tmp_path):
    assert "can't be read (No such file or directory)" in refusal(tmp_path / "none.toml")


def test_valid_spec(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(GOOD.replace("\n", "\r\n").encode())
    spec = read_spec(path)
    assert [model.layout for model in spec.study.models] == ["mem", "mem+bos"]
    assert spec.options(1) == {"path": tmp_path / "more"}
    assert [(c.entry, c.length, c.vectors) for c in cells(spec)] == [
        (0, 4, 1),
        (0, 8, 1),
        (1, 4, 1),
        (1, 8, 1),
        (1, 4, 2),
        (1, 8, 2),
    ]


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "9" * 5000])
def test_toml_beyond_the_parser_gives_a_one_line_error(tmp_path, value):
    path = tmp_path / "a.toml"
    path.write_text(f"{GOOD}\nx = {value}\n")
    with pytest.raises(UsageError, match=r"not (a )?TOML"):
        read_spec(path)


def test_inits_cannot_be_compared_from_one_archive(place):
    path = place / "small.toml"
    spec = path.read_text().replace("samples = 3", 'kind = "seeds"\nstarts = 2\ninit = "a"')
    path.write_text(spec)
    with pytest.raises(
        UsageError, match=r"init: got an archive, but 'seeds' compares random inits"
    ):
        read_spec(path)
