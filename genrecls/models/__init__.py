"""The two nets of the lab, the layer that turns log-mels into pictures, pretrained weights.

Keras 3 on any backend; importing this loads it.
"""

from .cnn import build_cnn
from .inception_resnet_v2 import (
    build_inception_resnet_v2,
    calibrate_batch_norm,
    split_trunk,
)
from .picture import Picture
from .weights import WeightsError, find_imagenet_weights

__all__ = [
    "Picture",
    "WeightsError",
    "build_cnn",
    "build_inception_resnet_v2",
    "calibrate_batch_norm",
    "find_imagenet_weights",
    "split_trunk",
]
