"""Growing and backing off, as a table of decisions and through the engine and the command."""

import dataclasses
import json
import math

import pytest
import torch

import memcram
from memcram import CramRequest, Engine
from memcram.cli import run
from memcram.recipes.strategies import Continue, Measurement, Outcome, Retarget, Stop
from memcram.recipes.strategies.horizon import Horizon
from memcram.study.horizon import longest_sample, measure_horizons
from memcram.texts import TextSample

STRATEGY = Horizon(steps=100, patience=20, first=8, growth=0.0, lookahead=4, margin=0.02)
TEXT = "The lamp in the harbour went out at nine, and nobody noticed until the ferry was late. "


def measured(**changes):
    usual = {
        "step": 10,
        "n_tokens": 8,
        "n_held": 3,
        "max_held": 5,
        "max_held_step": 9,
        "min_margin": -1.0,
        "loss": 1.0,
        "text_tokens": 40,
        "token_steps": 500,
    }
    return Measurement(**(usual | changes))


RIGHT, SPENT = Stop(Outcome.CORRECT), Stop(Outcome.BUDGET_EXHAUSTED)
TABLE = {
    "not yet held": ({}, Continue()),
    "all held": ({"n_held": 8, "max_held": 8}, Retarget(9)),
    "lookahead is taken along": ({"n_held": 11, "max_held": 11}, Retarget(12)),
    "never beyond the text": ({"n_held": 8, "max_held": 8, "text_tokens": 9}, Retarget(9)),
    "all of the text": ({"n_tokens": 40, "n_held": 40, "max_held": 40}, RIGHT),
    "all of the text by lookahead": ({"n_tokens": 38, "n_held": 40, "max_held": 40}, RIGHT),
    "the text was held before": ({"n_tokens": 40, "n_held": 2, "max_held": 40}, RIGHT),
    "one step before the budget": ({"step": 99, "max_held_step": 90}, Continue()),
    "budget": ({"step": 100, "max_held_step": 99}, SPENT),
    "budget beats growth": ({"step": 100, "n_held": 8, "max_held": 8}, SPENT),
    "success at the end of the budget": (
        {"step": 100, "n_tokens": 40, "n_held": 40, "max_held": 40},
        RIGHT,
    ),
    "patience not over": ({"step": 28}, Continue()),
    "back off by half": (
        {"step": 29, "n_tokens": 13},
        Retarget(9, restore=True),
    ),
    "back off from two over": ({"step": 29, "n_tokens": 7}, Retarget(6, restore=True)),
    "aim one beyond": ({"step": 29, "n_tokens": 6}, SPENT),
    "nothing ever held": (
        {"step": 29, "n_held": 0, "max_held": 0, "max_held_step": 0},
        Retarget(4, restore=True),
    ),
    "not even one": (
        {"step": 29, "n_tokens": 1, "n_held": 0, "max_held": 0, "max_held_step": 0},
        SPENT,
    ),
}


@pytest.mark.parametrize(("changes", "decision"), TABLE.values(), ids=TABLE.keys())
def test_decisions(changes, decision):
    assert STRATEGY.decide(measured(**changes)) == decision


def test_growth_is_a_fraction_of_the_tokens_held():
    growing = dataclasses.replace(STRATEGY, growth=0.25)
    assert growing.decide(measured(n_held=12, max_held=12)) == Retarget(15)
    assert growing.decide(measured(n_tokens=3, n_held=3, max_held=3)) == Retarget(4)
    assert growing.decide(measured(n_held=38, max_held=38)) == Retarget(40)


def test_no_state_retargets_outside_the_text():
    for text in (1, 2, 9):
        assert 1 <= STRATEGY.first_target(text) <= text
        for aim in range(1, text + 1):
            for most in range(text + 1):
                for held in range(most + 1):
                    for step in (0, 19, 20, 99, 100):
                        seen = {"step": step, "max_held_step": 0, "n_tokens": aim}
                        seen |= {"n_held": held, "max_held": most, "text_tokens": text}
                        decision = STRATEGY.decide(measured(**seen))
                        if isinstance(decision, Retarget):
                            assert max(1, most if decision.restore else held) <= decision.n_tokens
                            assert decision.n_tokens <= text
                        if step >= 100:
                            assert isinstance(decision, Stop)


