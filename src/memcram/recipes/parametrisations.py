"""Parametrisations: how the `[mem]` vectors depend on the trained parameters."""

from dataclasses import replace
from typing import Literal, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from memcram.recipes.component import component
from memcram.recipes.ranges import Positive, Width

Parameters = dict[str, Tensor]
"""Trained tensors by the names that the parametrisation gives them."""


@runtime_checkable
class Parametrisation(Protocol):
    """Interface of a parametrisation: the parameters of one text, and the map to `[mem]`."""

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the parameters that the texts of a group have in common."""

    def start_width(self, input_width: int) -> int:
        """Coordinates per vector that the initialiser draws."""

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """Initial parameters of one text.

        Args:
            start: (K, start width) from the initialiser.
            input_width: width of the model's input vectors.
            generator: source of all other random numbers; the texts of a group seed it alike.
        """

    def at(self, mem: Tensor, parameters: Parameters) -> Parameters:
        """Initial parameters of one text whose `[mem]` is given, or as close to it as there are.

        Args:
            mem: (K, width) the vectors to start from.
            parameters: from `init`; they are changed as little as needed.
        """

    def mem(self, parameters: Parameters) -> Tensor:
        """`[mem]` (slot, K, width) from parameters stacked along a slot axis."""

    def for_one_text(self) -> "Parametrisation":
        """Return the same parametrisation without shared parameters."""


class Unshared:
    """Base class of parametrisations in which each text has all parameters to itself."""

    @property
    def shared(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def for_one_text(self) -> Self:
        """The same: nothing is shared."""
        return self


@component
class Direct(Unshared):
    """The coordinates of `[mem]` themselves are trained."""

    def start_width(self, input_width: int) -> int:
        """The width itself."""
        return input_width

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`mem` (K, width), a copy of `start`."""
        return {"mem": start.clone()}

    def at(self, mem: Tensor, parameters: Parameters) -> Parameters:
        """`mem` itself."""
        return {"mem": mem.clone()}

    def mem(self, parameters: Parameters) -> Tensor:
        """The parameter itself, (slot, K, width)."""
        return parameters["mem"]


@component
class Direction(Unshared):
    """mem = ρ · u / rms(u): only the direction of each vector is trained, its size is fixed.

    The size does not change, so a learning rate is relative to it: one step of AdamW with a rate of
    0.1 moves each coordinate by about a tenth of ρ or less.

    Attributes:
        rms: ρ, root mean square of the coordinates.
    """

    rms: Positive = 1e4

    def start_width(self, input_width: int) -> int:
        """The width itself."""
        return input_width

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`unit` (K, width), the rows of `start` with a root mean square of 1."""
        return {"unit": start / rms_of(start)}

    def at(self, mem: Tensor, parameters: Parameters) -> Parameters:
        """The directions of `mem`; its size is lost."""
        return {"unit": mem / rms_of(mem)}

    def mem(self, parameters: Parameters) -> Tensor:
        """ρ · u / rms(u) of every row, (slot, K, width)."""
        unit = parameters["unit"]
        return self.rms * unit / rms_of(unit)


def rms_of(vectors: Tensor) -> Tensor:
    """Root mean square of the coordinates (..., 1), never 0."""
    tiny = torch.finfo(vectors.dtype).tiny
    return vectors.square().mean(-1, keepdim=True).sqrt().clamp(min=tiny)


@component
class LowDim:
    """e = W z + b: each vector is an affine map of k coordinates; W and b are trained too.

    W and b are initialised as in torch.nn.Linear, uniform in ±1/√k. Source: Tarasov et al., ICML
    2026. All texts of a batch share W and b there (`in_group`), but the published table was made
    with one text per batch.

    Attributes:
        k: coordinates of z; "auto" for half of the width, but at most 256; None for an eighth of
            the width, but at least 4. The paper has 256 for a width of 2,048.
        in_group: whether the texts of a group share W and b.
    """

    k: Width | Literal["auto"] | None = None
    in_group: bool = False

    @property
    def shared(self) -> tuple[str, ...]:
        """W and b, where the group shares them."""
        return ("weight", "bias") if self.in_group else ()

    def start_width(self, input_width: int) -> int:
        """The coordinates of z."""
        if self.k == "auto":
            return min(256, max(4, input_width // 2))
        return self.k or max(4, input_width // 8)

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`z` (K, k), a copy of `start`; `weight` (width, k) and `bias` (width,)."""
        k = self.start_width(input_width)
        bound = k**-0.5

        def uniform(*shape: int) -> Tensor:
            noise = torch.rand(shape, generator=generator, dtype=torch.float64)
            drawn: Tensor = ((2 * noise - 1) * bound).to(start)
            return drawn

        weight = uniform(input_width, k)
        return {"z": start.clone(), "weight": weight, "bias": uniform(input_width)}

    def at(self, mem: Tensor, parameters: Parameters) -> Parameters:
        """The same z; b moves the mean of the K vectors, W what is left, which is 0 for K = 1.

        W z + b can be any K ≤ k vectors.
        """
        z, weight, bias = (parameters[name].double() for name in ("z", "weight", "bias"))
        missing = mem.double() - (z @ weight.mT + bias)
        shift = missing.mean(0)
        turn = torch.linalg.pinv(z) @ (missing - shift)  # (k, width)
        return {
            "z": parameters["z"],
            "weight": (weight + turn.mT).to(mem),
            "bias": (bias + shift).to(mem),
        }

    def mem(self, parameters: Parameters) -> Tensor:
        """W z + b of every row, (slot, K, width)."""
        across = parameters["weight"].mT
        # One vector at a time: a product over the K of the longest batch-mate rounds differently.
        mapped = [torch.bmm(z, across) for z in parameters["z"].split(1, dim=1)]
        return torch.cat(mapped, dim=1) + parameters["bias"][:, None]

    def for_one_text(self) -> "LowDim":
        """The same map, one per text."""
        return replace(self, in_group=False)
