"""Log-mel to image as a layer, so that a saved model takes what the front end gives."""

from __future__ import annotations

from genrecls._utils.backend import keras
from genrecls._utils.colors import DELTA_REACH, color_table, delta_weights
from genrecls.config import FrontEnd

ops = keras.ops


@keras.saving.register_keras_serializable(package="genrecls")
class Image(keras.layers.Layer):
    """Colour log-mels in dB, as :func:`genrecls.to_image` does, inside the model graph.

    Has no weights. Input [shape=(batch, n_mels, frames, 1)] in dB, output
    [shape=(batch, n_mels, frames, 3)] in ``input_range``.

    Parameters
    ----------
    image_db : tuple of two floats (in dB)
        Levels drawn as the darkest and the brightest colour.
    colormap : {'viridis', 'gray', 'deltas'}
    input_range : tuple of two floats
        Values of the darkest and brightest colour: (0, 1), or (-1, 1) for ImageNet weights.
    """

    def __init__(self, image_db, colormap, input_range=(0.0, 1.0), **kwargs):
        super().__init__(**kwargs)
        self.image_db = tuple(image_db)
        self.colormap = colormap
        self.input_range = tuple(input_range)
        dark, bright = self.input_range
        if colormap == "viridis":
            self._table = (dark + (bright - dark) * color_table(colormap)).astype("float32")

    @classmethod
    def of(cls, front_end: FrontEnd, input_range=(0.0, 1.0)) -> Image:
        """The layer that draws what ``front_end`` says."""
        return cls(front_end.image_db, front_end.colormap, input_range, name="image")

    def call(self, log_mel):
        low, high = self.image_db
        level = (log_mel - low) / (high - low)
        if self.colormap == "viridis":
            n = len(self._table)
            index = ops.cast(ops.clip(level[..., 0] * n, 0, n - 1), "int32")
            return ops.take(ops.convert_to_tensor(self._table), index, axis=0)
        level = ops.clip(level, 0.0, 1.0)
        if self.colormap == "gray":
            colors = ops.repeat(level, 3, axis=-1)
        else:
            delta = _delta(level)
            changes = ops.concatenate([delta, _delta(delta)], axis=-1)
            colors = ops.concatenate([level, ops.clip(changes + 0.5, 0.0, 1.0)], axis=-1)
        dark, bright = self.input_range
        return dark + (bright - dark) * colors

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 3)

    def get_config(self):
        return {
            **super().get_config(),
            "image_db": self.image_db,
            "colormap": self.colormap,
            "input_range": self.input_range,
        }


def _delta(values):
    """Change over time [shape=(batch, n_mels, frames, 1)], as in :func:`genrecls.to_image`."""
    first, last = values[:, :, :1], values[:, :, -1:]
    padded = ops.concatenate([first] * DELTA_REACH + [values] + [last] * DELTA_REACH, axis=2)
    frames = ops.shape(values)[2]
    return sum(
        float(weight) * padded[:, :, i : i + frames] for i, weight in enumerate(delta_weights())
    )


def image_input(input_shape, image: Image | None):
    """Model input and the image made of it (the input itself where there is no layer)."""
    inputs = keras.Input(input_shape, name="log_mel" if image else "image")
    return inputs, image(inputs) if image else inputs
