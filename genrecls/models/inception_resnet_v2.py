"""The well-known net: InceptionResNetV2 with the original's head."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np

from ..backend import keras
from .picture import Picture, picture_input
from .weights import WeightsError, find_imagenet_weights

layers = keras.layers

#: Last layer of the trunk; what comes after it is the head.
TRUNK_OUTPUT = "conv_7b_ac"


def build_inception_resnet_v2(
    input_shape: tuple[int, int, int] = (400, 162, 3),
    n_classes: int = 2,
    *,
    weights: str | PathLike | None = None,
    picture: Picture | None = None,
) -> keras.Model:
    """InceptionResNetV2 (Szegedy et al. 2017) without its top, and the original's head.

    55,958,850 parameters (55,898,306 trainable) for 400 x 162 x 3 pictures and two genres.

    Parameters
    ----------
    input_shape : tuple (height, width, channels), height and width >= 75
        Of pictures, (n_mels, frames, 3); of log-mels, (n_mels, frames, 1), with ``picture``.
    n_classes : int >= 2
    weights : {'imagenet'}, path or None
        Of the trunk: ImageNet's (see :func:`find_imagenet_weights`), those of a Keras weights
        file, or random ones. ImageNet's expect pictures in [-1, 1].
    picture : Picture, optional
        Layer that turns log-mels into pictures; without it the model takes pictures.

    Returns
    -------
    keras.Model
        Functional, not compiled, all of it trainable; head layers ``flatten, dense, genre``;
        output [shape=(batch, n_classes)], probabilities.

    Raises
    ------
    WeightsError
        If the weights file cannot be had or is not the one it should be.
    """
    file = find_imagenet_weights() if weights == "imagenet" else weights
    if file is not None and not Path(file).is_file():
        raise WeightsError(f"no weights file at {str(file)!r}")
    inputs, x = picture_input(input_shape, picture)
    trunk = keras.applications.InceptionResNetV2(
        include_top=False, weights=None, input_tensor=x, input_shape=(*input_shape[:2], 3)
    )
    if file is not None:
        trunk.load_weights(str(file))
    x = layers.Flatten(name="flatten")(trunk.get_layer(TRUNK_OUTPUT).output)
    x = layers.Dense(32, activation="relu", name="dense")(x)
    outputs = layers.Dense(n_classes, activation="softmax", name="genre")(x)
    return keras.Model(inputs, outputs, name="inception_resnet_v2")


def split_trunk(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Trunk and head as two models that share the layers of ``model``.

    With a frozen trunk its output never changes: it is computed once per piece, and the head
    alone is trained on it.
    """
    cut = model.get_layer(TRUNK_OUTPUT)
    trunk = keras.Model(model.input, cut.output, name="trunk")
    x = inputs = keras.Input(cut.output.shape[1:], name="trunk_output")
    for layer in model.layers[model.layers.index(cut) + 1 :]:
        x = layer(x)
    return trunk, keras.Model(inputs, x, name="head")


def calibrate_batch_norm(model: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Set the batch-norm statistics of random weights to their mean over some data.

    Fresh layers claim that their inputs have mean 0 and variance 1. In a deep net with random
    weights this is far off, and hardly anything of the picture comes out at the other end.

    Parameters
    ----------
    model : keras.Model
    batches : iterable of np.ndarray [shape=(batch, *input_shape)]
    """
    norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
    before = [norm.momentum for norm in norms]
    for n, batch in enumerate(batches):
        for norm in norms:
            norm.momentum = n / (n + 1)  # a running mean over all batches
        model(batch, training=True)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
