"""Where a loss spends its gradient: against autograd, on a batch of one, and as a figure."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import gradients
from memcram.recipes.objectives import CrossEntropy, SmoothMargin


@pytest.mark.parametrize("objective", [CrossEntropy(), SmoothMargin(0.3)], ids=str)
def test_norms_are_those_of_autograd(objective):
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(6, 11, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    targets = torch.randint(11, (6,), generator=generator)
    objective(logits, targets).loss.sum().backward()
    found = gradients.gradient_norms(objective, logits.detach(), targets)
    assert torch.allclose(found.double(), logits.grad.norm(dim=-1), rtol=1e-5)


def test_padding_is_left_out_and_the_loss_is_unchanged():
    logits = torch.zeros(4, 3)
    logits[torch.arange(4), torch.tensor([0, 1, 2, 2])] = torch.tensor([2.0, 1.0, 3.0, 9.0])
    targets = torch.tensor([0, 1, 0, 2])  # right by 2 and by 1, wrong by 3, and padding
    watched = gradients.Watched(SmoothMargin(1.0), 3)
    scores = watched(logits, targets)
    assert torch.equal(scores.loss, SmoothMargin(1.0)(logits, targets).loss)
    [(right, smallest, on_right)] = watched.seen
    weights = [1 / (1 + np.exp(margin)) for margin in (2.0, 1.0, -3.0)]
    assert right == pytest.approx(2 / 3)
    assert smallest == pytest.approx(-3.0)
    assert on_right == pytest.approx(sum(weights[:2]) / sum(weights), rel=1e-5)


def test_command(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("The lamp in the harbour went out at nine. " * 30)
    out = tmp_path / "out.json"
    options = ["--samples", "2", "--length", "4", "--steps", "3", "--figures", str(tmp_path)]
    result = CliRunner().invoke(gradients.main, [str(tmp_path), *options, "-o", str(out)])
    assert result.exit_code == 0, result.output
    lines = json.loads(out.read_text())["summary"]
    assert [line["recipe"] for line in lines] == ["default", "default@objective=CrossEntropy"]
    # The same start: both losses see the same margins before the first step.
    first, second = (line["medians"]["0"] for line in lines)
    assert first["min_margin"] == second["min_margin"]
    assert (tmp_path / "gradients.png").stat().st_size > 0
