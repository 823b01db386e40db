"""The two nets of the lab, a compact one, one for a transfer; the layer that draws log-mels.

Keras 3 on any backend; importing this loads it.
"""

from __future__ import annotations

from genrecls.errors import WeightsError
from genrecls.models.backbone import backbone_end, calibrate_batch_norm, split_at, unfreeze
from genrecls.models.cnn import build_cnn
from genrecls.models.compact_cnn import build_compact_cnn
from genrecls.models.efficientnet_lite0 import build_efficientnet_lite0
from genrecls.models.image import Image
from genrecls.models.inception_resnet_v2 import build_inception_resnet_v2
from genrecls.models.weights import find_imagenet_weights

#: Builder of every model that a recipe can name.
BUILDERS = {
    "cnn": build_cnn,
    "compact_cnn": build_compact_cnn,
    "inception_resnet_v2": build_inception_resnet_v2,
    "efficientnet_lite0": build_efficientnet_lite0,
}

__all__ = [
    "BUILDERS",
    "Image",
    "WeightsError",
    "backbone_end",
    "build_cnn",
    "build_compact_cnn",
    "build_efficientnet_lite0",
    "build_inception_resnet_v2",
    "calibrate_batch_norm",
    "find_imagenet_weights",
    "split_at",
    "unfreeze",
]
