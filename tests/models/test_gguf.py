"""GGUF files: loaded as the model they hold, or refused in one line."""

import json
import re

import pytest
import torch

import memcram
import tiny
from memcram import ModelError, UsageError
from memcram.cli import run
from memcram.models import load_tokenizer
from memcram.study.grid import expand
from memcram.study.read import read_spec
from memcram.study.store import Store
from models import gguf_files

TEXT = "the cat the dog"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "memcram" / "gguf"


@pytest.fixture
def file(tmp_path):
    return gguf_files.write(tmp_path / "tiny.gguf")


def load(path, **options):
    return memcram.load_lm(str(path), device="cpu", **options)


@torch.no_grad()
def test_the_logits_are_those_of_the_original(file):
    ids = torch.tensor([[0, 7, 3, 250, 9]])
    expected = gguf_files.model()(ids).logits
    lm = load(file)
    torch.testing.assert_close(lm.head(lm.hidden(lm.embed(ids))), expected, atol=1e-5, rtol=1e-5)
    assert lm.detokenize(lm.tokenize(" the the 12 ü\n")) == " the the 12 ü\n"


def test_there_and_back(file):
    lm = load(file)
    archive = memcram.compress(TEXT, lm, chunk_tokens=8, steps=300)
    assert memcram.decompress(archive, load(file)) == TEXT.encode()
    assert archive.manifest.model.id == str(file)


def test_config_and_tokenizer_are_converted_once(file, cache, monkeypatch):
    first = load(file)
    [folder] = cache.iterdir()
    assert {"config.json", "fingerprint", "tokenizer.json"} <= {p.name for p in folder.iterdir()}
    monkeypatch.setattr("memcram.models.gguf.read_gguf", lambda path: pytest.fail("read again"))
    again = load(file, dtype="bfloat16")
    assert again.identity == first.identity
    assert again.tokenize(TEXT) == first.tokenize(TEXT)


def test_without_a_cache_it_loads_all_the_same(file, tmp_path, monkeypatch):
    expected = load(file).identity.fingerprint
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no folder"))
    lm = load(file)
    assert lm.identity.fingerprint == expected
    assert lm.tokenize(TEXT)


def test_the_fingerprint_is_of_the_dequantised_tensors(file, tmp_path):
    other = gguf_files.write(tmp_path / "other.gguf", seed=1)
    same = tmp_path / "same.gguf"
    same.write_bytes(file.read_bytes())
    assert load(same).identity.fingerprint == load(file).identity.fingerprint
    assert load(other).identity.fingerprint != load(file).identity.fingerprint


def test_a_folder_with_one_file(file):
    lm = load(file.parent)
    assert lm.identity.fingerprint == load(file).identity.fingerprint


def test_a_folder_with_two_files_is_refused(file):
    gguf_files.write(file.parent / "second.gguf")
    with pytest.raises(ModelError, match=r"2 GGUF files; name one of second.gguf, tiny.gguf"):
        load(file.parent)


SCALED = [
    ({"settings": {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}}, "rope.scaling"),
    ({"settings": {"rope.scaling.factor": 8.0}}, "rope.scaling.factor"),
    ({"tensors": {"rope_freqs.weight": torch.ones(8)}}, "rope_freqs.weight"),
    ({"settings": {"rope.freq_base_swa": 5000.0}}, "rope.freq_base_swa"),
    ({"settings": {"attention.value_length": 12.0}}, "attention.value_length"),
    ({"settings": {"logit_scale": 2.0}}, "logit_scale"),
    ({"settings": {"some.new_setting": 2.0}}, "some.new_setting"),
]


@pytest.mark.parametrize(("changes", "named"), SCALED)
def test_what_transformers_drops_is_refused(tmp_path, changes, named):
    file = gguf_files.write(tmp_path / "scaled.gguf", **changes)
    with pytest.raises(ModelError, match=named):
        load(file)


