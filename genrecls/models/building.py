"""Models by name or by the user's own builder, from log-mels to probabilities."""

from __future__ import annotations

from collections.abc import Callable

from genrecls._utils.backend import keras
from genrecls.config import BACKBONES, FrontEnd, Recipe
from genrecls.models.cnn import build_cnn
from genrecls.models.compact_cnn import build_compact_cnn
from genrecls.models.efficientnet_lite0 import build_efficientnet_lite0
from genrecls.models.image import Image
from genrecls.models.inception_resnet_v2 import build_inception_resnet_v2
from genrecls.models.own import build_own_model

#: Builder for every model name that a recipe can have.
BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "cnn": build_cnn,
    "compact_cnn": build_compact_cnn,
    "inception_resnet_v2": build_inception_resnet_v2,
    "efficientnet_lite0": build_efficientnet_lite0,
}


def build_model(
    recipe: Recipe, front_end: FrontEnd, n_genres: int, builder: Callable | None = None
) -> keras.Model:
    """Build the untrained model of a recipe, from log-mels in dB to probabilities.

    The user's own builder ``(input_shape, n_classes) -> keras.Model`` gets the shape of an image,
    (n_mels, frames, 3). Its model must be made of standard layers and end in
    ``keras.layers.Dense(n_classes, activation="softmax")``.
    """
    if builder is not None:
        return build_own_model(builder, recipe.model, front_end, n_genres, recipe.input_range)
    if recipe.model not in BUILDERS:
        raise ValueError(
            f"there is no model {recipe.model!r}; choose one of {', '.join(BUILDERS)}, or pass "
            "your own builder (input_shape, n_classes) -> keras.Model"
        )
    options = {}
    if recipe.model in BACKBONES:
        options = {"weights": recipe.weights, "head": recipe.head}
    image = Image.from_front_end(front_end, recipe.input_range)
    return BUILDERS[recipe.model]((*front_end.shape, 1), n_genres, image=image, **options)
