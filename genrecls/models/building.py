"""Models by name or by the user's own builder, from log-mels to probabilities."""

import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from genrecls._utils.backend import keras
from genrecls.config import BACKBONES, FrontEnd, Recipe, hash_json
from genrecls.config.base import look_up
from genrecls.models.checks import find_unsafe
from genrecls.models.cnn import build_cnn
from genrecls.models.compact_cnn import build_compact_cnn
from genrecls.models.efficientnet_lite0 import build_efficientnet_lite0
from genrecls.models.image import Image, image_input
from genrecls.models.inception_resnet_v2 import build_inception_resnet_v2
from genrecls.models.musicnn import build_musicnn

#: Builder for every model name that a recipe can have.
BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "cnn": build_cnn,
    "compact_cnn": build_compact_cnn,
    "inception_resnet_v2": build_inception_resnet_v2,
    "efficientnet_lite0": build_efficientnet_lite0,
    "efficientnet_lite0_frozen": build_efficientnet_lite0,
    "musicnn": build_musicnn,
}


def build_model(
    recipe: Recipe, front_end: FrontEnd, n_genres: int, builder: Callable | None = None
) -> keras.Model:
    """Build the untrained model of a recipe, from log-mels in dB to probabilities.

    The user's own builder ``(input_shape, n_classes) -> keras.Model`` gets the shape of an image,
    (n_mels, frames, 3). Its model must be made of standard layers and end in
    ``keras.layers.Dense(n_classes, activation="softmax")``.
    """
    image = Image.from_front_end(front_end, recipe.input_range)
    if builder is not None:
        return _build_own(builder, recipe.model, image, front_end.shape, n_genres)
    build = look_up(BUILDERS, recipe.model, "model")
    if recipe.model == "musicnn":  # takes levels instead of images
        return build((*front_end.shape, 1), n_genres, weights=recipe.weights)
    options: dict[str, Any] = {}
    if recipe.model in BACKBONES:
        options = {"weights": recipe.weights, "head": recipe.head}
    model = build((*front_end.shape, 1), n_genres, image=image, **options)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = recipe.batch_norm_momentum
    return model


def builder_uid(builder: Callable, front_end: FrontEnd, n_genres: int) -> str:
    """Return a hash of the layers and initial weights of the model that a user's builder makes."""
    keras.utils.set_random_seed(0)
    model = build_model(Recipe("own"), front_end, n_genres, builder)
    config = model.to_json()
    for i, operation in enumerate(model.operations):
        # Keras numbers the layers of a process, so that the same model has other names each time.
        config = config.replace(f'"{operation.name}"', f'"operation {i}"')
    weights = [zlib.crc32(np.asarray(w).tobytes()) for w in model.get_weights()]
    return hash_json([config, weights])[:16]


def _build_own(
    builder: Callable, name: str, image: Image, shape: tuple[int, int], n_genres: int
) -> keras.Model:
    """Build the user's model behind our image layer, as one graph without nested models."""
    own = builder((*shape, 3), n_genres)
    if not isinstance(own, keras.Model):
        raise ValueError(f"the builder of {name!r} must return a keras.Model, not {type(own)}")
    inputs, images = image_input((*shape, 1), image)
    # `call` connects the layers themselves with the image; `own(images)` would nest the model.
    connected = keras.Model(inputs, own.call(images), name=name)
    if fault := _find_fault(connected, n_genres):
        raise ValueError(f"the model of the builder {name!r} {fault}")
    # These layers also belong to the graph of the builder, so that `layer.output` could mean
    # either graph. Copies belong to this graph alone.
    model = keras.Model.from_config(connected.get_config())
    model.set_weights(connected.get_weights())
    return model


def _find_fault(model: keras.Model, n_genres: int) -> str | None:
    last, shape = model.layers[-1], model.output_shape
    softmax = isinstance(last, keras.layers.Dense) and last.activation is keras.activations.softmax
    if not softmax or shape != (None, n_genres):
        # Grad-CAM, for example, needs the weights of this layer.
        return (
            "must end in keras.layers.Dense(n_classes, activation='softmax'), but ends in the "
            f"{type(last).__name__} {last.name!r} with the output shape {shape}"
        )
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            return (
                f"holds the model {layer.name!r} as one layer; add the layers of this model one "
                "by one, or build it with input_tensor= if it is from keras.applications"
            )
    if unsafe := find_unsafe(json.loads(model.to_json())):
        return f"holds {unsafe!r}, which could not be loaded again; use standard layers of Keras"
    return None
