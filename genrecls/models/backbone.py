"""What nets with a pretrained backbone have in common: the head, the cut, batch-norm statistics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from genrecls._utils.backend import keras
from genrecls.errors import WeightsError

layers = keras.layers

HEADS = ("flatten", "pool")


def add_head(x, n_classes: int, head: str):
    """Put a head on the map that a backbone ends in.

    Parameters
    ----------
    x : keras.KerasTensor [shape=(batch, height, width, channels)]
    n_classes : int >= 2
    head : {'flatten', 'pool'}
        The original's, ``flatten, dense`` (32 units), ``genre``; or ``pool, dropout, genre``,
        which has channels x n_classes weights and no place to learn images by heart in.

    Returns
    -------
    keras.KerasTensor [shape=(batch, n_classes)], probabilities
    """
    if head == "flatten":
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(32, activation="relu", name="dense")(x)
    elif head == "pool":
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dropout(0.2, name="dropout")(x)
    else:
        raise ValueError(f"head is one of {HEADS}, not {head!r}")
    return layers.Dense(n_classes, activation="softmax", name="genre")(x)


def load_backbone_weights(backbone: keras.Model, file: Path) -> None:
    """Give a backbone the weights of a Keras weights file.

    Raises
    ------
    WeightsError
        If they are those of another net, or no weights at all.
    """
    try:
        backbone.load_weights(str(file))
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{str(file)!r} has no weights of {backbone.name!r}: {reason}"
        ) from error


def split_at(model: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """A model as two that share its layers: up to the output of a layer, and what comes after it.

    What is frozen never changes its mind about a segment: it is computed once, and only what comes
    after it is trained on the result.

    Parameters
    ----------
    model : keras.Model
        Functional.
    layer : str
        Name of the layer whose output is the cut; see :func:`backbone_end`.

    Raises
    ------
    ValueError
        If there is no such layer, or if other layers pass the cut by.
    """
    if layer not in (names := [x.name for x in model.layers]):
        raise ValueError(f"{model.name!r} has no layer {layer!r}; it ends in {names[-10:]}")
    cut = model.get_layer(layer).output
    try:
        above = keras.Model(cut, model.output, name="above")
    except ValueError as error:
        raise ValueError(
            f"{model.name!r} cannot be cut after {layer!r}: other layers pass it by"
        ) from error
    return keras.Model(model.input, cut, name="below"), above


def backbone_end(model: keras.Model) -> str:
    """Name of the layer whose output the head of a model takes."""
    names = [layer.name for layer in model.layers]
    return names[next(i for i, name in enumerate(names) if name in HEADS) - 1]


def unfreeze(model: keras.Model) -> None:
    """Let all layers learn but batch norm: a few small batches know less than what it has seen.

    Layer by layer, since under TensorFlow a model that is trainable already passes nothing on.
    """
    for layer in model.layers:
        layer.trainable = not isinstance(layer, layers.BatchNormalization)


def calibrate_batch_norm(model: keras.Model, batches: Iterable[np.ndarray]) -> None:
    """Set the batch-norm statistics of random weights to their mean over some data.

    Fresh layers claim that their inputs have mean 0 and variance 1. In a deep net with random
    weights this is far off, and hardly anything of the image comes out at the other end.

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
