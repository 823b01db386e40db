"""Models by name, from log-mels to probabilities."""

from __future__ import annotations

from collections.abc import Callable

from genrecls.config import BACKBONES, FrontEnd, Recipe
from genrecls.models import BUILDERS, Image


def build_model(
    recipe: Recipe, front_end: FrontEnd, n_genres: int, builder: Callable | None = None
):
    """Build the untrained model of a recipe.

    Parameters
    ----------
    recipe : Recipe
    front_end : FrontEnd
    n_genres : int >= 2
    builder : callable, optional
        The user's own builder, ``(input_shape, n_classes) -> keras.Model``.

    Returns
    -------
    keras.Model
        Log-mels [shape=(batch, n_mels, frames, 1)] in dB to probabilities.
    """
    options = {"weights": recipe.weights, "head": recipe.head}
    return BUILDERS[recipe.model](
        (*front_end.shape, 1),
        n_genres,
        image=Image.of(front_end, recipe.input_range),
        **(options if recipe.model in BACKBONES else {}),
    )
