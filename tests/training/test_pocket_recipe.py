"""The training recipe on a tiny model: growth, resuming, windows, and the whole command."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer

from training.pocket import card, data, evaluate, scan
from training.pocket import learner as learning
from training.pocket import model as models
from training.pocket import train as training

SHAPE = models.Shape("llama", width=64, layers=2, vocabulary=300, feed_forward=96)
WORDS = ["the", "old", "house", "stood", "by", "a", "river", "and", "she", "said", "nothing"]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    folder = tmp_path_factory.mktemp("books")
    random = np.random.default_rng(0)
    for number in range(4):
        lines = [" ".join(random.choice(WORDS, 12)) + "." for _ in range(60)]
        (folder / f"book{number}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def corpus():
    tokens = np.random.default_rng(0).integers(1, 300, 4000).astype(np.uint16)
    return data.Corpus(tokens[:3000], tokens[3000:], 1, 1)


def learner(shape=SHAPE, workers=2):
    batching = learning.Batching(64, micro_tokens=16, lengths=(16, 32), workers=workers)
    return learning.Learner(models.build(shape.config(), 0), learning.Optimising(), batching, "cpu")


def run(trained, corpus, tokens, out, **options):
    schedule = training.Schedule(training.Budget(tokens=tokens), 128, 99.0, 4)
    return training.train(trained, corpus, schedule, out, tokenizer=out, **options)


def weights(trained):
    return {name: p.detach() for name, p in trained.model.named_parameters()}


@pytest.mark.parametrize(
    "grown",
    [
        replace(SHAPE, width=128),
        replace(SHAPE, layers=4),
        replace(SHAPE, feed_forward=160),
        replace(SHAPE, width=192, layers=3, feed_forward=256),
    ],
)
def test_growth_preserves_logits(grown):
    old = models.build(SHAPE.config(), 0)
    with torch.no_grad():  # norms of a trained model are not all ones
        for name, parameter in old.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 2.0)
    new = models.grow(old, grown, 1)
    ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # float32 sums in another order: 1e-5 of logits of order 1
        torch.testing.assert_close(new(ids).logits, old(ids).logits, atol=1e-5, rtol=1e-5)


def test_every_part_of_a_grown_model_learns(corpus):
    new = models.grow(models.build(SHAPE.config(), 0), replace(SHAPE, width=128, layers=3), 1)
    before = {name: p.detach().clone() for name, p in new.named_parameters()}
    grown = learning.Learner(new, learning.Optimising(), learning.Batching(64, 64, (16,)), "cpu")
    for step in range(2):  # the first step moves what writes, the second what reads
        grown.step(data.Windows(corpus.train, 0).batch(64 * step, 4, 16), 1.0)
    for name, after in weights(grown).items():
        if not name.endswith("lm_head.weight"):
            assert (after != before[name])[..., -8:].any(), name


def test_growth_refuses_to_shrink():
    old = models.build(SHAPE.config(), 0)
    with pytest.raises(ValueError, match="num_hidden_layers: 2 cannot grow to 1"):
        models.grow(old, replace(SHAPE, layers=1), 0)


def test_resumed_equals_uninterrupted_bitwise(corpus, tmp_path):
    whole = learner()
    end = run(whole, corpus, 256, tmp_path / "whole")
    run(learner(), corpus, 256, tmp_path / "cut", stop_after=2)
    resumed = learner()
    again = run(resumed, corpus, 256, tmp_path / "cut", resume=True)
    assert (again.tokens, again.steps) == (end.tokens, end.steps) == (256, 4)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    rows = [
        [line.split(",")[0] for line in (tmp_path / name / "curve.csv").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert rows[0] == ["tokens", "0", "128", "256"]
    assert [row.removesuffix(".0") for row in rows[1]] == rows[0]


def test_weights_do_not_depend_on_the_workers_share(corpus, tmp_path):
    results = []
    for workers in (1, 2):
        trained = learner(workers=workers)
        run(trained, corpus, 128, tmp_path / str(workers))
        results.append(weights(trained))
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


def test_windows_cover_an_epoch_once_and_half_begin_with_bos():
    tokens = np.arange(1, 1601, dtype=np.uint16)
    rows = data.Windows(tokens, seed=3).batch(0, 99, 16)
    assert (rows[:, 0] == data.BOS_ID).sum() == 50
    assert rows[1::2, 0].unique().numel() == 49
    later = data.Windows(tokens, seed=3).batch(40 * 16, 59, 16)
    assert torch.equal(later[:, 2:], rows[40:, 2:])


@pytest.mark.filterwarnings("ignore::UserWarning")  # transformers: slow path of Mamba
def test_the_scan_of_training_is_that_of_transformers():
    config = replace(SHAPE, arch="mamba", state=4).config()
    ids = torch.randint(0, 300, (2, 13), generator=torch.Generator().manual_seed(0))
    found = []
    for fast in (False, True):
        net = models.build(config, 0).double()
        with scan.used() if fast else contextlib.nullcontext():
            logits = net(ids, use_cache=False).logits
        logits.sum().backward()
        gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        found.append((logits.detach(), gradients))
    (slow, slow_gradients), (quick, quick_gradients) = found
    # float32 in both scans: 1e-6 of the logits, and of the largest gradient of a tensor
    torch.testing.assert_close(quick, slow, atol=1e-5, rtol=1e-5)
    assert slow_gradients.keys() == quick_gradients.keys()
    for name, gradient in slow_gradients.items():
        error = (quick_gradients[name] - gradient).abs().max()
        assert error <= 1e-5 * gradient.abs().max(), name


def test_budget_and_trapezoid():
    rates = learning.Optimising(warm_up=0.1, decay=0.5)
    assert [round(rates.factor(p), 3) for p in (0.0, 0.2, 0.5, 0.75, 1.0)] == [0.01, 1, 1, 0.5, 0]
    at = learning.Position(tokens=50, minutes=3.0)
    assert training.Budget(tokens=100).progress(at) == 0.5
    assert training.Budget(minutes=2.0).progress(at) == 1.0


def test_cleaning_unwraps_and_strips():
    raw = (
        "Header\n*** START OF THIS BOOK ***\nOne\ntwo.\n\nThree  four.\n*** END OF IT ***\nLicence"
    )
    assert data.clean(raw) == "One two.\nThree four.\n"
    assert data.clean("A line.\nAnother.\n") == "A line.\nAnother.\n"


@pytest.mark.parametrize("arch", ["llama", "neox", "mamba"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # transformers: slow path of Mamba
def test_command_from_books_to_card(arch, books, tmp_path):
    ended = CliRunner().invoke(
        training.main,
        f"--texts {books} --out {tmp_path / arch} --arch {arch} --width 64 --layers 1 "
        "--vocabulary 300 --held-out 1 --tokens 128 --length 32 --step-tokens 64 "
        "--micro-tokens 32 --validate-tokens 64 --snapshot 0 --snapshot 64",
        catch_exceptions=False,
    )
    assert ended.exit_code == 0, ended.output
    points = tmp_path / arch / "points"
    assert {path.name for path in points.iterdir()} == {"0", "64"}
    folder = tmp_path / arch / "model"
    quality = tmp_path / "quality.json"
    command = f"{folder} --texts {books} --windows 1 --length 64 --json {quality}"
    assert CliRunner().invoke(evaluate.main, command, catch_exceptions=False).exit_code == 0
    horizons = tmp_path / "horizons.json"
    row = {"k": 4, "mean": 31.25, "sd": 2.0, "texts": 8, "recipe": "default"}
    horizons.write_text(json.dumps([row]))
    facts = tmp_path / arch / "run.json"
    command = f"{folder} --name tiny --run {facts} --quality {quality} --horizons {horizons}"
    command += " --note 'killed once'"
    assert CliRunner().invoke(card.main, command, catch_exceptions=False).exit_code == 0
    text = (folder / "README.md").read_text()
    assert text.startswith("# tiny\n")
    assert "horizon, K = 4 | 31.2 tokens" in text
    assert "decays linearly to zero; killed once |" in text
    measured = json.loads(quality.read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.decode(tokenizer.encode("Ünïcode — ok").ids) == "Ünïcode — ok"
    # hardly trained: about a uniform guess; Mamba's start is wider than the others'
    assert measured["nats_per_token"] == pytest.approx(np.log(300), abs=1.0)
