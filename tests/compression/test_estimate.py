"""Plans: laws of the estimate, the size of the archive, and the command on a tiny model."""

import dataclasses
import json
import random

import pytest
import torch

import memcram
from memcram.cli import run
from memcram.compression import estimate
from memcram.compression.chunks import cram_chunks
from memcram.compression.codec import archive_recipe, chunk_plan
from memcram.compression.estimate import plan, sample_starts
from memcram.errors import TextError, UsageError
from memcram.metrics.cutting import cut_cost
from memcram.recipes.catalogue import get_recipe

LENGTHS = [12, 18, 25, 9, 17, 21, 18, 30]
COSTS = [900, 1500, 2600, 500, 1400, 2000, 1500, 3500]
TEXT = "The ferry was late, and nobody on the pier had counted the boats. " * 4


def holds(interval):
    return interval.low <= interval.expected <= interval.high


# -- the estimate -------------------------------------------------------------------------------


def test_worked_by_hand():
    """Chunks of 1 or 2 tokens with equal chance: N(1) = 1, N(2) = 1.5, N(3) = 1 + (N(2) + N(1))/2.

    A chunk of 2 cut down to 1 costs half: C(1) = (10 + 15)/2, C(2) = (10 + C(1) + 30)/2,
    C(3) = (10 + C(2) + 30 + C(1))/2.
    """
    cost = cut_cost([1, 2], [10, 30], [3])
    assert cost.chunks.expected == 2.25
    assert cost.token_steps.expected == pytest.approx((10 + 26.25 + 30 + 12.5) / 2)


def test_chunks_that_are_alike_leave_no_doubt():
    cost = cut_cost([10] * 5, [500] * 5, [25, 24, 10])
    assert cost.chunks.low == cost.chunks.expected == cost.chunks.high == 3 + 3 + 1
    # The last chunks cost in proportion to their 5 and 4 tokens.
    whole = 500 * (2.5 + 2.4 + 1)
    for value in (cost.token_steps.low, cost.token_steps.expected, cost.token_steps.high):
        assert value == pytest.approx(whole)


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_holds_the_expected_value(seed):
    draw = random.Random(seed)
    lengths = [draw.randint(1, 40) for _ in range(12)]
    costs = [draw.randint(1, 90) * length for length in lengths]
    cost = cut_cost(lengths, costs, [90] * 10, seed)
    assert holds(cost.chunks)
    assert holds(cost.token_steps)
    assert cost.chunks.low < cost.chunks.high


def test_more_tokens_need_more():
    found = [cut_cost(LENGTHS, COSTS, [n] * 4) for n in range(10, 90, 7)]
    for name in ("chunks", "token_steps"):
        values = [getattr(cost, name).expected for cost in found]
        assert values == sorted(set(values))


def test_twice_the_stretches_take_twice_as_much_and_are_surer():
    once, twice = (cut_cost(LENGTHS, COSTS, [88] * count) for count in (8, 16))
    assert twice.chunks.expected == pytest.approx(2 * once.chunks.expected)
    assert twice.token_steps.expected == pytest.approx(2 * once.token_steps.expected)
    assert twice.chunks.high - twice.chunks.low < 2 * (once.chunks.high - once.chunks.low)


def test_the_expected_count_is_that_of_cutting():
    """Against cutting itself, 20,000 times: an independent way to the same number."""
    draw = random.Random(0)
    counts = []
    for _ in range(20_000):
        left, count = 88, 0
        while left > 0:
            left -= draw.choice(LENGTHS)
            count += 1
        counts.append(count)
    mean = sum(counts) / len(counts)
    # Four standard errors of a count that varies by about one.
    assert cut_cost(LENGTHS, COSTS, [88]).chunks.expected == pytest.approx(mean, abs=0.03)


def test_nineteen_texts_of_twenty_fall_into_the_interval():
    """Both sources of doubt at once: few chunks are measured, and the text has chunks of its own.

    With 12 measured chunks a percentile bootstrap is somewhat short of 95 %.
    """
    draw = random.Random(1)
    inside = 0
    for trial in range(40):
        lengths = [draw.choice(LENGTHS) for _ in range(12)]
        cost = cut_cost(lengths, lengths, [88] * 6, trial)
        count = 0
        for _ in range(6):
            left = 88
            while left > 0:
                left -= draw.choice(LENGTHS)
                count += 1
        inside += cost.chunks.low <= count <= cost.chunks.high
    assert 34 <= inside <= 40  # binomial(40, 0.93): below 34 about once in a hundred


