"""The same bytes back, always; and a refusal wherever that can't be promised."""

import dataclasses

import pytest
import torch
from transformers import AutoTokenizer

import memcram
import tiny
from memcram import Archive, ArchiveError, TextError, UsageError
from memcram.archive.manifest import TextRecord
from memcram.cli import run
from memcram.models import decoding

TEXT = "The Lamp went out at nine; nobody noticed.\r\n\tNaïve café — 語 👩‍👧 "


def through_a_file(archive, folder):
    path = folder / "a.mem.safetensors"
    archive.write(path)
    return Archive.read(path)


@pytest.mark.parametrize("vectors", [1, 3])
def test_pocket_restores_a_text_without_corrections(pocket, tmp_path, vectors):
    text = "The lamp went out at nine, and nobody noticed until the ferry was late."
    archive = memcram.compress(text, pocket, vectors=vectors)
    assert memcram.decompress(through_a_file(archive, tmp_path), pocket) == text.encode()
    report = archive.summary()
    assert report["tokens_corrected"] == 0
    assert report["chunks_exact"] == report["chunks"] > 0
    assert report["bytes_in"] == len(text)
    assert report["vectors"] == vectors * report["chunks"]
    # float32 vectors of 256 coordinates, and nothing else to store
    assert report["bits_stored"] == 32 * 256 * report["vectors"]
    assert report["min_margin"] > 0


TOKENIZERS = {
    "bytes": {},
    "lower_and_strip": {"lower_and_strip": True},
    "prepend_space": {"prepend_space": True},
}
CONFIGS = {
    "llama": tiny.llama_config,
    "opt": tiny.opt_config,
}


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("family", CONFIGS)
def test_corrections_and_raw_pieces_restore_what_one_step_can_not(tmp_path, family, tokenizer):
    folder = tiny.save_model(
        tmp_path, CONFIGS[family](), tiny.byte_tokenizer(**TOKENIZERS[tokenizer])
    )
    lm = memcram.load_lm(str(folder), device="cpu")
    archive = memcram.compress(TEXT * 9, lm, chunk_tokens=40, steps=1)
    assert memcram.decompress(through_a_file(archive, tmp_path), lm) == (TEXT * 9).encode()
    report = archive.summary()
    assert report["tokens_corrected"] > 0
    assert report["chunks_exact"] < report["chunks"]
    assert (report["raw_bytes"] > 0) == (tokenizer == "lower_and_strip")
    assert bool(archive.raw_pieces) == (tokenizer != "bytes")


@pytest.mark.parametrize("text", ["   ", "\n", " a "])
def test_a_text_of_which_the_tokenizer_leaves_little(tmp_path, text):
    folder = tiny.save_model(
        tmp_path, tiny.llama_config(), tiny.byte_tokenizer(lower_and_strip=True)
    )
    lm = memcram.load_lm(str(folder), device="cpu")
    archive = through_a_file(memcram.compress(text, lm, steps=1), tmp_path)
    assert memcram.decompress(archive, lm) == text.encode()
    assert archive.summary()["bytes_in"] == len(text)
    assert memcram.verify(archive, lm).chunks == len(archive.chunk_tokens)


def test_one_seed_one_archive(tiny_lm):
    first, again = (memcram.compress(TEXT, tiny_lm, steps=2, seed=3) for _ in range(2))
    other = memcram.compress(TEXT, tiny_lm, steps=2, seed=4)
    assert first.to_bytes() == again.to_bytes()
    assert not torch.equal(first.tensors.vectors, other.tensors.vectors)


def test_another_model_is_refused_and_both_are_named(tiny_lm, tmp_path):
    twin = tiny.save_model(tmp_path / "twin", tiny.llama_config(), seed=1)
    other = memcram.load_lm(str(twin), device="cpu")
    archive = memcram.compress(TEXT, tiny_lm, steps=1)
    with pytest.raises(ArchiveError) as caught:
        memcram.decompress(archive, other)
    message = str(caught.value)
    for lm in (tiny_lm, other):
        assert lm.identity.id in message
        assert lm.identity.fingerprint[:12] in message
    with pytest.raises(ArchiveError):
        memcram.verify(archive, other)


