"""Every mistake in a spec is one line that names file, line and key."""

import pytest

from memcram.errors import UsageError
from memcram.study.grid import cells
from memcram.study.read import read_spec
from memcram.study.toml_lines import line_of

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
    "unknown key": (("samples = 2", "sample = 2"), 8, "sample: unknown key; allowed: name, kind,"),
    "unknown key of a model": (('layout = "mem+bos"', "width = 3"), 3, "models[1].width: unknown"),
    "unknown option": (('path = "more"', 'folder = "more"'), 18, "texts[1].folder: unknown"),
    "missing option": (('path = "more"\n', ""), 15, "texts[1].path: got nothing"),
    "missing key": (('name = "a"\n', ""), 1, "name: missing"),
    "missing key of a text": (('name = "more"\n', ""), 15, "texts[1].name: missing"),
    "wrong type": (("samples = 2", 'samples = "2"'), 8, "samples: got '2', allowed: a valid int"),
    "wrong element": (("  8,  # eight", "  true,"), 6, "lengths[1]: got True, allowed:"),
    "too small": (("  4,", "  0,"), 5, "lengths[0]: got 0, allowed: greater than or equal to 1"),
    "too small in a text": (("vectors = [1, 2]", "vectors = [1, -2]"), 19, "texts[1].vectors[1]:"),
    "no texts": (("[[texts]]", "[[words]]"), 1, "texts: missing"),
    "unknown kind": (("samples = 2", 'kind = "capacities"'), 8, "kind: got 'capacities', allowed:"),
    "unknown recipe": (("samples = 2", 'recipes = ["x"]'), 8, "recipes[0]: got 'x', allowed: def"),
    "recipe without horizon": (
        ("samples = 2", 'kind = "horizon"\nrecipes = ["default", "kuratov2025"]'),
        9,
        "recipes[1]: 'kuratov2025' crams texts of given length",
    ),
    "unknown source": (('source = "files"', 'source = "file"'), 12, "texts[0].source: got 'file'"),
    "unknown dtype": (("samples = 2", 'dtype = "half"'), 8, "dtype: got 'half', allowed: 'float32"),
    "a name that is no file name": (('name = "a"', 'name = "a/b"'), 2, "name: got 'a/b', allowed"),
    "two kinds of length": (
        ("vectors = [1, 2]", "lengths = [3]\nlengths_up_to = 9"),
        20,
        "texts[1].lengths_up_to: given beside lengths",
    ),
    "an option that is called kind": (
        ('path = "more"', 'path = "more"\nkind = "x"'),
        19,
        "texts[1].kind: unknown",
    ),
    "samples without end": (("samples = 2", f"samples = {10**20}"), 8, "samples: got 1000000000"),
    "starts without end": (("samples = 2", "starts = 1000000000"), 8, "starts: got 1000000000,"),
    "a path that no system has": (
        ('path = "more"', r'path = "a\u0000"'),
        18,
        r"texts[1].path: got 'a\x00', allowed: a path",
    ),
    "a model that no system has": (('id = "pocket"', r'id = "a\u0000"'), 3, "models[1].id: got"),
    "seed too large": (("samples = 2", "seed = 4294967296"), 8, "seed: got 4294967296, allowed"),
}


def refusal(path):
    with pytest.raises(UsageError) as caught:
        read_spec(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_file_line_and_key(tmp_path, mistake):
    (old, new), line, begins = MISTAKES[mistake]
    assert old in GOOD
    path = tmp_path / "a.toml"
    path.write_text(GOOD.replace(old, new))
    message = refusal(path)
    assert message.startswith(f"{path}, line {line}: {begins}"), message


def test_a_spec_without_lengths_names_the_text(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\nmodels = ["pocket"]\n[[texts]]\nname = "b"\nsource = "x"\n')
    assert f"{path}, line 3: texts[0]: no lengths" in refusal(path)


def test_all_mistakes_are_counted(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(GOOD.replace("samples = 2", "samples = 0\nfoo = 1"))
    assert refusal(path).endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name = ", "no TOML: Invalid value (at end of document)"),
        (b"a = 1\na = 2\n", "no TOML: Cannot overwrite a value (at line 2, column 6)"),
        (b"\xff", "is not UTF-8 (byte 0)"),
    ],
)
def test_what_is_no_toml(tmp_path, content, says):
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    assert says in refusal(path)


def test_no_such_file(tmp_path):
    assert "can't be read (No such file or directory)" in refusal(tmp_path / "none.toml")


def test_the_good_one(tmp_path):
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


DOCUMENT = '''\
text = """
[not.a.table]
key = 1
"""
odd = [ "a]", 'b,[', { x = [1,
  2] },
  3, # ] ,
  4 ]
[one.two]
"quoted key" = 5
dotted.key = 6
[[many]]
x = 1
[[many]]
[[many.inner]]
[[many]]
y = [[1, 2],
     [3]]
'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("text",), 1),
        (("odd", 1), 5),
        (("odd", 2), 5),
        (("odd", 3), 7),
        (("odd", 4), 8),
        (("one", "two", "quoted key"), 10),
        (("one", "two", "dotted", "key"), 11),
        (("one", "two", "absent"), 9),
        (("many", 0, "x"), 13),
        (("many", 1, "x"), 14),
        (("many", 2, "y", 1), 18),
        (("absent",), 1),
    ],
)
def test_lines(place, line):
    assert line_of(DOCUMENT, place) == line


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "9" * 5000])
def test_toml_that_the_reader_gives_up_on_is_one_line(tmp_path, value):
    path = tmp_path / "a.toml"
    path.write_text(f"{GOOD}\nx = {value}\n")
    with pytest.raises(UsageError, match="no TOML"):
        read_spec(path)