@pytest.mark.parametrize(
    ("lengths", "costs", "stretches"),
    [([10], [10], [20]), ([10, 11], [10], [20]), ([10, 0], [1, 1], [20]), ([10, 11], [1, 1], [])],
)
def test_what_no_estimate_can_come_from(lengths, costs, stretches):
    with pytest.raises(UsageError, match=r"chunks|must be 1 or more"):
        cut_cost(lengths, costs, stretches)


def test_samples_are_spread_over_the_text():
    starts = sample_starts(1000, 10, seed=3)
    assert [start // 100 for start in starts] == list(range(10))
    assert starts == sample_starts(1000, 10, seed=3) != sample_starts(1000, 10, seed=4)


@pytest.mark.parametrize("n_tokens", [2, 3, 16, 17, 30])
def test_samples_are_all_different_however_short_the_text(n_tokens):
    for samples in {2, n_tokens // 2 + 1, n_tokens}:
        for seed in range(50):
            starts = sample_starts(n_tokens, samples, seed)
            assert len(set(starts)) == samples
            assert starts == sorted(starts)
            assert starts[0] >= 0
            assert starts[-1] < n_tokens


# -- the size -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "vectors", "text"), [("float32", 1, TEXT[:66]), ("bfloat16", 3, TEXT)]
)
def test_the_estimated_size_is_that_of_the_file(tiny_folder, dtype, vectors, text):
    """Exact but for the digits of the header's sizes, once chunks and corrections are the same."""
    lm = memcram.load_lm(str(tiny_folder), device="cpu", dtype=dtype)
    found = plan(text, lm, vectors=[vectors], steps=10, samples=4).plans[0]
    archive = memcram.compress(text, lm, vectors=vectors, steps=10)
    t = archive.tensors
    # Vectors, and their number, the number of tokens and the margin (4 bytes each).
    chunk = vectors * 32 * lm.dtype.itemsize + 12
    expected = found.archive_bytes.expected
    expected += chunk * (len(archive.chunk_tokens) - found.chunks.expected)
    fraction = sum(one.corrections + one.guards for one in found.measured) / len(found.measured)
    counted = len(t.correction_positions) + len(t.guard_positions)
    expected += 12 * (counted - fraction * found.chunks.expected)
    # Below: rounded counts. Above: at most 12 digits for each of 13 tensors.
    assert -24 <= len(archive.to_bytes()) - expected <= 160


# -- the whole ----------------------------------------------------------------------------------


def test_a_sample_is_the_chunk_that_compress_makes(tiny_lm):
    """The first chunk of a stretch, with the same start and seed, has the same length."""
    recipe = archive_recipe("default", 10, tiny_lm)
    ids = tiny_lm.tokenize(TEXT[:40])
    cut = chunk_plan(tiny_lm, len(ids), 1, None, 0)
    chunks = list(cram_chunks(tiny_lm, recipe, torch.tensor(ids), cut))
    [first] = [chunk for chunk in chunks if chunk.start == 0]
    request = memcram.CramRequest(0, torch.tensor(ids)[: estimate._reach(cut)], 1, 0)
    engine = memcram.Engine(tiny_lm, recipe.for_horizon())
    [crammed] = engine.run([request])
    assert estimate._measured(engine, 0, request, crammed).n_tokens == first.n_tokens


@pytest.mark.parametrize(("steps", "patience", "ended"), [(10, 200, 3), (200, 2, 0)])
def test_a_plan_counts_the_chunks_that_the_budget_ended(tiny_lm, steps, patience, ended):
    """The others ended because they no longer got better."""
    recipe = memcram.get_recipe("default")
    impatient = dataclasses.replace(recipe.horizon, patience=patience)
    recipe = dataclasses.replace(recipe, horizon=impatient).with_steps(steps)
    found = plan(TEXT, tiny_lm, recipe=recipe, samples=3).plans[0]
    assert found.budget_ended == ended == sum(one.budget_ended for one in found.measured)
    assert all((one.steps >= steps) == one.budget_ended for one in found.measured)


def test_a_plan_is_the_same_again_and_whoever_shares_the_batch(tiny_lm):
    one = plan(TEXT, tiny_lm, vectors=[2], steps=10, samples=3, seed=5)
    both = plan(TEXT, tiny_lm, vectors=[1, 2], steps=10, samples=3, seed=5)
    assert one.plans[0].measured == both.plans[1].measured
    assert one.plans[0].vectors == both.plans[1].vectors
    assert one.plans[0].archive_bytes == both.plans[1].archive_bytes


def test_measured_chunks_of_one_plan_serve_another(tiny_lm, monkeypatch):
    whole = plan(TEXT, tiny_lm, steps=10, samples=4).plans[0]
    monkeypatch.setattr(estimate, "_measure", lambda *_: pytest.fail("crammed again"))
    part = plan(TEXT[:66], tiny_lm, measured={1: whole.measured}).plans[0]
    # Stretches are alike but for a token, so that a quarter of the text takes about a quarter.
    assert part.chunks.expected == pytest.approx(whole.chunks.expected / 4, rel=0.1)
    assert part.token_steps.expected == pytest.approx(whole.token_steps.expected / 4, rel=0.1)
    doubled = [
        dataclasses.replace(one, n_tokens=2 * one.n_tokens, token_steps=3 * one.token_steps)
        for one in whole.measured
    ]
    with pytest.raises(UsageError, match=r"^measured: got \[1\], allowed: chunks of every K"):
        plan(TEXT, tiny_lm, vectors=(1, 2), measured={1: doubled})
    longer = plan(TEXT, tiny_lm, measured={1: doubled}).plans[0]
    assert longer.chunk_tokens.mean == 2 * whole.chunk_tokens.mean
    assert longer.chunks.expected < 0.75 * whole.chunks.expected
    assert longer.token_steps.expected > 1.2 * whole.token_steps.expected


def test_the_command(capsys, tmp_path, tiny_folder):
    book = tmp_path / "book.txt"
    book.write_text(TEXT)
    arguments = ["plan", str(book), "--model", str(tiny_folder), "--device", "cpu"]
    arguments += ["-K", "1", "-K", "2", "--steps", "10", "--samples", "3"]
    assert run([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = json.loads(out)
    assert report["tokens"] == len(TEXT) == report["text_bytes"]  # one token a byte
    settings = get_recipe("default").with_steps(10).settings()
    assert report["settings"] == json.loads(json.dumps(settings))
    assert [one["vectors_per_chunk"] for one in report["plans"]] == [1, 2]
    for one in report["plans"]:
        k = one["vectors_per_chunk"]
        assert one["vectors"]["expected"] == k * one["chunks"]["expected"]
        held = one["tokens_per_vector"]
        assert held["low"] <= held["expected"] <= held["high"]
        assert one["share_of_bound"]["expected"] == pytest.approx(
            held["expected"] / report["bound_tokens"]
        )
        rate = one["token_steps_per_second"]
        assert one["seconds"]["expected"] == pytest.approx(one["token_steps"]["expected"] / rate)
        assert len(one["measured"]) == 3
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    for word in ("K = 1", "K = 2", "vectors", "archive_bytes", "seconds"):
        assert word in shown
    assert list(tmp_path.iterdir()) == [book]


@pytest.mark.parametrize(
    ("text", "options", "names"),
    [
        ("The ferry.", [], ["10 tokens", "needed: 64", "16 chunks"]),
        ("", [], ["empty"]),
        (TEXT, ["--samples", "1"], ["--samples", "1"]),
        (TEXT, ["-K", "1", "-K", "1"], ["--vectors", "1, 1"]),
        (TEXT, ["-K", "129", "--samples", "2"], ["--vectors", "129"]),
        (TEXT, ["--recipe", "kuratov2025+t1"], ["--recipe", "default"]),
        (TEXT, ["--recipe", "kuratov2025"], ["--recipe"]),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(capsys, tmp_path, tiny_folder, text, options, names):
    book = tmp_path / "book.txt"
    book.write_text(text)
    model = ["--model", str(tiny_folder), "--device", "cpu"]
    assert run(["plan", str(book), *model, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for name in names:
        assert name in err


def test_a_text_is_refused_before_anything_is_crammed(tiny_lm, monkeypatch):
    monkeypatch.setattr("memcram.engine.loop.Engine.run", lambda *_: pytest.fail("crammed"))
    with pytest.raises(TextError, match="needed"):
        plan("The ferry.", tiny_lm)
