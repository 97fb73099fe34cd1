"""Archives in fewer bits: the same bytes back, decoded from the stored codes."""

import pytest
import torch

import memcram
import tiny
from interrupts import InterruptAfter
from memcram import Archive, CramRequest, Engine, UsageError
from memcram.archive.stored import Storage
from memcram.compression.storing import Storer, is_stored
from memcram.errors import Interrupted
from memcram.quantisation import PRECISIONS, decode, encode, scales_of

TEXT = "The lamp went out at nine, and nobody noticed."


@pytest.mark.parametrize("store", ["bfloat16", "float16", "int8", "int4", "least"])
def test_a_text_comes_back_from_fewer_bits(pocket, store):
    made = memcram.compress(TEXT[:26], pocket, chunk_tokens=4, steps=40, store=store)
    archive = Archive.from_bytes(made.to_bytes())
    assert archive.to_bytes() == made.to_bytes()
    assert archive.manifest == made.manifest
    assert memcram.decompress(archive, pocket) == TEXT[:26].encode()
    report = archive.summary()
    assert (archive.manifest.version, report["store"]) == (2, store)
    assert report["chunks_exact"] == report["chunks"] > 1
    assert report["chunks_shortened"] == 0
    most = PRECISIONS.get(store, 4)
    assert report["bits_per_dimension"] <= most
    # the vectors, a scale per vector and a byte per chunk
    assert report["bits_stored"] <= report["vectors"] * (256 * most + 32 + 8)


@pytest.mark.parametrize("store", [None, "float32"])
def test_in_the_models_dtype_nothing_changes(pocket, store):
    archive = memcram.compress(TEXT, pocket, chunk_tokens=8, steps=3, store=store)
    assert archive.manifest.version == 1
    assert '"storage"' not in archive.manifest.model_dump_json()
    assert archive.to_bytes() == memcram.compress(TEXT, pocket, chunk_tokens=8, steps=3).to_bytes()


def test_a_chunk_that_does_not_fit_is_cut_shorter(pocket):
    plain = memcram.compress(TEXT, pocket, steps=30)
    archive = memcram.compress(TEXT, pocket, steps=30, store="int4")
    report = archive.summary()
    assert memcram.decompress(archive, pocket) == TEXT.encode()
    assert report["chunks_exact"] == report["chunks"]
    assert report["tokens_corrected"] == 0
    cut = archive.chunk_tokens[0] < plain.chunk_tokens[0]
    assert cut <= report["chunks_shortened"] <= report["chunks"]


def test_of_a_given_length_it_gets_corrections(tiny_lm):
    archive = memcram.compress(TEXT, tiny_lm, chunk_tokens=30, steps=3, store="int4")
    report = archive.summary()
    assert report["tokens_corrected"] > 0
    assert memcram.decompress(archive, tiny_lm) == TEXT.encode()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_dtypes_of_the_model(tiny_folder, dtype):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", dtype=dtype)
    archive = memcram.compress(TEXT, lm, chunk_tokens=16, steps=5, store="int8")
    again = Archive.from_bytes(archive.to_bytes())
    assert {mem.dtype for mem in again.mems} == {lm.dtype}
    assert memcram.decompress(again, lm) == TEXT.encode()


def test_wider_than_the_model_is_refused(tiny_folder):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", dtype="bfloat16")
    with pytest.raises(UsageError, match="store: got 'float32', allowed: bfloat16, int8"):
        memcram.compress(TEXT, lm, store="float32")


def test_a_text_without_tokens(tmp_path):
    folder = tiny.save_model(
        tmp_path, tiny.llama_config(), tiny.byte_tokenizer(lower_and_strip=True)
    )
    lm = memcram.load_lm(str(folder), device="cpu")
    archive = Archive.from_bytes(memcram.compress(" \n ", lm, store="least").to_bytes())
    assert memcram.decompress(archive, lm) == b" \n "
    assert archive.summary()["bits_per_dimension"] is None


@pytest.mark.parametrize("chunk_tokens", [None, 8])
def test_resumed_is_uninterrupted(tiny_lm, tmp_path, chunk_tokens):
    settings = {"chunk_tokens": chunk_tokens, "steps": 8, "store": "int4"}
    whole = memcram.compress(TEXT, tiny_lm, **settings)
    folder = tmp_path / "a.partial"
    with pytest.raises(Interrupted, match="are kept"):
        memcram.compress(TEXT, tiny_lm, partial=folder, on_progress=InterruptAfter(1), **settings)
    with pytest.raises(UsageError, match=r"other settings \(store\)"):
        memcram.compress(TEXT, tiny_lm, partial=folder, **{**settings, "store": "int8"})
    seen = []
    resumed = memcram.compress(TEXT, tiny_lm, partial=folder, on_progress=seen.append, **settings)
    assert all(state.chunks_done >= 1 for state in seen)
    assert resumed.to_bytes() == whole.to_bytes()


