"""How `[mem]` depends on what is optimised."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from memcram.recipes.ranges import Width

Parameters = dict[str, Tensor]


class Parametrisation(Protocol):
    """Parameters of one text, and the `[mem]` of many."""

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the parameters that the texts of a group have in common."""

    def start_width(self, input_width: int) -> int:
        """Coordinates of each of the K rows that the start draws."""

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """Parameters of one text that begins at `start` (K, start width).

        Everything else is drawn from `generator`, which the texts of a group seed alike.
        """

    def mem(self, parameters: Parameters) -> Tensor:
        """`[mem]` (slot, K, width) of parameters stacked along a slot axis."""


@dataclass(frozen=True)
class Direct:
    """The coordinates of `[mem]` themselves are optimised."""

    @property
    def shared(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def start_width(self, input_width: int) -> int:
        """The width itself."""
        return input_width

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`mem` (K, width), a copy of `start`."""
        return {"mem": start.clone()}

    def mem(self, parameters: Parameters) -> Tensor:
        """The parameter itself, (slot, K, width)."""
        return parameters["mem"]


@dataclass(frozen=True)
class LowDim:
    """e = W z + b: each vector is an affine map of k coordinates; W and b are trained too.

    W and b begin as in torch.nn.Linear, uniform in ±1/√k. Source: Tarasov et al., ICML 2026, whose
    W and b are one for all texts of a batch (`in_group`); a map for each text is our variation.

    Attributes:
        k: coordinates of z; None: an eighth of the width, as 256 were published for a width of
            2,048, but at least 4.
        in_group: the texts of a group share W and b.
    """

    k: Width | None = None
    in_group: bool = False

    @property
    def shared(self) -> tuple[str, ...]:
        """W and b, where the group shares them."""
        return ("weight", "bias") if self.in_group else ()

    def start_width(self, input_width: int) -> int:
        """The coordinates of z."""
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

    def mem(self, parameters: Parameters) -> Tensor:
        """W z + b of every row, (slot, K, width)."""
        across = parameters["weight"].mT
        # One vector at a time: a product over the K of the longest batch-mate rounds differently.
        mapped = [torch.bmm(z, across) for z in parameters["z"].split(1, dim=1)]
        return torch.cat(mapped, dim=1) + parameters["bias"][:, None]
