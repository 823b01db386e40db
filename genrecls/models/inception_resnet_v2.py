"""InceptionResNetV2 with a head for genres."""

from os import PathLike

from genrecls._utils.backend import keras
from genrecls.models.backbone import add_head, load_weights
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
    """Build InceptionResNetV2 with a head for genres; images have at least 75 x 75 pixels.

    With the original's head ``'flatten'`` it has 55,958,850 parameters (55,898,306 trainable) for
    images of 400 x 162 x 3 and two genres; with ``'pool'``, 54,339,810.

    Parameters
    ----------
    input_shape, n_classes, image
        See :func:`genrecls.build_cnn`, also for the result, all layers of which are trainable.
    weights : {'imagenet'}, path or None
        Weights of the backbone: those trained on ImageNet, which expect images in [-1, 1]; a
        Keras weights file; or None for random weights.
    head : {'flatten', 'pool'}
        Layers ``flatten, dense`` (32 units), ``genre`` of the original, or ``pool, dropout,
        genre`` with few weights, which cannot memorize the training images.

    Raises
    ------
    WeightsError
        If the weights are not available, or are not the expected ones.

    References
    ----------
    Szegedy et al., "Inception-v4, Inception-ResNet and the impact of residual connections on
    learning", AAAI 2017, DOI 10.1609/aaai.v31i1.11231.

    Examples
    --------
    >>> import genrecls
    >>> genrecls.build_inception_resnet_v2((128, 323, 3), 5, weights=None).output_shape
    (None, 5)
    """
    file = find_weights("inception_resnet_v2", weights)
    inputs, x = image_input(input_shape, image)
    backbone = keras.applications.InceptionResNetV2(
        include_top=False,
        weights=None,  # pyright: ignore[reportArgumentType]  Keras' annotation lacks None.
        input_tensor=x,
        input_shape=(*input_shape[:2], 3),
    )
    if file:
        load_weights(backbone, file)
    outputs = add_head(backbone.output, n_classes, head)
    return keras.Model(inputs, outputs, name="inception_resnet_v2")