@pytest.mark.parametrize(
    "settings", [{"rope.scaling.type": "none"}, {"attention.key_length": 16.0}]
)
def test_settings_that_change_nothing_are_accepted(tmp_path, settings):
    load(gguf_files.write(tmp_path / "plain.gguf", settings=settings))


SCALING = {"settings": {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}}


@pytest.fixture
def scaled(tmp_path):
    return gguf_files.write(tmp_path / "scaled.gguf", **SCALING)


@pytest.fixture
def config(tmp_path):
    """Folder of the config.json that the scaled file was converted from."""
    folder = tmp_path / "original"
    config = gguf_files.model().config
    config.rope_parameters = {"rope_type": "linear", "factor": 8.0, "rope_theta": 10_000.0}
    config.save_pretrained(folder)
    return folder


def test_the_original_config_next_to_the_file_replaces_the_metadata(file, scaled, config):
    scaled.rename(config / scaled.name)
    lm = load(config)
    assert lm.module.config.rope_parameters["factor"] == 8.0
    assert lm.identity.fingerprint != load(file).identity.fingerprint


def test_the_original_config_from_another_folder(file, scaled, config, cache):
    lm = load(scaled, config=config)
    assert lm.module.config.rope_parameters["factor"] == 8.0
    assert lm.identity.fingerprint != load(file).identity.fingerprint
    scaled.rename(config / scaled.name)
    assert load(config).identity.fingerprint == lm.identity.fingerprint
    assert len(list(cache.iterdir())) == 2


def test_a_plain_file_with_another_config_is_another_model(file, config):
    plain, scaled = load(file), load(file, config=str(config))
    assert plain.identity.fingerprint != scaled.identity.fingerprint
    assert load(file).identity == plain.identity


def test_the_refusal_names_the_argument(scaled, config):
    with pytest.raises(ModelError) as caught:
        load(scaled)
    assert caught.value.argument == "config"
    with pytest.raises(UsageError, match=r"^config: '.*none' has no config.json"):
        load(scaled, config=config / "none")


@pytest.mark.parametrize("name", ["pocket", "EleutherAI/pythia-160m", None])
def test_a_config_is_for_gguf_alone(name, tiny_folder, config):
    with pytest.raises(UsageError, match=r"^config: got .* is not a GGUF model"):
        load(name or tiny_folder, config=config)


def test_a_config_that_the_tensors_do_not_fit(file, config):
    content = json.loads((config / "config.json").read_text())
    (config / "config.json").write_text(json.dumps(content | {"intermediate_size": 40}))
    with pytest.raises(ModelError, match=re.escape(str(file))):
        load(file, config=config)


