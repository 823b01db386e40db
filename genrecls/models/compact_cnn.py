"""A small CNN that takes images of any width."""

from genrecls._utils.backend import keras
from genrecls.models.image import Image, image_input

layers = keras.layers


def build_compact_cnn(
    input_shape: tuple[int, int, int] = (128, 323, 3),
    n_classes: int = 2,
    *,
    image: Image | None = None,
) -> keras.Model:
    """Build four convolutions with batch norm and pooling, and a global mean.

    It has 47,282 parameters (46,962 trainable) for two genres. Global average pooling replaces
    the dense layer on a flattened map, which can memorize the training images, and makes the
    model independent of the width of the image.

    Parameters
    ----------
    input_shape, n_classes, image
        See :func:`genrecls.build_cnn`, also for the result. The model takes any width of at least
        32 frames.

    References
    ----------
    Lin, Chen and Yan, "Network in network", ICLR 2014, DOI 10.48550/arXiv.1312.4400.

    Examples
    --------
    >>> import genrecls
    >>> genrecls.build_compact_cnn((128, 323, 3), 5).output_shape
    (None, 5)
    """
    height, _, channels = input_shape
    inputs, x = image_input((height, None, channels), image)
    for i, filters in enumerate((16, 32, 48, 64), start=1):
        strides = 2 if i == 1 else 1
        x = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=False, name=f"conv_{i}"
        )(x)
        # With the usual momentum of 0.99, a small corpus has too few batches for the statistics
        # to forget their initial values.
        x = layers.BatchNormalization(momentum=0.9, name=f"batch_norm_{i}")(x)
        x = layers.ReLU(name=f"relu_{i}")(x)
        x = layers.MaxPooling2D(name=f"max_pool_{i}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    outputs = layers.Dense(n_classes, activation="softmax", name="genre")(x)
    return keras.Model(inputs, outputs, name="compact_cnn")
