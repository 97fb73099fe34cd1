"""Gauss-Newton on margins, and the script that lets optimisers go on from the same vectors."""

import json

import torch
from click.testing import CliRunner

import last_stretch
from arena import gauss_newton
from memcram import CramRequest, Engine
from memcram.models.accounting import margins
from memcram.recipes.catalogue import get_recipe


def test_the_jacobian_is_that_of_each_margin(tiny_lm):
    ids = torch.tensor([5, 6, 7])
    mem = torch.randn(2, tiny_lm.input_width, generator=torch.Generator().manual_seed(0)).to(
        tiny_lm.dtype
    )
    found, jacobian = gauss_newton._margins_and_jacobian(tiny_lm, mem, ids)
    for i in range(3):
        one = mem.clone().requires_grad_()
        fed = torch.cat([one, tiny_lm.prefix, tiny_lm.embed(ids[:-1])])[None]
        logits = tiny_lm.head(tiny_lm.hidden(fed))[0, -3:]
        margin = margins(logits, ids)[i]
        [gradient] = torch.autograd.grad(margin, one)
        torch.testing.assert_close(found[i], margin.detach())
        torch.testing.assert_close(jacobian[i], gradient.flatten(), rtol=1e-4, atol=1e-5)


def test_a_step_brings_linear_margins_to_the_goal_and_loses_none():
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    # The last one is far from the guard, until its gradient opposes that of the first.
    jacobian[3] = -3 * jacobian[0] + 0.1 * jacobian[3]
    found = torch.tensor([-1.0, 0.1, -0.5, 0.4], dtype=torch.float64)
    step = gauss_newton._step(found, jacobian, 1e-9, goal=0.05, guard=0.3)
    after = found + jacobian @ step
    assert (after[[0, 2]] - 0.05).abs().max() < 1e-3
    assert (after > 0.04).all()


def test_it_holds_no_less_than_before_and_stays_within_its_budget(pocket, prose):
    recipe = get_recipe("direct").with_steps(40).for_horizon()
    [crammed] = Engine(pocket, recipe).run([CramRequest("a", prose[:40], 1)])
    pressed = gauss_newton.press_on(pocket, crammed.mem, prose[:40], crammed.n_right, 4000)
    assert pressed.held >= crammed.n_right
    one_turn = (pressed.held + 1 + 10) * (pressed.held + 1)
    assert 0 < pressed.token_steps <= 4000 + one_turn
    back = pocket.generate(pressed.mem, pressed.held)
    assert torch.equal(back, prose[: pressed.held])


def test_command(tmp_path, tiny_folder, books):
    out = tmp_path / "found.json"
    words = [str(books), "--model", str(tiny_folder), "--samples", "2", "--max-tokens", "24"]
    words += ["--budget", "200", "--more", "200", "-o", str(out)]
    done = CliRunner().invoke(last_stretch.main, words)
    assert done.exit_code == 0, done.output
    lines = json.loads(out.read_text())["lines"]
    assert lines[0]["name"] == "direct"
    assert lines[-1]["name"] == "then gauss-newton"
    assert all(line["texts"] == 2 for line in lines)
    refused = CliRunner().invoke(last_stretch.main, [*words, "--on", "default"])
    assert refused.exit_code == 2
    assert "can't begin from vectors" in refused.output
