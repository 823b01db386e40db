"""Random changes of training segments, so that a model does not memorize them.

The layers change log-mels [shape=(batch, n_mels, frames, 1)] in dB, and only in training. They
precede a model while it is trained; the saved model does not contain them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genrecls._utils.backend import keras
from genrecls.config import Recipe

ops: Any = keras.ops


def add_augmentation(model: keras.Model, recipe: Recipe) -> keras.Model:
    """Put the augmentation layers of a recipe before a model.

    The result takes ``[log_mels, targets]``, where the targets [shape=(batch, genres)] are 1 for
    the genre of a segment and 0 elsewhere. Loss and metrics compare the probabilities with the
    targets after augmentation and ignore ``y``.
    """
    log_mels = keras.Input(model.input_shape[1:], name="log_mel")
    targets = keras.Input(model.output_shape[1:], name="target")
    # With PyTorch, Keras adds the number of the draw to the seed, so that layers with consecutive
    # seeds would draw the same numbers.
    seeds = iter(np.random.SeedSequence(recipe.random_seed).generate_state(2) >> 1)
    x, y = log_mels, targets
    if recipe.crop:
        x = RandomCrop(recipe.crop, random_seed=int(next(seeds)))(x)
    if recipe.mixup:
        x, y = Mixup(recipe.mixup, random_seed=int(next(seeds)))([x, y])
    return _AugmentedModel([log_mels, targets], [model(x), y], name=f"augmented_{model.name}")


class _AugmentedModel(keras.Model):
    """A model whose second output is the target of its first output."""

    def compute_loss(self, x=None, y=None, y_pred: Any = None, sample_weight=None, training=True):
        probabilities, targets = y_pred
        return super().compute_loss(x, targets, probabilities, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        probabilities, targets = y_pred
        return super().compute_metrics(x, targets, probabilities, sample_weight)


class _Augmentation(keras.layers.Layer):
    def __init__(self, random_seed: int | None = None):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(random_seed)

    def _draw(self, n: Any, maximum: Any) -> Any:
        """Draw n numbers [shape=(n, 1, 1, 1)] uniformly from 0 to a maximum."""
        return maximum * keras.random.uniform((n, 1, 1, 1), seed=self.seed_generator)


class RandomCrop(_Augmentation):
    """Cut the same random stretch of ``frames`` out of all segments of a batch."""

    def __init__(self, frames: int, random_seed: int | None = None):
        super().__init__(random_seed)
        self.frames = frames

    def call(self, log_mels: Any, training: bool | None = None) -> Any:
        """Return the cropped log-mels in training, else the log-mels."""
        if not training:
            return log_mels
        length = ops.shape(log_mels)[2]
        frames = min(self.frames, length)
        start = ops.floor(self._draw(1, length - frames + 1))
        start = ops.cast(start, "int32")[0, 0, 0, 0]
        return ops.take(log_mels, start + ops.arange(frames), axis=2)


class Mixup(_Augmentation):
    """Mix every segment and its target with another segment of the batch.

    The layer mixes power, as if two tracks were playing together; the original method mixes the
    inputs. The share of the other segment is drawn uniformly from 0 to ``max_share``.

    References
    ----------
    H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz, "mixup: Beyond empirical risk minimization",
    ICLR 2018, doi:10.48550/arXiv.1710.09412.
    """

    def __init__(self, max_share: float, random_seed: int | None = None):
        super().__init__(random_seed)
        self.max_share = max_share

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the mixed ``[log_mels, targets]`` in training, else the inputs."""
        if not training:
            return inputs
        log_mels, targets = inputs
        n = ops.shape(log_mels)[0]
        other = ops.argsort(ops.reshape(self._draw(n, 1.0), (-1,)))
        share = self._draw(n, self.max_share)
        power = 10 ** (log_mels / 10)
        mixed = 10 * ops.log10((1 - share) * power + share * ops.take(power, other, axis=0))
        share = share[:, 0, 0]
        return [mixed, (1 - share) * targets + share * ops.take(targets, other, axis=0)]