@pytest.mark.parametrize("field", ["input_width", "vocab_size"])
def test_a_forged_shape_of_the_model_is_refused(tiny_lm, field):
    archive = memcram.compress(TEXT, tiny_lm, steps=1)
    record = archive.manifest.model.model_copy(update={field: 10**6})
    manifest = archive.manifest.model_copy(update={"model": record})
    for use in (memcram.decompress, memcram.verify):
        with pytest.raises(ArchiveError, match="1000000"):
            use(dataclasses.replace(archive, manifest=manifest), tiny_lm)


@pytest.mark.parametrize("mode", [{"dtype": "bfloat16"}, {"layout": "mem+bos"}])
def test_another_mode_is_refused(tiny_lm, tiny_folder, mode):
    archive = memcram.compress(TEXT, tiny_lm, steps=1)
    other = memcram.load_lm(str(tiny_folder), device="cpu", **mode)
    with pytest.raises(ArchiveError, match=next(iter(mode.values())).replace("+", r"\+")):
        memcram.decompress(archive, other)


@pytest.mark.parametrize("mode", [{"dtype": "bfloat16"}, {"layout": "mem+bos"}])
def test_each_mode_restores_its_own(tiny_folder, tmp_path, mode):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", **mode)
    archive = through_a_file(memcram.compress(TEXT, lm, steps=2), tmp_path)
    assert memcram.decompress(archive, lm) == TEXT.encode()


def test_a_text_that_does_not_come_back_is_never_handed_out(tiny_lm):
    archive = memcram.compress(TEXT, tiny_lm, steps=1)
    record = TextRecord(**archive.manifest.text.model_dump() | {"sha256": "0" * 64})
    wrong = dataclasses.replace(
        archive, manifest=archive.manifest.model_copy(update={"text": record})
    )
    with pytest.raises(ArchiveError, match=r"SHA-256.*nothing was written"):
        memcram.decompress(wrong, tiny_lm)
    moved = dataclasses.replace(
        archive, tensors=dataclasses.replace(archive.tensors, vectors=-archive.tensors.vectors)
    )
    with pytest.raises(ArchiveError, match="SHA-256"):
        memcram.decompress(moved, tiny_lm)


def test_raw_pieces_outside_the_text_are_refused(tiny_lm):
    archive = memcram.compress(TEXT, tiny_lm, steps=1)
    raw = {"raw_offsets": 10**6, "raw_removed": 0, "raw_lengths": 0}
    changed = {name: torch.tensor([value]) for name, value in raw.items()}
    wrong = dataclasses.replace(archive, tensors=dataclasses.replace(archive.tensors, **changed))
    with pytest.raises(ArchiveError, match="inconsistent"):
        memcram.decompress(wrong, tiny_lm)


def test_lengths_beyond_the_model_are_refused_before_any_decoding(tiny_lm, monkeypatch):
    archive = memcram.compress(TEXT, tiny_lm, steps=1)
    size = 1000  # far beyond 128 positions; a hostile one would name 2³¹ and ask for 16 GiB
    tensors = dataclasses.replace(
        archive.tensors,
        vectors=archive.tensors.vectors[:1],
        chunk_vectors=torch.tensor([1], dtype=torch.int32),
        chunk_tokens=torch.tensor([size], dtype=torch.int32),
        chunk_margins=torch.zeros(1),
        piece_tokens=torch.tensor([size]),
    )
    record = TextRecord(**archive.manifest.text.model_dump() | {"tokens": size})
    manifest = archive.manifest.model_copy(update={"text": record})
    monkeypatch.setattr("memcram.models.decoding.stream", None)
    with pytest.raises(ArchiveError, match="positions"):
        memcram.decompress(Archive(manifest, tensors), tiny_lm)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        ("", "empty"),
        (b"abc\xff", r"0xff at offset 3"),
        ("né".encode("latin-1"), r"0xe9 at offset 1"),
        (b"\xed\xa0\x80", "offset 0"),
        ("a\ud800", "offset 1"),
    ],
)
def test_what_is_no_text_is_refused(tiny_lm, data, message):
    with pytest.raises(TextError, match=message):
        memcram.compress(data, tiny_lm, steps=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectors": 0}, "^vectors: got 0, allowed: 1 or more"),
        ({"vectors": 129}, "^vectors: got 129, allowed: at most 128"),
        ({"chunk_tokens": 0}, "^chunk_tokens: got 0, allowed: 1 to 128"),
        ({"chunk_tokens": 129}, "^chunk_tokens: got 129, allowed: 1 to 128"),
        ({"chunk_tokens": 127, "vectors": 3}, "allowed: 1 to 126"),
        ({"steps": 0}, "^steps: got 0, allowed: 1 or more"),
        ({"recipe": "fast"}, "^recipe: got 'fast', allowed: default"),
    ],
)
def test_numbers_out_of_range_are_refused(tiny_lm, arguments, message):
    with pytest.raises(UsageError, match=message):
        memcram.compress(TEXT, tiny_lm, **arguments)


