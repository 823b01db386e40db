"""The two nets of the lab, a compact one, one for a transfer; the layer that draws log-mels.

Keras 3 on any backend; importing this loads it.
"""

from ..weights import WeightsError, find_imagenet_weights
from .cnn import build_cnn
from .compact_cnn import build_compact_cnn
from .efficientnet_lite0 import build_efficientnet_lite0
from .inception_resnet_v2 import build_inception_resnet_v2
from .picture import Picture
from .trunk import calibrate_batch_norm, split_at, trunk_end, unfreeze

#: Builder of every model that a recipe can name.
BUILDERS = {
    "cnn": build_cnn,
    "compact_cnn": build_compact_cnn,
    "inception_resnet_v2": build_inception_resnet_v2,
    "efficientnet_lite0": build_efficientnet_lite0,
}

__all__ = [
    "BUILDERS",
    "Picture",
    "WeightsError",
    "build_cnn",
    "build_compact_cnn",
    "build_efficientnet_lite0",
    "build_inception_resnet_v2",
    "calibrate_batch_norm",
    "find_imagenet_weights",
    "split_at",
    "trunk_end",
    "unfreeze",
]
