"""Backbones, which turn an image into a map of features, and heads, which classify the map."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from genrecls._utils.backend import keras
from genrecls.errors import WeightsError

layers = keras.layers

#: Heads, with the name of their first layer. The last one classifies the embedding, a layer of the
#: backbone with one vector for each segment.
HEADS = {"flatten": "flatten", "pool": "pool", "logistic": "unit_length"}


#: Name of the layer with the embedding.
EMBEDDING = "embedding"

_BATCH = 4  # segments; musicnn needs 0.15 GB for each


def add_head(x: Any, n_classes: int, head: str) -> Any:
    """Add one of the :data:`HEADS` to the last map of a backbone."""
    if head == "flatten":
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(32, activation="relu", name="dense")(x)
    elif head == "pool":
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dropout(0.2, name="dropout")(x)
    elif head == "logistic":
        x = layers.GlobalAveragePooling2D(name=EMBEDDING)(x)
        x = layers.UnitNormalization(name="unit_length")(x)
    else:
        raise ValueError(f"head must be one of {tuple(HEADS)}, not {head!r}")
    return layers.Dense(n_classes, activation="softmax", name="genre")(x)


def load_weights(backbone: keras.Model, file: Path) -> None:
    """Load a Keras weights file, or raise a WeightsError if it belongs to another model."""
    try:
        backbone.load_weights(str(file))
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{str(file)!r} does not have the weights of {backbone.name!r}: {reason}"
        ) from error


def predict_log_mels(model: keras.Model, log_mels: np.ndarray) -> np.ndarray:
    """Apply a model to log-mels [shape=(segments, n_mels, frames)] in batches."""
    starts = range(0, len(log_mels), _BATCH)
    batches = (np.asarray(log_mels[i : i + _BATCH], np.float32)[..., None] for i in starts)
    return np.concatenate([model.predict_on_batch(batch) for batch in batches])


def split_at(model: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """Split a model at a layer into two models that share its weights.

    Parameters
    ----------
    model : keras.Model
        Functional model.
    layer : str
        Name of the last layer of the lower part, such as :func:`backbone_end`. A ValueError is
        raised if there is no such layer, or a connection bypasses it.

    Returns
    -------
    below, above : keras.Model
        From the input to the output of the layer, and from there to the output of the model.
    """
    if layer not in (names := [x.name for x in model.layers]):
        raise ValueError(f"{model.name!r} has no layer {layer!r}; its last layers: {names[-10:]}")
    border = model.get_layer(layer).output
    try:
        above = keras.Model(border, model.output, name="above")
    except ValueError as error:
        raise ValueError(
            f"{model.name!r} cannot be split after {layer!r}, because a connection bypasses this "
            "layer; choose a layer that every path passes through"
        ) from error
    return keras.Model(model.input, border, name="below"), above


def backbone_end(model: keras.Model) -> str:
    """Return the name of the last layer of the backbone.

    Parameters
    ----------
    model : keras.Model
        Model of :func:`genrecls.build_inception_resnet_v2` or another builder with a ``head``.
    """
    names = [layer.name for layer in model.layers]
    return names[next(i for i, name in enumerate(names) if name in HEADS.values()) - 1]


def unfreeze(model: keras.Model) -> None:
    """Make all layers trainable except batch normalization, whose statistics stay."""
    # Each layer is set by itself: with TensorFlow, a model that is already trainable does not pass
    # the setting on to its layers.
    for layer in model.layers:
        layer.trainable = not isinstance(layer, layers.BatchNormalization)


def calibrate_batch_norm(model: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Set the statistics of batch normalization to their mean over some data.

    New batch-norm layers assume inputs with mean 0 and variance 1. In a deep model with random
    weights this is far from true, and its outputs then hardly depend on the image.
    """
    norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
    before = [norm.momentum for norm in norms]
    for n, batch in enumerate(batches):
        for norm in norms:
            norm.momentum = n / (n + 1)  # This makes a running mean over all batches.
        model(batch, training=True)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