def test_backing_off_ends():
    aim, rounds = 40, 0
    while isinstance(decision := STRATEGY.decide(measured(step=29, n_tokens=aim)), Retarget):
        assert decision.n_tokens < aim
        aim, rounds = decision.n_tokens, rounds + 1
    assert decision == SPENT
    assert rounds <= 6  # log2(40 − 5), rounded up


# -- through the engine ------------------------------------------------------------------------


def horizon_recipe(**changes):
    recipe = memcram.get_recipe("default")
    settings = {"steps": 120, "patience": 40} | changes
    return dataclasses.replace(recipe, strategy=dataclasses.replace(recipe.horizon, **settings))


def requests(prose):
    shapes = [(60, 1), (90, 2), (20, 1), (3, 1)]
    return [CramRequest(n, prose[n : 2 * n], k, seed=n) for n, k in shapes]


@pytest.fixture(scope="module")
def grown(pocket, prose):
    engine = Engine(pocket, horizon_recipe())
    return {one.key: one for one in engine.run(requests(prose))}


def test_the_prefix_decodes_free_running(pocket, prose, grown):
    for request in requests(prose):
        one = grown[request.key]
        assert 0 < one.n_correct <= len(request.ids)
        assert len(one.margins) == one.n_correct
        assert (one.margins > STRATEGY.margin).all()
        decoded = pocket.generate(one.mem, one.n_correct)
        assert torch.equal(decoded, request.ids[: one.n_correct])
        assert (one.outcome == Outcome.CORRECT) == (one.n_correct == len(request.ids))


def test_bitwise_the_same_alone_and_in_a_batch(pocket, prose, grown):
    for request in requests(prose):
        [alone] = Engine(pocket, horizon_recipe()).run([request])
        together = grown[request.key]
        assert torch.equal(alone.mem, together.mem), request.key
        assert torch.equal(alone.margins, together.margins), request.key
        assert (alone.n_correct, alone.steps) == (together.n_correct, together.steps)


def test_out_of_memory_in_the_middle_changes_nothing(pocket, prose, grown):
    class Tight(Engine):
        turns = 0

        def _turn(self, batch, *, poll):
            self.turns += 1
            if self.turns in (10, 40) and len(batch.slots) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return super()._turn(batch, poll=poll)

    engine = Tight(pocket, horizon_recipe())
    found = {one.key: one for one in engine.run(requests(prose))}
    assert engine.turns > 40
    for key, one in grown.items():
        assert torch.equal(one.mem, found[key].mem), key
        assert (one.n_correct, one.steps) == (found[key].n_correct, found[key].steps)


def test_back_off_restores_the_vectors_that_held(pocket, prose):
    """A patience of 3 steps backs off often; what is held is never lost again."""
    seen = []

    class Watched(Engine):
        def _follow(self, batch, decisions):
            seen.extend((d.n_tokens, d.restore) for d in decisions.values() if _is_retarget(d))
            return super()._follow(batch, decisions)

    recipe = horizon_recipe(patience=3)
    [one] = Watched(pocket, recipe).run([CramRequest("a", prose[:60])])
    assert any(restore for _, restore in seen)
    assert torch.equal(pocket.generate(one.mem, one.n_correct), prose[: one.n_correct])


def _is_retarget(decision):
    return isinstance(decision, Retarget)


def sample(pocket, text):
    return TextSample("here", 0, torch.tensor(pocket.tokenize(text)), text)


def test_an_easy_short_text_is_censored_and_a_hard_one_is_not(pocket):
    easy, hard = "la la la la la la la la", TEXT * 2
    samples = [sample(pocket, easy), sample(pocket, hard)]
    recipe = memcram.get_recipe("default").with_steps(150)
    first, second = measure_horizons(pocket, samples, recipe)
    assert (first.censored, first.horizon) == (True, len(samples[0].ids))
    assert not second.censored
    assert 0 < second.horizon < len(samples[1].ids)
    for one in (first, second):
        assert one.min_margin > 0
        assert one.steps <= 150
        assert one.token_steps > 0


def test_a_horizon_never_exceeds_what_the_engine_holds(pocket, monkeypatch):
    held = []
    real = Engine.run

    def watched(self, *arguments):
        for one in real(self, *arguments):
            held.append((one.key, one.n_correct))
            yield one

    monkeypatch.setattr(Engine, "run", watched)
    texts = [TEXT, TEXT[9:], TEXT[20:] + TEXT]
    samples = [sample(pocket, text) for text in texts]
    recipe = memcram.get_recipe("default").with_steps(40)
    found = measure_horizons(pocket, samples, recipe)
    for key, n_correct in held:
        assert found[key].horizon <= n_correct <= len(samples[key].ids)


