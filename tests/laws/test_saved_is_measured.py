"""Saved vectors are the measured ones, not those after the next step."""

import pytest
import torch

import memcram
from memcram import CramRequest, Engine
from memcram.engine.best import keep_best
from memcram.models.accounting import margins


def remeasure(lm, mem, ids):
    """Margins from the whole module, without the engine's batch, trunk or head."""
    embeds = torch.cat([mem, lm.prefix, lm.embed(ids[:-1])])[None]
    with torch.no_grad():
        logits = lm.module(inputs_embeds=embeds, use_cache=False).logits[0]
    return margins(logits[len(mem) + len(lm.prefix) - 1 :], ids)


def steps_before_it_keeps(batch, strategy, loss, margin):
    """The mistake of the published code: what is kept was never measured."""
    trained = batch.rows.parameters["mem"]
    trained.value -= torch.ones_like(trained.value)
    return keep_best(batch, strategy, loss, margin)


@pytest.mark.parametrize("poll_every", [1, 8])
@pytest.mark.parametrize("layout", ["mem", "mem+bos"])
def test_measuring_the_saved_vectors_again_gives_the_saved_margins(prose, layout, poll_every):
    lm = memcram.load_lm("pocket", device="cpu", layout=layout)
    wanted = [CramRequest(n, prose[n : 2 * n], vectors=k) for n, k in [(7, 1), (24, 2), (40, 1)]]
    texts = {request.key: request.ids for request in wanted}
    recipe = memcram.get_recipe("default").with_steps(21)
    for one in Engine(lm, recipe, poll_every=poll_every).run(wanted):
        again = remeasure(lm, one.mem, texts[one.key])
        assert int((again > 0).sum()) == one.n_correct
        # float32 rounding of logits between two batch shapes; a step moves margins by whole logits
        torch.testing.assert_close(again, one.margins, rtol=0, atol=1e-3)


def test_stepping_before_keeping_is_detected(pocket, prose, monkeypatch):
    monkeypatch.setattr("memcram.engine.loop.keep_best", steps_before_it_keeps)
    ids = prose[:24]
    recipe = memcram.get_recipe("direct").with_steps(10)
    [wrong] = Engine(pocket, recipe).run([CramRequest("a", ids, 2)])
    shift = (remeasure(pocket, wrong.mem, ids) - wrong.margins).abs().max()
    assert shift > 0.1


def test_random_vectors_of_the_same_norm_do_not_decode_to_the_text(pocket):
    text = "The ferry was late, and nobody noticed."
    crammed = memcram.cram(text, pocket, vectors=2)
    n = len(crammed.margins)
    assert pocket.detokenize(pocket.generate(crammed.mem, n).tolist()) == text
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        noise = torch.randn(crammed.mem.shape, generator=generator)
        noise *= crammed.mem.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
        assert pocket.detokenize(pocket.generate(noise, n).tolist()) != text