def test_a_wider_margin_is_reached_and_recorded(pocket, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("The ferry was late.")
    arguments = ["compress", "a.txt", "--chunk-tokens", "3"]
    assert run([*arguments, "--margin", "1.5", "-q"]) == 0
    archive = Archive.read(tmp_path / "a.txt.mem.safetensors")
    assert archive.summary()["min_margin"] > 1.5
    assert archive.manifest.recipe["strategy"]["margin"] == 1.5
    assert run([*arguments, "--margin", "-1", "--force"]) == 2
    assert "--margin: got -1.0, allowed: 0 or more, and finite" in capsys.readouterr().err


def test_verify_reports_what_it_found(pocket):
    archive = memcram.compress("The ferry was late.", pocket)
    found = memcram.verify(archive, pocket)
    report = archive.summary()
    assert (found.chunks, found.chunks_exact) == (report["chunks"], report["chunks_exact"])
    assert found.tokens_corrected == 0
    assert found.min_margin > 0
    assert found.max_margin_shift < 1e-3  # float32 rounding on the machine that made it


def test_verify_counts_corrections(tiny_lm):
    archive = memcram.compress(TEXT, tiny_lm, steps=1, chunk_tokens=20)
    found = memcram.verify(archive, tiny_lm)
    assert found.tokens_corrected == archive.summary()["tokens_corrected"] > 0
    assert found.chunks_exact < found.chunks


def test_progress_ends_with_everything_done(tiny_lm):
    seen = []
    archive = memcram.compress(TEXT, tiny_lm, steps=2, chunk_tokens=20, on_progress=seen.append)
    assert {state.tokens_total for state in seen} == {archive.manifest.text.tokens}
    assert all(state.tokens_correct <= state.tokens_total for state in seen)
    decoding = []
    memcram.decompress(archive, tiny_lm, decoding.append)
    assert decoding[-1].chunks_done == len(archive.chunk_tokens)
    assert decoding[-1].tokens_correct == decoding[-1].tokens_total


def test_a_path_in_place_of_an_archive(tiny_lm, tmp_path):
    path = tmp_path / "a.mem.safetensors"
    archive = memcram.compress(TEXT, tiny_lm, steps=1)
    archive.write(path)
    assert memcram.decompress(path, tiny_lm) == memcram.decompress(str(path), tiny_lm)
    assert memcram.verify(path, tiny_lm) == memcram.verify(archive, tiny_lm)


def test_verify_decodes_once(tiny_lm, monkeypatch):
    archive = memcram.compress(TEXT, tiny_lm, steps=1)
    stream, calls = decoding.stream, []

    def counted(*arguments, **options):
        calls.append(1)
        return stream(*arguments, **options)

    monkeypatch.setattr(decoding, "stream", counted)
    memcram.verify(archive, tiny_lm)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"id": "x" * 513}, {}, "^model: .*at most 512 characters"),
        ({"id": "a\nb"}, {}, "^model: "),
        ({"id": "caf\udce9"}, {}, "^model: "),
        ({"revision": "x" * 129}, {}, "^revision: .*at most 128 characters"),
        ({}, {"seed": "3"}, "^seed: .*valid integer"),
    ],
)
def test_what_no_archive_can_record_is_refused_before_any_work(
    tiny_lm, monkeypatch, tmp_path, changes, arguments, message
):
    identity = dataclasses.replace(tiny_lm.identity, **changes)
    monkeypatch.setattr(tiny_lm, "identity", identity)
    monkeypatch.setattr("memcram.engine.loop.Engine.run", lambda *_: pytest.fail("crammed"))
    with pytest.raises(UsageError, match=message):
        memcram.compress(TEXT, tiny_lm, steps=1, partial=tmp_path / "p", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 256, "none/p"])