def test_every_command_takes_the_config(scaled, config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TEXT * 8)
    model = ["--model", str(scaled), "--device", "cpu"]
    given = ["--config", str(config), "--device", "cpu"]

    def ran(*words):
        code = run([*map(str, words)])
        return code, capsys.readouterr()

    code, said = ran("compress", "a.txt", *model)
    assert (code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith(f"memcram: --config: '{scaled}' sets rope.scaling.type")
    quick = ["--steps", "10", "--chunk-tokens", "8", "-q"]
    assert ran("compress", "a.txt", *model, *given, *quick)[0] == 0
    archive = "a.txt.mem.safetensors"
    code, said = ran("decompress", archive, "-o", "-")
    assert code == 2
    assert "--config" in said.err
    code, said = ran("decompress", archive, "-o", "-", *given)
    assert (code, said.out) == (0, TEXT * 8)
    assert ran("verify", archive, *given)[0] == 0
    assert ran("explain", archive, "-o", "a.html", *given)[0] == 0
    code, said = ran("export", "transformers", archive, "-o", "vectors", *given)
    assert "only memcram applies corrections" in said.err  # after the model was loaded
    few = ["--samples", "2", "--steps", "3", "-q"]
    assert ran("horizon", "a.txt", "--max-tokens", "6", *model, *given, *few)[0] == 0
    assert ran("plan", "a.txt", *model, *given, *few)[0] == 0
    code, said = ran("models", "inspect", scaled, *given, "--json")
    assert code == 0
    assert json.loads(said.out)["gguf"]["config"] == str(config / "config.json")


STUDY = """
name = "a"
kind = "horizon"
models = [{{ id = "scaled.gguf"{config} }}]
lengths = [4]
samples = 2
steps = 3
[[texts]]
name = "words"
source = "random-words"
words = 20
"""


def test_a_study_takes_the_config(scaled, config, tmp_path, capsys):
    spec = tmp_path / "a.toml"
    spec.write_text(STUDY.format(config=""))
    assert run(["study", "run", str(spec), "--device", "cpu", "-q"]) == 2
    assert "models[0].config: " in capsys.readouterr().err
    spec.write_text(STUDY.format(config=f', config = "{config.name}"'))
    assert run(["study", "run", str(spec), "--device", "cpu", "-q"]) == 0
    store = Store(tmp_path / "a.study")
    assert {row.fingerprint for row in store.rows()} == {
        load(scaled, config=config).identity.fingerprint
    }
    assert load_tokenizer(str(scaled))([5]) == load(scaled, config=config).detokenize([5])


def test_the_path_of_a_file_is_no_part_of_a_task(file, tmp_path):
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "scaled.gguf").write_bytes(file.read_bytes())
        (folder / "a.toml").write_text(STUDY.format(config=""))
        spec = read_spec(folder / "a.toml")
        found.append([task.id for task in expand(spec, 0, load(folder / "scaled.gguf"))])
    assert found[0] == found[1]


def test_tensors_that_transformers_leaves_out_are_refused(tmp_path):
    bias = {"blk.0.attn_q.bias": torch.ones(32)}
    with pytest.raises(ModelError, match=r"parameters, but transformers built"):
        load(gguf_files.write(tmp_path / "biased.gguf", tensors=bias))


def test_an_architecture_that_transformers_does_not_load(tmp_path):
    file = gguf_files.write(tmp_path / "neox.gguf", architecture="gptneox")
    with pytest.raises(ModelError, match="'gptneox', which transformers does not load"):
        load(file)


@pytest.mark.parametrize("kept", [0, 3, 24, 400, 5000])
def test_a_damaged_file_is_one_line_and_exit_2(file, tmp_path, capsys, kept):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(file.read_bytes()[:kept])
    (tmp_path / "a.txt").write_text(TEXT)
    assert run(["compress", str(tmp_path / "a.txt"), "--model", str(damaged)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert "damaged.gguf' is " in err
    assert ("truncated or damaged" if kept > 4 else "not a GGUF file") in err


def test_inspect_says_what_was_read(file, capsys):
    assert run(["models", "inspect", str(file), "--device", "cpu", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["vocab_size"] == len(gguf_files.TOKENS)
    assert facts["gguf"]["architecture"] == "llama"
    assert facts["gguf"]["quantisations"] == {"F32": 21}
    assert facts["gguf"]["tokenizer_pre"] == "smollm"


def test_inspect_lists_what_was_read(file, capsys):
    assert run(["models", "inspect", str(file), "--device", "cpu"]) == 0
    facts, read = capsys.readouterr().out.split("\n\n")
    assert "gguf" not in facts.replace(str(file), "")
    assert "gguf_quantisations    F32 21\n" in read
    assert "{" not in read


def test_bound_reads_the_config_alone(file, capsys):
    assert run(["bound", str(file), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["bounds"]
    assert row["input_width"] == 32


def test_safetensors_weights_take_precedence(tmp_path):
    folder = tiny.save_model(tmp_path / "both", tiny.llama_config())
    gguf_files.write(folder / "also.gguf")
    assert load(folder).vocab_size == tiny.VOCABULARY
