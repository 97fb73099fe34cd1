"""Make the initial parameters of a text: drawn, or those of vectors that are given."""

import torch
from torch import Tensor

from memcram.engine.batch import CramRequest
from memcram.errors import UsageError
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.parametrisations import Parameters, rms_of
from memcram.recipes.recipe import Recipe

# Allowed deviation from the vectors to start from, relative to their size; that of rounding is far
# smaller.
_TOLERANCE = 1e-3


def initial_parameters(
    recipe: Recipe, lm: FrozenLM, request: CramRequest, dtype: torch.dtype
) -> Parameters:
    """Return the initial parameters of one text on the model's device, in `dtype`.

    Raises:
        UsageError: the recipe cannot start from the request's vectors.
    """
    generator = torch.Generator().manual_seed(request.seed)
    parametrisation = recipe.parametrisation
    shape = (request.vectors, parametrisation.start_width(lm.input_width))
    start = request.start
    if start is None:
        start = recipe.start.draw(shape, lm.embedding_std, generator)
    if request.group is not None:
        generator.manual_seed(request.group)
    start = start.to(lm.device, dtype)
    parameters = parametrisation.init(start, lm.input_width, generator)
    if request.init is None:
        return parameters
    wanted = (request.vectors, lm.input_width)
    if tuple(request.init.shape) != wanted or not bool(request.init.isfinite().all()):
        problem = f"got vectors of shape {tuple(request.init.shape)}"
        raise UsageError(problem, argument="init", allowed=f"finite ones of shape {wanted}")
    if request.group is not None and parametrisation.shared:
        raise UsageError(
            f"texts of {recipe.name!r} share parameters, so each cannot start from given vectors",
            argument="init",
        )
    return _at(recipe, request.init.to(lm.device, dtype), parameters)


def _at(recipe: Recipe, mem: Tensor, parameters: Parameters) -> Parameters:
    """Change initial parameters so that `[mem]` is `mem`; refuse what the recipe can't express."""
    found = recipe.parametrisation.at(mem, parameters)
    stacked = {name: value.unsqueeze(0) for name, value in found.items()}
    away = recipe.parametrisation.mem(stacked)[0] - mem
    if not bool(rms_of(away).max() <= _TOLERANCE * rms_of(mem).max()):
        kind = type(recipe.parametrisation).__name__
        raise UsageError(
            f"{recipe.name!r} cannot start from these {len(mem)} vectors: its parametrisation "
            f"{kind} cannot express them",
            argument="init",
            allowed="other vectors, or a recipe such as direct",
        )
    return found