def test_bits_per_dimension_are_those_of_the_tokens_held(pocket):
    """t₁ is left out: the bare LM does not predict it."""
    recipe = memcram.get_recipe("default").with_steps(60)
    [found] = measure_horizons(pocket, [sample(pocket, TEXT)], recipe, vectors=2)
    assert found.horizon > 2
    [bare] = memcram.score(pocket, [sample(pocket, TEXT).ids[: found.horizon]])
    assert found.lm_nats == pytest.approx(bare.nats[1:].sum().item(), rel=1e-5)
    bits = found.lm_nats / math.log(2)
    assert found.bits_per_dimension == pytest.approx(bits / (2 * pocket.input_width))


@pytest.mark.parametrize(
    ("changes", "ended"),
    [({"steps": 2}, True), ({"patience": 2}, False), ({"tokens": 20}, True)],
)
def test_a_budget_that_ended_a_text_is_told_from_the_patience(pocket, changes, ended):
    recipe = memcram.get_recipe("default@horizon.patience=" + str(changes.get("patience", 200)))
    if "tokens" in changes:
        recipe = recipe.with_token_steps(changes["tokens"])
    recipe = recipe if "steps" not in changes else recipe.with_steps(changes["steps"])
    [found] = measure_horizons(pocket, [sample(pocket, TEXT + TEXT[9:])], recipe)
    assert not found.censored
    assert found.budget_ended is ended


# -- the command -------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "one.txt").write_text(TEXT * 4)
    (tmp_path / "book" / "two.txt").write_text(TEXT[::-1] * 4)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9")
    return tmp_path


def test_json(place, capsys):
    arguments = ["--samples", "3", "--steps", "12", "--vectors", "2", "--max-tokens", "20"]
    assert run(["horizon", "book", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = json.loads(out)
    fields = "n mean_tokens std_tokens ci95_tokens censored samples"
    assert set(fields.split()) <= set(report)
    assert report["n"] == len(report["samples"]) == 3
    for one in report["samples"]:
        fields = "origin offset horizon steps min_margin censored"
        assert set(fields.split()) <= set(one)
        assert 0 <= one["horizon"] <= 20
        assert one["steps"] <= 12
        assert (one["min_margin"] is None) == (one["horizon"] == 0)
    assert {one["origin"] for one in report["samples"]} == {"one.txt", "two.txt"}
    horizons = [one["horizon"] for one in report["samples"]]
    assert report["mean_tokens"] == pytest.approx(sum(horizons) / 3)
    low, high = report["ci95_tokens"]
    assert low <= report["mean_tokens"] <= high
    assert report["censored"] == sum(one["censored"] for one in report["samples"])
    assert run(["horizon", "book", *arguments, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["samples"] == report["samples"]


def test_a_single_sample_has_no_spread(place, capsys):
    arguments = ["horizon", "book", "--samples", "1", "--steps", "2", "--max-tokens", "9"]
    assert run([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n"], report["std_tokens"], report["ci95_tokens"]) == (1, None, None)
    assert run(arguments) == 0
    assert "ci95_tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["empty"], ["empty", "no .txt"]),
        (["none.txt"], ["none.txt", "does not exist"]),
        (["bad.txt"], ["bad.txt", "not UTF-8", "0xe9"]),
        ([], ["TEXT"]),
        (["book", "--max-tokens", "5000"], ["--max-tokens", "5000", "1 to"]),
        (["book", "--max-tokens", "0"], ["--max-tokens", "0"]),
        (["book", "--vectors", "5000"], ["--vectors", "5000", "1024"]),
        (["book", "--vectors", "0"], ["--vectors", "0"]),
        (["book", "--samples", "0"], ["--samples", "0"]),
        (["book", "--steps", "0"], ["--steps", "0"]),
        (["book", "--recipe", "fast"], ["fast", "default"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_wrong_use_is_one_line_and_exit_2(place, capsys, arguments, names):
    assert run(["horizon", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("memcram: ")
    assert err.count("\n") == 1, err
    for name in names:
        assert name in err


def test_the_longest_sample_fits_the_positions(pocket, prose):
    longest = longest_sample(pocket, 4)
    assert longest + 4 - 1 <= pocket.max_positions
    with pytest.raises(memcram.UsageError, match="5000"):
        longest_sample(pocket, 5000)
