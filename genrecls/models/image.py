"""A layer that turns log-mels into images, so that a model takes the front end's output."""

from typing import Any, Self

import matplotlib

from genrecls._utils.backend import keras
from genrecls.config import FrontEnd

ops = keras.ops


@keras.saving.register_keras_serializable(package="genrecls")
class Image(keras.layers.Layer):
    """Colour log-mels like :func:`genrecls.to_image`, as a part of the model.

    The layer has no weights. Input [shape=(batch, n_mels, frames, 1)] in dB, output
    [shape=(batch, n_mels, frames, 3)] in ``input_range``.

    Parameters
    ----------
    image_db : tuple of two floats (in dB)
        Levels that get the darkest and the brightest colour.
    colormap : {'viridis', 'gray'}
        Colours of the image: matplotlib's map, or three equal channels.
    input_range : tuple of two floats
        Values for the darkest and the brightest colour, such as (-1, 1) for ImageNet weights.
    **kwargs
        Options of `keras.layers.Layer`, such as ``name``.
    """

    def __init__(
        self,
        image_db: tuple[float, float],
        colormap: str,
        input_range: tuple[float, float] = (0.0, 1.0),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.image_db = tuple(image_db)
        self.colormap = colormap
        self.input_range = tuple(input_range)
        dark, bright = self.input_range
        if colormap == "viridis":
            colors = matplotlib.colormaps[colormap](range(256))[:, :3].astype("float32")
            self._table = (dark + (bright - dark) * colors).astype("float32")

    @classmethod
    def from_front_end(
        cls, front_end: FrontEnd, input_range: tuple[float, float] = (0.0, 1.0)
    ) -> Self:
        """Make the layer for the levels and colours of a front end."""
        return cls(front_end.image_db, front_end.colormap, input_range, name="image")

    def call(self, log_mel):
        """Return the images of log-mels."""
        low, high = self.image_db
        level = (log_mel - low) / (high - low)
        if self.colormap == "viridis":
            n = len(self._table)
            index = ops.cast(ops.clip(level[..., 0] * n, 0, n - 1), "int32")
            return ops.take(ops.convert_to_tensor(self._table), index, axis=0)
        dark, bright = self.input_range
        colors: Any = ops.repeat(ops.clip(level, 0.0, 1.0), 3, axis=-1)
        return dark + (bright - dark) * colors

    def compute_output_shape(self, input_shape):
        """Return the shape of the images."""
        return (*input_shape[:-1], 3)

    def get_config(self):
        """Return the arguments of the layer, for saving."""
        return {
            **super().get_config(),
            "image_db": self.image_db,
            "colormap": self.colormap,
            "input_range": self.input_range,
        }


def image_input(input_shape: tuple[int | None, ...], image: Image | None) -> tuple[Any, Any]:
    """Make the input of a model and the image that its first convolution takes."""
    inputs = keras.Input(input_shape, name="log_mel" if image else "image")
    return inputs, image(inputs) if image else inputs
