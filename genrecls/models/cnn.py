"""The small CNN of the original lab."""

from genrecls._utils.backend import keras
from genrecls.models.image import Image, image_input

layers = keras.layers


def build_cnn(
    input_shape: tuple[int, int, int] = (400, 162, 3),
    n_classes: int = 2,
    *,
    image: Image | None = None,
) -> keras.Model:
    """Build the original CNN: one strided convolution and two dense layers.

    It has 845,218 parameters (845,198 trainable) for images of 400 x 162 x 3 and two genres.

    Parameters
    ----------
    input_shape : tuple (height, width, channels)
        (n_mels, frames, 3) for images; (n_mels, frames, 1) for log-mels, with ``image``.
    n_classes : int >= 2
        Number of genres.
    image : Image, optional
        Layer that turns log-mels into images; without it, the model takes images.

    Returns
    -------
    keras.Model
        Not compiled; output [shape=(batch, n_classes)], probabilities.

    Examples
    --------
    >>> import genrecls
    >>> genrecls.build_cnn((128, 323, 3), 5).output_shape
    (None, 5)
    """
    inputs, x = image_input(input_shape, image)
    x = layers.Conv2D(
        10,
        3,
        strides=5,
        padding="same",
        activation="relu",
        kernel_initializer="truncated_normal",
        name="conv",
    )(x)
    x = layers.BatchNormalization(name="batch_norm")(x)
    x = layers.Dropout(0.1, name="dropout_conv")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(32, activation="relu", name="dense")(x)
    x = layers.Dropout(0.25, name="dropout_dense")(x)
    outputs = layers.Dense(n_classes, activation="softmax", name="genre")(x)
    return keras.Model(inputs, outputs, name="cnn")
