"""A small net of ours, which hears the same thing at any time and at any length."""

from __future__ import annotations

from genrecls._utils.backend import keras
from genrecls.models.image import Image, image_input

layers = keras.layers

FILTERS = (16, 32, 48, 64)


def build_compact_cnn(
    input_shape: tuple[int, int, int] = (128, 323, 3),
    n_classes: int = 2,
    *,
    image: Image | None = None,
) -> keras.Model:
    """Four convolutions, each with batch norm and pooling, and the mean over the whole image.

    47,282 parameters (46,962 trainable) for two genres. There is no flattened map for a dense
    layer to learn by heart, and the mean leaves open how long the image is.

    Parameters
    ----------
    input_shape : tuple (height, width, channels)
        Of images, (n_mels, frames, 3); of log-mels, (n_mels, frames, 1), with ``image``. The
        model takes images of any width from 32 frames up.
    n_classes : int >= 2
    image : Image, optional
        Layer that turns log-mels into images; without it the model takes images.

    Returns
    -------
    keras.Model
        Functional, not compiled; layers ``conv_1, batch_norm_1, ..., pool, dropout, genre``;
        output [shape=(batch, n_classes)], probabilities.

    Examples
    --------
    >>> import genrecls
    >>> genrecls.build_compact_cnn((128, 323, 3), 5).output_shape
    (None, 5)
    """
    height, _, channels = input_shape
    inputs, x = image_input((height, None, channels), image)
    for i, filters in enumerate(FILTERS, start=1):
        x = layers.Conv2D(
            filters, 3, strides=2 if i == 1 else 1, padding="same", use_bias=False, name=f"conv_{i}"
        )(x)
        # On small data the usual 0.99 would still remember the initial weights at the end.
        x = layers.BatchNormalization(momentum=0.9, name=f"batch_norm_{i}")(x)
        x = layers.ReLU(name=f"relu_{i}")(x)
        x = layers.MaxPooling2D(name=f"max_pool_{i}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    outputs = layers.Dense(n_classes, activation="softmax", name="genre")(x)
    return keras.Model(inputs, outputs, name="compact_cnn")
