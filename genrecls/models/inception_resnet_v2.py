"""The well-known net: InceptionResNetV2 with the original's head."""

from __future__ import annotations

from os import PathLike

from genrecls._utils.backend import keras
from genrecls.models.backbone import add_head, load_backbone_weights
from genrecls.models.image import Image, image_input
from genrecls.models.weights import find_weights


def build_inception_resnet_v2(
    input_shape: tuple[int, int, int] = (400, 162, 3),
    n_classes: int = 2,
    *,
    weights: str | PathLike | None = None,
    head: str = "flatten",
    image: Image | None = None,
) -> keras.Model:
    """InceptionResNetV2 (Szegedy et al. 2017) without its top, and a head of ours.

    55,958,850 parameters (55,898,306 trainable) for 400 x 162 x 3 images and two genres with the
    original's head ``'flatten'``; 54,339,810 with ``'pool'``.

    Parameters
    ----------
    input_shape : tuple (height, width, channels), height and width >= 75
        Of images, (n_mels, frames, 3); of log-mels, (n_mels, frames, 1), with ``image``.
    n_classes : int >= 2
    weights : {'imagenet'}, path or None
        Of the backbone: ImageNet's (see :func:`find_imagenet_weights`), those of a Keras weights
        file, or random ones. ImageNet's expect images in [-1, 1].
    head : {'flatten', 'pool'}
        See :func:`genrecls.models.backbone.add_head`.
    image : Image, optional
        Layer that turns log-mels into images; without it the model takes images.

    Returns
    -------
    keras.Model
        Functional, not compiled, all of it trainable; output [shape=(batch, n_classes)],
        probabilities.

    Raises
    ------
    WeightsError
        If the weights file cannot be had or is not the one it should be.

    Examples
    --------
    >>> import genrecls
    >>> genrecls.build_inception_resnet_v2((128, 323, 3), 5, weights=None).output_shape
    (None, 5)
    """
    file = find_weights("inception_resnet_v2", weights)
    inputs, x = image_input(input_shape, image)
    backbone = keras.applications.InceptionResNetV2(
        include_top=False, weights=None, input_tensor=x, input_shape=(*input_shape[:2], 3)
    )
    if file:
        load_backbone_weights(backbone, file)
    outputs = add_head(backbone.output, n_classes, head)
    return keras.Model(inputs, outputs, name="inception_resnet_v2")
