"""Parametrisations and starts on trial: a line of the arena may name them.

The package knows none of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memcram.engine.batch import CramRequest
from memcram.errors import UsageError
from memcram.models import FrozenLM
from memcram.recipes.initialisers import NormalStart, UniformStart
from memcram.recipes.parametrisations import LowDim, Parameters
from memcram.recipes.ranges import AtLeastOne, NotNegative, Positive, Width
from memcram.recipes.recipe import Recipe

# -- parametrisations ---------------------------------------------------------------------------


class _OfWidth:
    """Begins from the vectors' own coordinates; texts share nothing."""

    shared = ()

    def start_width(self, input_width: int) -> int:
        """The width itself."""
        return input_width


class _OfCoordinates:
    """Begins from as many coordinates as `LowDim`; texts share nothing."""

    k: Width | None
    shared = ()

    def start_width(self, input_width: int) -> int:
        """The coordinates of z."""
        return LowDim(self.k).start_width(input_width)


@dataclass(frozen=True)
class ScaleDirection(_OfWidth):
    """e = exp(s) · u / |u|: the length of each vector and its direction apart.

    Begins with |u| = √width, so that a coordinate of u is about 1, and exp(s) the length of the
    start, which must not be 0.
    """

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`log_scale` (K, 1) and `direction` (K, width) of `start`."""
        length = start.norm(dim=-1, keepdim=True)
        return {"log_scale": length.log(), "direction": start / length * input_width**0.5}

    def mem(self, parameters: Parameters) -> Tensor:
        """exp(s) · u / |u| of every row, (slot, K, width)."""
        direction = parameters["direction"]
        # Rows that only fill up to the K of a batch-mate are 0, and have no direction.
        length = direction.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(direction.dtype).tiny)
        mem: Tensor = parameters["log_scale"].exp() * (direction / length)
        return mem


@dataclass(frozen=True)
class FixedLength(_OfWidth):
    """e = size · √width · u / |u|: only the direction of each vector is optimised.

    Begins with |u| = √width, so that a coordinate of u is about 1. The start must not be 0.

    Attributes:
        size: root mean square of the coordinates of e.
    """

    size: Positive = 1.0

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`direction` (K, width) of `start`."""
        return {"direction": ScaleDirection().init(start, input_width, generator)["direction"]}

    def mem(self, parameters: Parameters) -> Tensor:
        """The directions at their length, (slot, K, width)."""
        direction = parameters["direction"]
        width = direction.shape[-1]
        scale = direction.new_full((1, 1, 1), self.size * width**0.5).log()
        return ScaleDirection().mem({"direction": direction, "log_scale": scale})


@dataclass(frozen=True)
class RowRates(_OfWidth):
    """Row j of `[mem]` is ratioʲ times a parameter: under Adam, a learning rate for each vector.

    Adam moves a coordinate of the parameter by about η whatever the gradient's size, and so one of
    row j by η · ratioʲ.

    Attributes:
        ratio: of the rate of a vector to that of the one before it.
    """

    ratio: Positive = 1.0

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`rows` (K, width), which give `start`."""
        return {"rows": start / self._rates(start)}

    def mem(self, parameters: Parameters) -> Tensor:
        """The rows at their rates, (slot, K, width)."""
        return parameters["rows"] * self._rates(parameters["rows"][0])

    def _rates(self, rows: Tensor) -> Tensor:
        """(K, 1) of `rows` (K, width)."""
        return torch.tensor([self.ratio**j for j in range(len(rows))]).to(rows)[:, None]


@dataclass(frozen=True)
class MapRates(_OfCoordinates):
    """e = (w W) (c z) + d b: the map of `LowDim` with a learning rate for each of its parts.

    W, z and b begin at what gives the map of `LowDim`; as in `RowRates`, w, c and d multiply Adam's
    rate.

    Attributes:
        k: coordinates of z; None: an eighth of the width, but at least 4.
        weight, z, bias: w, c and d.
    """

    k: Width | None = None
    weight: Positive = 1.0
    z: Positive = 1.0
    bias: Positive = 1.0

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`z` (K, k), `weight` (width, k) and `bias` (width,), each over its rate."""
        whole = LowDim(self.k).init(start, input_width, generator)
        return {name: value / getattr(self, name) for name, value in whole.items()}

    def mem(self, parameters: Parameters) -> Tensor:
        """The map at its rates of every row, (slot, K, width)."""
        scaled = {name: value * getattr(self, name) for name, value in parameters.items()}
        return LowDim(self.k).mem(scaled)


