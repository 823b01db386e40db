"""musicnn, a CNN that was trained to tag music, with a head for genres.

The weights are those of Pons and Serra; the layers have the names in their checkpoints.
"""

import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from genrecls._utils.backend import keras
from genrecls.errors import WeightsError
from genrecls.models.backbone import add_head
from genrecls.models.weights import find_weights

layers = keras.layers
ops: Any = keras.ops

_BANDS, _PATCH = 96, 187  # mel bands; frames of a patch of 3 s


def build_musicnn(
    input_shape: tuple[int, int, int] = (96, 938, 1),
    n_classes: int = 2,
    *,
    weights: str | PathLike | None = None,
) -> keras.Model:
    """Build musicnn with a head for genres; it takes log-mels of its own front end.

    A segment is cut into patches of 3 s. Convolutions over 0.4 and 0.7 of the mel bands (timbre)
    and over 0.5 to 2 s (rhythm) are followed by three convolutions over time, and by the maximum
    and the mean over the patch. The embedding of a segment, 200 numbers, is the mean over its
    patches. The model has 782,431 parameters with two genres.

    Parameters
    ----------
    input_shape : tuple (96, frames, 1)
        Shape of a log-mel from ``FrontEnd.preset("musicnn")``, with at least 187 frames.
    n_classes
        See :func:`genrecls.build_cnn`, also for the result.
    weights : {'msd', 'mtt'}, path or None
        Weights that were trained to predict tags of the Million Song Dataset or of MagnaTagATune;
        the data of another checkpoint; or None for random ones. A WeightsError is raised if they
        are missing or wrong.

    References
    ----------
    Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging",
    ISMIR 2019 late-breaking session, DOI 10.48550/arXiv.1909.06654.

    Examples
    --------
    >>> import genrecls
    >>> genrecls.build_musicnn(n_classes=5).output_shape
    (None, 5)
    """
    bands, frames, _ = input_shape
    patches = frames // _PATCH
    if bands != _BANDS or not patches:
        raise ValueError(f"musicnn takes 96 bands and at least 187 frames, not {input_shape}")
    file = find_weights("musicnn", weights)
    inputs = keras.Input(input_shape, name="log_mel")
    maps = [_convolve_spectra(_normalize(_cut(inputs, patches), 0))]
    for i in (5, 6, 7):
        y = _convolution(maps[-1], i, layers.Conv1D, 64, 7)
        maps.append(y if i == 5 else layers.Add()([y, maps[-1]]))
    # The patches of a segment follow each other in a map of height 1.
    x = ops.reshape(layers.Concatenate()(maps), (-1, 1, patches * _PATCH, 753))
    pools = layers.MaxPooling2D, layers.AveragePooling2D
    x = _normalize(layers.Concatenate()([pool((1, _PATCH))(x) for pool in pools]), 9)
    x = _normalize(layers.Dense(200, activation="relu", name="dense")(x), 10)
    if file:
        _set_weights(keras.Model(inputs, x), file)
    return keras.Model(inputs, add_head(x, n_classes, "logistic"), name="musicnn")


def _cut(log_mels: Any, patches: int) -> Any:
    """Compute log10(1 + 10,000 power), and make the patches of all segments one batch."""
    x = layers.Cropping2D(((0, 0), (0, log_mels.shape[2] - patches * _PATCH)))(log_mels)
    # log(1 + exp(z)) is the softplus of z.
    x = layers.Rescaling(math.log(10) / 10, math.log(10_000))(x)
    x = layers.Rescaling(1 / math.log(10))(layers.Activation("softplus")(x))
    x = ops.reshape(layers.Permute((2, 1, 3))(x), (-1, _PATCH, _BANDS, 1))
    return layers.Permute((2, 1, 3))(x)


def _convolve_spectra(x: Any) -> Any:
    """Add the convolutions over frequency and time, each with its maximum over frequency."""
    padded = layers.ZeroPadding2D((0, 3))(x)
    kernels = (38, 7), (67, 7), (1, 128), (1, 64), (1, 32)
    outputs = []
    for i, kernel in enumerate(kernels):
        timbre = i < 2
        y = _convolution(padded if timbre else x, i, layers.Conv2D, 204 if timbre else 51, kernel)
        y = layers.MaxPooling2D((y.shape[1], 1))(y)
        outputs.append(layers.Reshape((_PATCH, y.shape[-1]))(y))
    return layers.Concatenate()(outputs)


def _convolution(x: Any, i: int, kind: Any, channels: int, kernel: Any) -> Any:
    """Add a convolution, ReLU, and batch norm."""
    padding, name = "valid" if i < 2 else "same", f"conv2d_{i}".removesuffix("_0")
    x = kind(channels, kernel, padding=padding, activation="relu", name=name)(x)
    return _normalize(x, i + 1)


def _normalize(x: Any, i: int) -> Any:
    name = f"batch_normalization_{i}".removesuffix("_0")
    return layers.BatchNormalization(name=name)(x)


def _set_weights(backbone: keras.Model, file: Path) -> None:
    """Copy the weights of a TensorFlow checkpoint, which has them in the order of their names."""
    values = np.fromfile(file, "<f4")
    # Trained weights are followed by two arrays of the optimizer. Two numbers and the layer that
    # predicts the tags are not used.
    sizes = {"beta1_power": 1, "beta2_power": 1, "dense_1/bias": 150, "dense_1/kernel": 30_000}
    ours = {f"{layer.name}/{w.name}": w for layer in backbone.layers for w in layer.weights}
    sizes |= {k: math.prod(w.shape) * (3 if w.trainable else 1) for k, w in ours.items()}
    if len(values) != sum(sizes.values()):
        raise WeightsError(f"{str(file)!r} does not have the weights of 'musicnn'")
    start = 0
    for name in sorted(sizes):
        if (weight := ours.get(name)) is not None:
            weight.assign(_arrange(values[start:], weight.shape))
        start += sizes[name]


def _arrange(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Take the values of one weight from the checkpoint, in Keras' layout."""
    values = values[: math.prod(shape)]
    if len(shape) == 4:  # the checkpoint has (time, frequency, 1, channels)
        return values.reshape(shape[1], shape[0], *shape[2:]).swapaxes(0, 1)
    if shape[0] == 1506:  # in the checkpoint, maxima and means alternate
        values = values.reshape(753, 2, -1).swapaxes(0, 1)
    return values.reshape(shape)