def test_what_is_stored_is_what_was_measured(pocket, prose):
    recipe = memcram.get_recipe("default").with_steps(40).for_horizon()
    [crammed] = Engine(pocket, recipe).run([CramRequest(0, prose[:40])])
    [(found, storage)] = Storer(pocket, recipe, "int4").store([(prose[:40], crammed)])
    codes = encode(found.mem, storage.scales, "int4")
    assert torch.equal(decode(codes, storage.scales, "int4", torch.float32), found.mem)
    ids = pocket.generate(found.mem, found.n_correct)
    assert torch.equal(ids, prose[: found.n_correct])
    assert storage.shortened == (found.n_correct < crammed.n_correct)


def test_least_takes_the_fewest_bits_that_hold_all_tokens(pocket, prose, monkeypatch):
    recipe = memcram.get_recipe("default").with_steps(30).for_horizon()
    [crammed] = Engine(pocket, recipe).run([CramRequest(0, prose[:40])])
    storer = Storer(pocket, recipe, "least")
    finish, tried = storer._finish, []

    def failing(below):
        def short(texts, starts, precision):
            tried.extend([precision] * len(texts))
            if PRECISIONS[precision] >= below:
                return finish(texts, starts, precision)
            return [
                (one, Storage(precision, scales_of(one.mem, precision), shortened=True))
                for _, one in texts
            ]

        return short

    for below, chosen in [(6, "int6"), (9, "float16"), (17, "float32")]:
        monkeypatch.setattr(storer, "_finish", failing(below))
        tried.clear()
        [(found, storage)] = storer.store([(prose[:40], crammed)])
        assert storage.precision == chosen
        assert found.n_correct == crammed.n_correct
        assert (
            tried
            == {
                "int6": ["int8", "int7", "int6", "int5"],
                "float16": ["int8", "float16"],
                "float32": ["int8", "float16", "float32"],
            }[chosen]
        )


@pytest.mark.parametrize("store", ["int4", "least"])
def test_chunks_are_stored_side_by_side_as_if_alone(tiny_lm, store, monkeypatch):
    for name in ("_STEPS", "_CUTTING_STEPS"):
        monkeypatch.setattr(f"memcram.engine.storing.{name}", 8)
    recipe = memcram.get_recipe("default").with_steps(30)
    ids = torch.tensor(tiny_lm.tokenize(TEXT))
    texts = [ids[:1], ids[1:5], ids[5:20]]
    engine = Engine(tiny_lm, recipe)
    crammed = {one.key: one for one in engine.run(map(CramRequest, range(3), texts))}
    pairs = [(ids, crammed[i]) for i, ids in enumerate(texts)]
    storer = Storer(tiny_lm, recipe, store)
    alone = [storer.store([pair])[0] for pair in pairs]
    together = storer.store(pairs)
    assert any(one.n_correct for one, _ in together)
    for (one, how), (other, its) in zip(together, alone, strict=True):
        assert torch.equal(one.mem, other.mem)
        assert one.n_correct == other.n_correct
        assert (how.precision, how.shortened) == (its.precision, its.shortened)
        assert torch.equal(how.scales, its.scales)
    if store == "least":
        assert len({how.precision for _, how in together}) > 1


def test_a_full_batch_of_chunks_is_stored_while_others_are_crammed(tiny_lm, monkeypatch):
    stored = []
    store = Storer.store

    def counted(storer, texts):
        stored.append(len(texts))
        return store(storer, texts)

    monkeypatch.setattr(Storer, "store", counted)
    settings = {"chunk_tokens": 4, "steps": 2, "store": "int4"}
    whole = memcram.compress(TEXT, tiny_lm, **settings)
    assert stored == [12]
    stored.clear()
    monkeypatch.setattr(Storer, "fills_a_batch", lambda storer, crammed: len(crammed) >= 5)
    assert memcram.compress(TEXT, tiny_lm, **settings).to_bytes() == whole.to_bytes()
    assert stored == [5, 5, 2]


def test_vectors_on_disk_must_be_those_of_the_storage():
    mem = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    scales = scales_of(mem, "int4")
    near = decode(encode(mem, scales, "int4"), scales, "int4", torch.float32)
    assert is_stored(near, Storage("int4", scales), "int4")
    assert is_stored(near, Storage("int4", scales), "least")
    assert is_stored(mem, None, None)
    assert not is_stored(mem, Storage("int4", scales), "int4")
    assert not is_stored(near, Storage("int4", scales), "int8")
    for wrong in (scales * float("nan"), -scales, scales.double(), scales[:1]):
        assert not is_stored(near, Storage("int4", wrong), "int4")
    assert not is_stored(near, None, "int4")
    assert not is_stored(near, Storage("int4", scales), None)
