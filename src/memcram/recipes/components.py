"""The classes that a recipe may be composed of, one row per class.

They can be imported from here, hence `import X as X`.
"""

from collections.abc import Mapping
from typing import Any, Final

from memcram.recipes.initialisers import NormalStart as NormalStart
from memcram.recipes.initialisers import UniformStart as UniformStart
from memcram.recipes.objectives.cold_cross_entropy import ColdCrossEntropy as ColdCrossEntropy
from memcram.recipes.objectives.cross_entropy import CrossEntropy as CrossEntropy
from memcram.recipes.objectives.hinge_margin import HingeMargin as HingeMargin
from memcram.recipes.objectives.smooth_margin import SmoothMargin as SmoothMargin
from memcram.recipes.optimisers.adamw import AdamW as AdamW
from memcram.recipes.optimisers.averaged_adamw import AveragedAdamW as AveragedAdamW
from memcram.recipes.parametrisations import Direct as Direct
from memcram.recipes.parametrisations import Direction as Direction
from memcram.recipes.parametrisations import LowDim as LowDim
from memcram.recipes.strategies.fixed import Fixed as Fixed
from memcram.recipes.strategies.horizon import Horizon as Horizon
from memcram.recipes.strategies.progressive import Progressive as Progressive

COMPONENTS: Final[Mapping[str, tuple[type[Any], ...]]] = {
    "objective": (
        ColdCrossEntropy,
        CrossEntropy,
        HingeMargin,
        SmoothMargin,
    ),
    "optimiser": (
        AdamW,
        AveragedAdamW,
    ),
    "start": (
        NormalStart,
        UniformStart,
    ),
    "parametrisation": (
        Direct,
        Direction,
        LowDim,
    ),
    "strategy": (
        Fixed,
        Horizon,
        Progressive,
    ),
    # Strategies that find the length, so they keep a prefix.
    "horizon": (
        Horizon,
        Progressive,
    ),
}
"""Classes by the field of `Recipe` that takes them; settings in text can name these."""
