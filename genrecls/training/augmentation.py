"""Random changes of training segments, so that a model does not memorize them.

They change log-mels [shape=(batch, n_mels, frames, 1)] in dB, and only in training. The saved model
does not contain them.
"""

from typing import Any

import numpy as np

from genrecls._utils.backend import keras
from genrecls.config import Recipe

ops: Any = keras.ops


class AugmentedModel(keras.Model):
    """A model behind the augmentation of a recipe.

    It takes ``[log_mels, targets]``, where the targets [shape=(batch, genres)] are 1 for the genre
    of a segment and 0 elsewhere. Loss and metrics compare the probabilities with the targets after
    augmentation and ignore ``y``.
    """

    def __init__(self, model: keras.Model, recipe: Recipe):
        super().__init__(name=f"augmented_{model.name}")
        self.model, self.recipe = model, recipe
        # With PyTorch, Keras adds the number of the draw to the seed, so that consecutive seeds
        # would draw the same numbers.
        seeds = np.random.SeedSequence(recipe.random_seed).generate_state(2) >> 1
        self.seeds = [keras.random.SeedGenerator(int(seed)) for seed in seeds]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the probabilities and the targets."""
        log_mels, targets = inputs
        seeds = iter(self.seeds)
        if training and self.recipe.crop:
            log_mels = random_crop(log_mels, self.recipe.crop, next(seeds))
        if training and self.recipe.mixup:
            log_mels, targets = mixup(log_mels, targets, self.recipe.mixup, next(seeds))
        return [self.model(log_mels, training=training), targets]

    def compute_loss(self, x=None, y=None, y_pred: Any = None, sample_weight=None, training=True):
        """Compare the probabilities with the targets."""
        probabilities, targets = y_pred
        return super().compute_loss(x, targets, probabilities, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Compare the probabilities with the targets."""
        probabilities, targets = y_pred
        return super().compute_metrics(x, targets, probabilities, sample_weight)


def random_crop(log_mels: Any, frames: int, seed: keras.random.SeedGenerator) -> Any:
    """Cut the same random stretch of some frames out of all segments of a batch."""
    length = ops.shape(log_mels)[2]
    frames = min(frames, length)
    start = ops.floor(_draw(1, length - frames + 1, seed))
    start = ops.cast(start, "int32")[0, 0, 0, 0]
    return ops.take(log_mels, start + ops.arange(frames), axis=2)


def mixup(log_mels: Any, targets: Any, max_share: float, seed: keras.random.SeedGenerator) -> Any:
    """Mix every segment and its target with another segment of the batch.

    The power is mixed, as if two tracks were playing together; the original method mixes the
    inputs. See Zhang et al., "mixup", ICLR 2018, DOI 10.48550/arXiv.1710.09412.
    """
    n = ops.shape(log_mels)[0]
    other = ops.argsort(ops.reshape(_draw(n, 1.0, seed), (-1,)))
    share = _draw(n, max_share, seed)
    power = 10 ** (log_mels / 10)
    mixed = 10 * ops.log10((1 - share) * power + share * ops.take(power, other, axis=0))
    share = share[:, 0, 0]
    return mixed, (1 - share) * targets + share * ops.take(targets, other, axis=0)


def _draw(n: Any, maximum: Any, seed: keras.random.SeedGenerator) -> Any:
    """Draw n numbers [shape=(n, 1, 1, 1)] uniformly from 0 to a maximum."""
    return maximum * keras.random.uniform((n, 1, 1, 1), seed=seed)
