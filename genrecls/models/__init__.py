"""The two nets of the lab, a compact one, the layer that draws log-mels, pretrained weights.

Keras 3 on any backend; importing this loads it.
"""

from .cnn import build_cnn
from .compact_cnn import build_compact_cnn
from .inception_resnet_v2 import (
    build_inception_resnet_v2,
    calibrate_batch_norm,
    split_trunk,
)
from .picture import Picture
from .weights import WeightsError, find_imagenet_weights

#: Builder of every model that a recipe can name.
BUILDERS = {
    "cnn": build_cnn,
    "compact_cnn": build_compact_cnn,
    "inception_resnet_v2": build_inception_resnet_v2,
}

__all__ = [
    "BUILDERS",
    "Picture",
    "WeightsError",
    "build_cnn",
    "build_compact_cnn",
    "build_inception_resnet_v2",
    "calibrate_batch_norm",
    "find_imagenet_weights",
    "split_trunk",
]