@dataclass(frozen=True)
class TwoLayerMap(_OfCoordinates):
    """e = W₂ W₁ z + b for each text: the map of `LowDim` as a product of two.

    W₁, W₂ and b begin as in torch.nn.Linear, uniform in ±1/√(columns of the matrix).

    Attributes:
        k: coordinates of z; None: an eighth of the width, but at least 4.
        hidden: rows of W₁; None: as many as k.
    """

    k: Width | None = None
    hidden: Width | None = None

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`z` (K, k), a copy of `start`; `first` (hidden, k), `second` (width, hidden), `bias`."""
        k = self.start_width(input_width)
        hidden = self.hidden or k
        first = LowDim(k).init(start, hidden, generator)
        second = LowDim(hidden).init(start, input_width, generator)
        return {
            "z": first["z"],
            "first": first["weight"],
            "second": second["weight"],
            "bias": second["bias"],
        }

    def mem(self, parameters: Parameters) -> Tensor:
        """W₂ W₁ z + b of every row, (slot, K, width)."""
        across = parameters["first"].mT, parameters["second"].mT
        # One vector at a time: a product over the K of the longest batch-mate rounds differently.
        rows = parameters["z"].split(1, dim=1)
        mapped = [torch.bmm(torch.bmm(z, across[0]), across[1]) for z in rows]
        return torch.cat(mapped, dim=1) + parameters["bias"][:, None]


@dataclass(frozen=True)
class MapAtStart(_OfWidth):
    """e = W z + b as `LowDim`, with b at the mean of the start's rows instead of a random place.

    So a map can begin where coordinates do, but for W z, which begins near 0; z is from U[0, 0.02).

    Attributes:
        k: coordinates of z; None: an eighth of the width, but at least 4.
    """

    k: Width | None = None

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`z` (K, k), `weight` (width, k) and `bias` (width,), the mean row of `start`."""
        inner = LowDim(self.k)
        shape = (len(start), inner.start_width(input_width))
        z = UniformStart().draw(shape, 0.0, generator).to(start)
        return inner.init(z, input_width, generator) | {"bias": start.mean(0)}

    def mem(self, parameters: Parameters) -> Tensor:
        """W z + b of every row, (slot, K, width)."""
        return LowDim(self.k).mem(parameters)


# -- starts -------------------------------------------------------------------------------------


class ModelStart(ABC):
    """A start that needs the model or the text; `with_starts` hands it over with the request."""

    @abstractmethod
    def of_text(self, lm: FrozenLM, request: CramRequest) -> Tensor:
        """Where the text begins, (K, width)."""

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """Nothing can be drawn without the text.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"start: {type(self).__name__} begins from a text, in the arena only")


@dataclass(frozen=True)
class MeanEmbedding(ModelStart):
    """The mean input vector of the vocabulary, in every row, and noise from N(0, (noise · σ)²).

    Attributes:
        noise: in standard deviations σ of the whole input embedding matrix.
    """

    noise: NotNegative = 0.0

    def of_text(self, lm: FrozenLM, request: CramRequest) -> Tensor:
        """The same for all texts, but for the noise; (K, width)."""
        everything = lm.embed(torch.arange(lm.vocab_size))
        mean = everything.double().mean(0).expand(request.vectors, -1).cpu()
        return mean + _noise(self.noise, lm, request)


@dataclass(frozen=True)
class OwnEmbeddings(ModelStart):
    """Row j is the mean input vector of the j-th of K equal parts of the text's first tokens.

    A text of fewer than K tokens is filled up with its last one.

    Attributes:
        tokens: how many tokens from the start, at least K; 1 is the first token's vector for K = 1.
            None: all of them.
        noise: in standard deviations σ of the whole input embedding matrix.
    """

    tokens: AtLeastOne | None = None
    noise: NotNegative = 0.0

    def of_text(self, lm: FrozenLM, request: CramRequest) -> Tensor:
        """From the text's own tokens; (K, width)."""
        n = max(self.tokens or len(request.ids), request.vectors)
        short = max(0, request.vectors - len(request.ids))
        ids = torch.cat([request.ids[:n], request.ids[-1:].expand(short)])
        parts = ids.tensor_split(request.vectors)
        means = [lm.embed(part).double().mean(0).cpu() for part in parts]
        return torch.stack(means) + _noise(self.noise, lm, request)


MAPS = (ScaleDirection, FixedLength, RowRates, MapRates, TwoLayerMap, MapAtStart)
STARTS = (MeanEmbedding, OwnEmbeddings)


def with_starts(
    lm: FrozenLM, recipe: Recipe, requests: Sequence[CramRequest]
) -> Sequence[CramRequest]:
    """The requests, with where they begin if the recipe's start needs the model or the text.

    Raises:
        UsageError: the start gives vectors, and the parametrisation begins from fewer coordinates.
    """
    start = recipe.start
    if not isinstance(start, ModelStart):
        return requests
    width = recipe.parametrisation.start_width(lm.input_width)
    if width != lm.input_width:
        raise UsageError(
            f"{recipe.name!r}: start: {type(start).__name__} gives {lm.input_width} coordinates, "
            f"and {type(recipe.parametrisation).__name__} begins from {width}; allowed: Direct, "
            "ScaleDirection, FixedLength, RowRates, MapAtStart"
        )
    return [replace(request, start=start.of_text(lm, request)) for request in requests]


def _noise(scale: float, lm: FrozenLM, request: CramRequest) -> Tensor:
    generator = torch.Generator().manual_seed(request.seed)
    shape = (request.vectors, lm.input_width)
    return NormalStart(scale).draw(shape, lm.embedding_std, generator)