def test_a_folder_for_chunks_that_can_not_be_created_is_refused_before_any_work(
    tiny_lm, monkeypatch, tmp_path, name
):
    monkeypatch.setattr("memcram.engine.loop.Engine.run", lambda *_: pytest.fail("crammed"))
    with pytest.raises(UsageError, match=r"^partial: "):
        memcram.compress(TEXT, tiny_lm, steps=1, partial=tmp_path / name)


@pytest.mark.parametrize("text", ["", "half of a pair: \ud83d"])
def test_what_is_not_a_text_is_refused(tiny_lm, text):
    for use in (memcram.compress, memcram.cram, memcram.plan):
        with pytest.raises(TextError, match=r"^text: the text is (empty|not UTF-8)"):
            use(text, tiny_lm, steps=1)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_beyond_64_bits_is_refused(tiny_lm, seed):
    for use in (memcram.compress, memcram.cram):
        with pytest.raises(UsageError, match=f"^seed: got {seed}, allowed: an integer of 64 bits"):
            use(TEXT, tiny_lm, steps=1, seed=seed)


def test_a_token_outside_the_vocabulary_is_named(tmp_path, monkeypatch, capsys):
    """Added to the tokenizer, but not to the weights."""
    folder = tiny.save_model(tmp_path / "m", tiny.llama_config())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    lm = memcram.load_lm(str(folder), device="cpu")
    message = r"gives token 257 \('<pad>'\), but the model's vocabulary has 257 tokens"
    for use in (memcram.compress, memcram.cram):
        with pytest.raises(TextError, match=f"^text: .*{message}"):
            use("a form with <pad> in it", lm, steps=1)
    assert memcram.decompress(memcram.compress("a form", lm, steps=1), lm) == b"a form"
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("a form with <pad> in it")
    assert run(["compress", "p.txt", "--model", "m", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.startswith("memcram: TEXT: the tokenizer of m gives token 257")
    assert {path.name for path in tmp_path.iterdir()} == {"m", "p.txt"}


@pytest.mark.parametrize("chunk_tokens", [None, 8])
def test_optimised_in_bfloat16_and_exact_in_float32(pocket, chunk_tokens):
    text = "Snow lay on the sill, and the kettle had begun to sing. Nobody was up yet."
    options = {"chunk_tokens": chunk_tokens, "steps": 150}
    archive = memcram.compress(text, pocket, compute_dtype="bfloat16", **options)
    assert memcram.decompress(archive, pocket).decode() == text
    assert archive.tensors.vectors.dtype == torch.float32
    assert archive.manifest.dtype == "float32"
    assert archive.manifest.recipe["compute_dtype"] == "bfloat16"
    assert archive.summary()["tokens_corrected"] == 0
    plain = memcram.compress(text, pocket, compute_dtype="float32", **options)
    assert "compute_dtype" not in plain.manifest.recipe
    assert not torch.equal(plain.tensors.vectors[0], archive.tensors.vectors[0])


def test_a_partial_folder_is_of_one_compute_dtype(pocket, tmp_path):
    text = "Snow lay on the sill."
    memcram.compress(text, pocket, steps=2, partial=tmp_path / "a.partial")
    with pytest.raises(UsageError, match="other settings"):
        memcram.compress(
            text, pocket, steps=2, partial=tmp_path / "a.partial", compute_dtype="bfloat16"
        )
