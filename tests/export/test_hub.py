"""Push to, and pull from, a stand-in for the Hub with the real `huggingface_hub`."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch

import memcram
from export import hub_standin
from memcram.archive import Archive
from memcram.cli import run
from memcram.errors import ArchiveError, UsageError
from memcram.export import hub_study, pull, push, write_repository
from memcram.study import Store
from memcram.study.results import TokenRecord

STAGE = Path(__file__).parents[1] / "golden" / "stage"
ARCHIVE = "exact.mem.safetensors"


@pytest.fixture(scope="module")
def server():
    with hub_standin.running() as hub:
        yield hub


@pytest.fixture
def hub(server, monkeypatch, tmp_path):
    """The stand-in, empty, in a folder with an archive and stores, logged in."""
    server.repos.clear()
    server.requests.clear()
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setenv("HF_TOKEN", hub_standin.TOKEN)
    monkeypatch.chdir(tmp_path)
    shutil.copy(STAGE / ARCHIVE, ARCHIVE)
    return server


@pytest.fixture
def store(hub):
    for name in ("capacity", "seeds", "context"):
        shutil.copytree(STAGE / f"{name}.study", f"{name}.study")
    return Path("capacity.study")


def card(hub, kind, repo):
    return huggingface_hub.RepoCard(hub.files(kind, repo)["README.md"].decode())


# -- archives --------------------------------------------------------------------------------------


def test_archive_there_and_back(hub):
    pushed = push(ARCHIVE, "me/scene", license_id="cc-by-4.0")
    assert (pushed.repo, pushed.repo_type, pushed.files) == ("me/scene", "model", 2)
    assert pushed.url == f"{hub.endpoint}/me/scene"
    assert set(hub.files("model", "me/scene")) == {ARCHIVE, "README.md"}
    pulled = pull("me/scene", "back.mem.safetensors")
    assert (pulled.output, pulled.revision) == (Path("back.mem.safetensors"), pushed.revision)
    assert Path("back.mem.safetensors").read_bytes() == Path(ARCHIVE).read_bytes()


def test_card_of_an_archive(hub):
    push(ARCHIVE, "me/scene", license_id="cc-by-4.0")
    made, text = Archive.read(ARCHIVE).manifest, card(hub, "model", "me/scene")
    assert text.data.license == "cc-by-4.0"
    assert text.data.library_name == "memcram"
    assert "base_model" not in text.data.to_dict()  # pocket is not on the Hub
    for value in (made.model.id, made.model.fingerprint, made.text.sha256, made.dtype, made.layout):
        assert f"`{value}`" in text.text
    for name in Archive.read(ARCHIVE).summary():
        assert f"| {name} |" in text.text
    assert "memcram pull me/scene\nmemcram decompress exact.mem.safetensors -o -" in text.text


def write_with_model(name, **changes):
    """Write the archive as if it were made with another model."""
    archive = Archive.read(ARCHIVE)
    model = archive.manifest.model.model_copy(update=changes)
    manifest = archive.manifest.model_copy(update={"model": model})
    Archive(manifest, archive.tensors).write(name)


def test_card_names_a_base_model_of_the_hub(hub):
    write_with_model("other.mem.safetensors", id="org/base", revision="abc")
    push("other.mem.safetensors", "me/scene")
    text = card(hub, "model", "me/scene")
    assert text.data.base_model == "org/base"
    assert "| revision | `abc` |" in text.text
    assert "none is stated" in text.text


def test_names_in_a_card_are_not_markup(hub):
    write_with_model("other.mem.safetensors", id="a`|<b>\\: #", revision="r`|")
    write_repository("other.mem.safetensors", "me/scene", "out")
    text = huggingface_hub.RepoCard(Path("out/README.md").read_text())
    assert text.data.base_model == "a`|<b>\\: #"
    assert "`a'¦<b>\\: #`" in text.text


def test_private_and_on_a_branch(hub):
    first = push(ARCHIVE, "me/scene", private=True)
    second = push(ARCHIVE, "me/scene", revision="v2", license_id="mit")
    repo = hub.repos["model", "me/scene"]
    assert repo.private
    assert repo.branches == {"main": first.revision, "v2": second.revision}
    assert pull("me/scene", "a.mem.safetensors", revision="v2").revision == second.revision
    assert pull("me/scene", "b.mem.safetensors").revision == first.revision


def test_private_text_is_not_pushed_to_a_public_repository(hub):
    hub.put("model", "me/scene", {"README.md": b""})
    with pytest.raises(UsageError, match="private: me/scene exists and is public"):
        push(ARCHIVE, "me/scene", private=True)
    assert set(hub.files("model", "me/scene")) == {"README.md"}


@pytest.mark.parametrize("name", ["../a", "/a", "a\0", "a\nb", "..\\a", "c:a"])
def test_unsafe_names_are_no_archives(hub, name):
    content = Path(ARCHIVE).read_bytes()
    hub.put("model", "me/bad", {f"{name}.mem.safetensors": content})
    before = sorted(Path().iterdir())
    with pytest.raises(UsageError, match="me/bad has neither an archive"):
        pull("me/bad")
    assert sorted(Path().iterdir()) == before


def test_one_of_several_archives(hub):
    content = Path(ARCHIVE).read_bytes()
    names = ["a.mem.safetensors", "b.mem.safetensors"]
    hub.put("model", "me/two", dict.fromkeys(names, content) | {"deep/c.mem.safetensors": content})
    with pytest.raises(UsageError, match=r"file: got nothing, allowed: one of the archives"):
        pull("me/two")
    with pytest.raises(UsageError, match=r"file: got 'deep/c.mem.safetensors', allowed: one of"):
        pull("me/two", file="deep/c.mem.safetensors")
    assert pull("me/two", file="b.mem.safetensors").output == Path("b.mem.safetensors")


def test_existing_file_is_replaced_only_by_force(hub):
    push(ARCHIVE, "me/scene")
    Path(ARCHIVE).write_text("mine")
    with pytest.raises(UsageError, match="exists; pass force=True to replace it"):
        pull("me/scene")
    assert Path(ARCHIVE).read_text() == "mine"
    pull("me/scene", force=True)
    assert Archive.read(ARCHIVE)


def test_damaged_archive_is_not_written(hub):
    content = Path(ARCHIVE).read_bytes()
    hub.put("model", "me/scene", {ARCHIVE: content[:-1] + bytes([content[-1] ^ 1])})
    before = sorted(Path().iterdir())
    with pytest.raises(ArchiveError, match=r"^me/scene/exact.mem.safetensors: damaged"):
        pull("me/scene", "new.mem.safetensors")
    assert sorted(Path().iterdir()) == before


# -- studies ---------------------------------------------------------------------------------------


def same_stores(left, right):
    """Rows, token records and recipes of both are equal."""
    first, second = Store(Path(left)), Store(Path(right))
    assert first.rows() == second.rows()
    assert first.recipes() == second.recipes()
    for row in first.rows():
        one, other = first.record(row.task), second.record(row.task)
        for name in TokenRecord.__dataclass_fields__:
            a, b = getattr(one, name), getattr(other, name)
            if a is None:
                assert b is None
            else:
                assert torch.equal(a.nan_to_num(7), b.nan_to_num(7))
                assert a.dtype == b.dtype
    return second


@pytest.mark.parametrize("name", ["capacity", "seeds", "context"])
def test_study_there_and_back(hub, store, name):
    pushed = push(f"{name}.study", "me/study", license_id="mit")
    assert (pushed.repo_type, pushed.url) == ("dataset", f"{hub.endpoint}/datasets/me/study")
    pulled = pull("me/study")
    assert pulled.output == Path("study.study")
    back = same_stores(f"{name}.study", "study.study")
    assert pulled.rows == len(back.rows()) == back.counts().done
    assert back.spec_path.read_text() == Path(f"{name}.study/study.toml").read_text()


def test_pulled_study_continues(hub, store):
    """The tasks of the spec are those of the rows: nothing is measured again."""
    push("capacity.study", "me/study")
    pull("me/study")
    before = Store(Path("study.study")).rows()
    assert run(["study", "run", "study.study", "--device", "cpu", "-q"]) == 0
    after = Store(Path("study.study"))
    assert after.rows() == before
    assert sum(one["texts"] for one in after.runs()) == len(before)


def test_viewer_finds_two_tables(hub, store):
    push(store, "me/study", license_id="mit")
    files, text = hub.files("dataset", "me/study"), card(hub, "dataset", "me/study")
    configs = text.data.to_dict()["configs"]
    assert [one["config_name"] for one in configs] == ["rows", "tokens"]
    assert [one["config_name"] for one in configs if one.get("default")] == ["rows"]
    tables = {
        one["config_name"]: pyarrow.parquet.read_table(io.BytesIO(files[one["data_files"]]))
        for one in configs
    }
    rows = Store(store).rows()
    assert tables["rows"].num_rows == len(rows)
    assert tables["tokens"].num_rows == sum(row.tokens for row in rows)
    names = "task position token_id mem_nats lm_nats mem_rank lm_rank margin learned_step"
    assert tables["tokens"].column_names == names.split()
    types = {str(one.type) for table in tables.values() for one in table.schema}
    assert types == {"string", "int64", "double", "bool"}
    first = tables["tokens"].slice(0, 1).to_pylist()[0]
    assert first["lm_nats"] is None  # nothing predicts t₁ in the bare LM
    assert first["token_id"] == int(Store(store).record(rows[0].task).ids[0])


def test_card_of_a_study_has_means(hub, store):
    push("context.study", "me/study")
    rows = Store(Path("context.study")).rows()
    text = card(hub, "dataset", "me/study").text
    chosen = [row for row in rows if row.condition == "" and row.length == 7]
    accuracy = sum(row.accuracy for row in chosen) / len(chosen)
    line = f"| `lossy` | `none` | `default` | `mem` | `books` | `7` | `1` | `{len(chosen)}` |"
    assert f"{line} `{accuracy:.4g}` |" in text
    assert "| `lossy context=12` |" in text


def test_nothing_of_the_machine_is_published(hub, store):
    push(store, "me/study")
    settings = json.loads(hub.files("dataset", "me/study")["study.json"])["runs"][0]["settings"]
    assert set(settings) == {"versions", "device_name", "threads", "recipes"}
    assert not any(name.endswith("sqlite") for name in hub.files("dataset", "me/study"))


def test_existing_store_is_replaced_only_by_force(hub, store):
    push("seeds.study", "me/study")
    with pytest.raises(UsageError, match=r"output: 'capacity.study' exists; pass force=True"):
        pull("me/study", "capacity.study")
    pull("me/study", "capacity.study", force=True)
    same_stores("seeds.study", "capacity.study")
    Path("mine").mkdir()
    Path("mine/note.txt").write_text("mine")
    with pytest.raises(UsageError, match="'mine'"):
        pull("me/study", "mine", force=True)
    assert Path("mine/note.txt").read_text() == "mine"


def test_a_store_in_use_is_not_replaced(hub, store):
    push("seeds.study", "me/study")
    writer = Store(store)
    before = writer.rows()
    with writer.lock(), pytest.raises(UsageError, match="is being written by process"):
        pull("me/study", store, force=True)
    assert Store(store).rows() == before


def test_names_in_the_card_of_a_study_are_not_markup(hub, store):
    row = replace(Store(store).rows()[0], study="a`\n# b", source="c\n| d")
    text = hub_study.study_card([row], "me/study", None)
    assert "# `a' # b`: 1 texts" in text
    assert "| `c ¦ d` |" in text


def changed(field, change):
    """Change one tensor of one row."""

    def damage(record):
        tensors = safetensors.torch.load(record)
        name = next(name for name in tensors if name.endswith(f".{field}"))
        return safetensors.torch.save(tensors | {name: change(tensors[name]).contiguous()})

    return "vectors.safetensors", damage


def replaced(old, new):
    return lambda data: data.replace(old.encode(), new.encode())


DAMAGE = {
    "no Parquet": ("data/rows.parquet", lambda _: b"PAR1"),
    "no rows": ("data/rows.parquet", lambda data: data[: len(data) // 2]),
    "no vectors": ("vectors.safetensors", lambda _: safetensors.torch.save({})),
    "a narrower vector": changed("mem", lambda mem: mem[:, :-1]),
    "one token more": changed("ids", lambda ids: torch.cat([ids, ids[:1]])),
    "a token beyond the vocabulary": changed("ids", lambda ids: ids + 10**6),
    "ranks that are no numbers": changed("mem_ranks", lambda ranks: ranks > 0),
    "a curve without columns": changed("curve", lambda curve: curve.flatten()),
    "no TOML": ("study.toml", lambda _: b"x = "),
    "TOML without end": ("study.toml", lambda _: b"x = " + b"[" * 10**5),
    "a long name": ("data/rows.parquet", lambda data: with_columns(data, origin="a" * 10**4)),
    "no JSON": ("study.json", lambda _: b"{"),
    "another task": ("study.json", replaced('"tasks": [', f'"tasks": ["{"0" * 32}",')),
    "a path as task": ("study.json", replaced('"tasks": [', '"tasks": ["../a",')),
    "other settings": ("study.json", replaced('"recipes": {', '"recipes": {"a": 1,')),
    "a newer version": ("study.json", replaced('"version": 1', '"version": 2')),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_study_is_not_written(hub, store, name):
    push(store, "me/study")
    files = hub.files("dataset", "me/study")
    path, damage = DAMAGE[name]
    new = damage(files[path])
    assert new != files[path]
    hub.put("dataset", "me/bad", files | {path: new})
    before = sorted(Path().iterdir())
    with pytest.raises(UsageError, match=r"^repo: the study is damaged \("):
        pull("me/bad")
    assert sorted(Path().iterdir()) == before


def with_columns(data, **values):
    """Rows with the same value in every row of some columns."""
    table = pyarrow.parquet.read_table(io.BytesIO(data))
    for name, value in values.items():
        at = table.schema.get_field_index(name)
        one = pyarrow.array([value] * len(table), table.schema.field(at).type)
        table = table.set_column(at, table.schema.field(at), one)
    return parquet(table)


def parquet(table):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


IMPOSSIBLE = [
    ("token_steps", 2**62),
    ("token_steps", -1),
    ("length", 2**63 - 1),
    ("mem_nats", float("inf")),
    ("model", "a\x1b[31mb"),
    ("study", "a\nb"),
]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_rows_that_no_study_measures_are_refused(hub, store, capsys, name, value):
    push(store, "me/study")
    files = hub.files("dataset", "me/study")
    rows = with_columns(files["data/rows.parquet"], **{name: value})
    hub.put("dataset", "me/bad", files | {"data/rows.parquet": rows})
    before = sorted(Path().iterdir())
    assert run(["pull", "me/bad"]) == 2
    assert capsys.readouterr().err == (
        f"memcram: REPO: the study is damaged ({name} of a row: {value!r})\n"
    )
    assert sorted(Path().iterdir()) == before


def test_more_rows_than_tasks_are_refused(hub, store):
    push(store, "me/study")
    files = hub.files("dataset", "me/study")
    table = pyarrow.parquet.read_table(io.BytesIO(files["data/rows.parquet"]))
    many = parquet(pyarrow.concat_tables([table, table]))
    hub.put("dataset", "me/bad", files | {"data/rows.parquet": many})
    with pytest.raises(UsageError, match=f"has {2 * len(table)} rows, not {len(table)}"):
        pull("me/bad")


def test_another_table_in_place_of_the_rows(hub, store):
    push(store, "me/study")
    files = hub.files("dataset", "me/study")
    tokens = files["data/tokens.parquet"]
    hub.put("dataset", "me/bad", files | {"data/rows.parquet": tokens})
    with pytest.raises(UsageError, match="does not have the columns of a results table"):
        pull("me/bad")


def test_data_set_without_a_study(hub):
    hub.put("dataset", "me/other", {"data.parquet": b""})
    with pytest.raises(UsageError, match="me/other is a data set without a study"):
        pull("me/other")


def test_store_without_rows(hub, store):
    empty = Store.create(Path("empty.study"), 'name = "empty"', Path())
    empty.close()
    with pytest.raises(UsageError, match="has no rows yet"):
        push("empty.study", "me/study")
    assert not hub.repos


# -- errors ----------------------------------------------------------------------------------------


def test_token_is_used_but_not_shown(hub, store, capsys):
    push(store, "me/study")
    assert {one[2] for one in hub.requests if "commit" in one[1]} == {f"Bearer {hub_standin.TOKEN}"}
    assert run(["push", ARCHIVE, "me/scene", "--json"]) == 0
    shown = capsys.readouterr()
    content = [*hub.files("dataset", "me/study").values(), *hub.files("model", "me/scene").values()]
    for text in (shown.out, shown.err, *(str(one) for one in content)):
        assert hub_standin.TOKEN not in text


def test_refused_without_a_token(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert run(["push", ARCHIVE, "me/scene"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("memcram: REPO: the Hub refuses (")
    assert err.endswith("; `hf auth login` or set HF_TOKEN\n")
    assert err.count("\n") == 1
    assert "hf_wrong" not in err


def test_hub_that_cannot_be_reached(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for words in (["pull", "me/scene"], ["push", ARCHIVE, "me/scene"]):
        assert run(words) == 2
        err = capsys.readouterr().err
        assert err.startswith("memcram: REPO: the Hub can't be reached (")
        assert err.count("\n") == 1


WRONG = {
    "no repository": (["pull", "me/none"], "REPO: me/none is not on the Hub, or private: check"),
    "no revision": (["pull", "me/scene", "--revision", "v9"], "--revision: "),
    "no archive": (["pull", "me/empty"], "REPO: me/empty has neither an archive"),
    "no owner": (["pull", "scene"], "REPO: got 'scene', allowed: OWNER/NAME"),
    "path": (["push", ARCHIVE, "../scene"], "REPO: got '../scene', allowed: OWNER/NAME"),
    "no source": (["push", "none", "me/scene"], "ARCHIVE|STORE: 'none' does not exist"),
    "licence": (["push", ARCHIVE, "me/a", "--license", "MIT: x"], "--license: got 'MIT: x'"),
    "no dry run": (["push", ARCHIVE, "me/a", "-o", "x"], "--output: only --dry-run writes"),
    "in use": (["push", ARCHIVE, "me/a", "--dry-run", "-o", "used"], "--output: 'used' is not"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_for_every_mistake(hub, capsys, name):
    hub.put("model", "me/scene", {ARCHIVE: Path(ARCHIVE).read_bytes()})
    hub.put("model", "me/empty", {"README.md": b""})
    Path("used").mkdir()
    Path("used/file").write_text("")
    before = sorted(Path().rglob("*"))
    words, problem = WRONG[name]
    assert run(words) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"memcram: {problem}")
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_not_an_archive(hub, capsys):
    Path("a.txt").write_text("no archive")
    assert run(["push", "a.txt", "me/scene"]) == 3
    assert capsys.readouterr().err == "memcram: a.txt: not a memcram archive\n"


# -- the command line ------------------------------------------------------------------------------


def test_dry_run_writes_what_would_be_uploaded(hub, store, capsys):
    assert run(["push", str(store), "me/study", "--dry-run", "--license", "mit", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert not hub.requests
    push(store, "me/study", license_id="mit")
    files = hub.files("dataset", "me/study")
    written = {
        path.relative_to("study").as_posix(): path.read_bytes()
        for path in Path("study").rglob("*")
        if path.is_file()
    }
    assert written == files
    size = sum(map(len, files.values()))
    assert report == {
        "output": "study",
        "repo": "me/study",
        "repo_type": "dataset",
        "files": len(files),
        "bytes": size,
    }


def test_commands_there_and_back(hub, capsys):
    assert run(["push", ARCHIVE, "me/scene", "--private", "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    assert run(["pull", "me/scene", "-o", "a.mem.safetensors", "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    assert pulled == {
        "output": "a.mem.safetensors",
        "repo_type": "model",
        "revision": pushed["revision"],
        "rows": None,
    }
    assert run(["decompress", "a.mem.safetensors", "-o", "a.txt", "--device", "cpu"]) == 0
    assert Path("a.txt").read_bytes() == (STAGE / "scene.txt").read_bytes()


def test_data_set_where_a_model_has_the_same_name(hub, store):
    push(ARCHIVE, "me/both")
    push(store, "me/both")
    assert pull("me/both", "a.mem.safetensors").repo_type == "model"
    assert pull("datasets/me/both").repo_type == "dataset"
    assert memcram.study.Store(Path("both.study")).rows()
