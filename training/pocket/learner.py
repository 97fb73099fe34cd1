"""Train a model: micro-batches shared by workers, the optimiser step, the checkpoint."""

from __future__ import annotations

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from training.pocket import model as models


@dataclass(frozen=True)
class Optimising:
    """Learning rates at the plateau, and the trapezoid around it, as fractions of the run."""

    muon_lr: float = 0.02
    adamw_lr: float = 0.003
    warm_up: float = 0.02
    decay: float = 0.4
    muon_momentum: float = 0.95
    adamw_betas: tuple[float, float] = (0.9, 0.95)

    def factor(self, progress: float) -> float:
        """Factor of both rates at `progress` in [0, 1]: rising, flat, then linear to zero."""
        up = (progress + 1e-3) / self.warm_up if self.warm_up > 0 else 1.0
        down = (1.0 - progress) / self.decay if self.decay > 0 else 1.0
        return max(0.0, min(1.0, up, down))


@dataclass(frozen=True)
class Batching:
    """Tokens per step and micro-batch, the window lengths that steps cycle through, and workers.

    Each worker is a thread that computes whole micro-batches on one core. Two single-threaded
    workers finish sooner than one with two threads when something else uses a core, because no
    matrix product has to wait for the slower thread.
    """

    step_tokens: int = 12_288
    micro_tokens: int = 1024
    lengths: tuple[int, ...] = (512,)
    workers: int = 2


@dataclass(frozen=True)
class Position:
    """Progress of a run: what a resumed run needs in addition to weights and optimiser."""

    steps: int = 0
    tokens: int = 0
    minutes: float = 0.0


class Learner:
    """A model, its optimisers, and the threads that share the work of a step."""

    def __init__(
        self, model: PreTrainedModel, optimising: Optimising, batching: Batching, device: str
    ) -> None:
        """Put the model on `device`; Muon takes the matrices, AdamW embeddings, norms, biases."""
        self.model = model.to(device).train()
        self.model.config.use_cache = False
        self.device = device
        self.batching = batching
        self.rates = optimising
        self.parameters = list(model.parameters())
        matrices = models.matrices(model)
        chosen = {id(p) for p in matrices}
        others = [p for p in self.parameters if id(p) not in chosen]
        # Muon orthogonalises each matrix separately, so workers may take the matrices in parts.
        parts = [matrices[i :: batching.workers] for i in range(batching.workers)]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                part, lr=0.0, momentum=optimising.muon_momentum, nesterov=True, weight_decay=0.0
            )
            for part in parts
            if part
        ]
        self.optimisers.append(
            torch.optim.AdamW(others, lr=0.0, betas=optimising.adamw_betas, weight_decay=0.0)
        )
        self.pool = ThreadPoolExecutor(batching.workers)

    def loss(self, ids: Tensor) -> Tensor:
        """Mean nats per token over windows of shape (rows, length + 1)."""
        ids = ids.to(self.device)
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16):
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits  # (B, T, V)
        return cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())

    def gradients(self, ids: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        """Loss and gradient of one micro-batch; the gradient is not shared with other workers."""
        with torch.enable_grad():
            loss = self.loss(ids)
            return float(loss.detach()), torch.autograd.grad(loss, self.parameters)

    def step(self, ids: Tensor, factor: float) -> float:
        """Take one optimiser step over windows (rows, length + 1); return nats per token before it.

        Gradients are added in the order of the micro-batches, so the result does not depend on
        which worker computed which.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        rows = max(1, self.batching.micro_tokens // (ids.shape[1] - 1))
        micro = torch.split(ids, rows)
        done = list(self.pool.map(self.gradients, micro))
        share = [len(part) / len(ids) for part in micro]
        loss = sum(s * value for s, (value, _) in zip(share, done, strict=True))
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss}")
        for index, parameter in enumerate(self.parameters):
            total = done[0][1][index] * share[0]
            for s, (_, gradient) in zip(share[1:], done[1:], strict=True):
                total.add_(gradient[index], alpha=s)
            parameter.grad = total
        for optimiser in self.optimisers:
            muon = isinstance(optimiser, torch.optim.Muon)
            for group in optimiser.param_groups:
                group["lr"] = factor * (self.rates.muon_lr if muon else self.rates.adamw_lr)
        list(self.pool.map(lambda optimiser: optimiser.step(), self.optimisers))
        return loss

    def validate(self, windows: Tensor) -> float:
        """Mean nats per token over windows (rows, length + 1) of held-out books."""
        rows = max(1, self.batching.micro_tokens // (windows.shape[1] - 1))

        def one(ids: Tensor) -> float:
            with torch.no_grad():
                return float(self.loss(ids)) * len(ids)

        return sum(self.pool.map(one, torch.split(windows, rows))) / len(windows)

    def save(self, folder: Path, at: Position) -> None:
        """Replace the checkpoint in `folder` in one rename; a kill leaves the old or the new."""
        new, old = folder.with_suffix(".new"), folder.with_suffix(".old")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        weights = {name: p.detach().contiguous() for name, p in self.model.named_parameters()}
        save_file(weights, new / "weights.safetensors")
        state = {
            f"{index}/{parameter}/{key}": value
            for index, optimiser in enumerate(self.optimisers)
            for parameter, entries in optimiser.state_dict()["state"].items()
            for key, value in entries.items()
        }
        save_file(state, new / "optimiser.safetensors")
        (new / "position.json").write_text(json.dumps(asdict(at)))
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
        shutil.rmtree(old, ignore_errors=True)

    def restore(self, folder: Path) -> Position:
        """Load weights, optimiser and position of a checkpoint.

        Raises:
            FileNotFoundError: no checkpoint in `folder`.
        """
        if not folder.exists():  # killed between the two renames of `save`
            folder = folder.with_suffix(".old")
        weights = load_file(folder / "weights.safetensors")
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(weights[name])
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimisers]
        for name, value in load_file(folder / "optimiser.safetensors").items():
            index, parameter_index, key = name.split("/")
            states[int(index)].setdefault(int(parameter_index), {})[key] = value
        for optimiser, state in zip(self.optimisers, states, strict=True):
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state, "param_groups": groups})
        return Position(**json.loads((folder / "position.json").read_text()))
