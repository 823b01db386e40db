"""Training segments changed at random, so that a net does not learn them by heart.

Layers that take log-mels [shape=(batch, n_mels, frames, 1)] in dB. They do something in training
only, and stand in front of a net only there: what is saved is the net without them.
"""

from __future__ import annotations

import numpy as np

from genrecls._utils.backend import keras
from genrecls.config import Recipe

ops = keras.ops
_registered = keras.saving.register_keras_serializable(package="genrecls")


def augmented_model(net: keras.Model, recipe: Recipe) -> keras.Model:
    """The net as it is trained: behind the layers that a recipe asks for.

    Parameters
    ----------
    net : keras.Model
        Log-mels to probabilities. Its weights are trained, and it stays as it is.
    recipe : Recipe
        ``time_shift, crop, gain_db, mixup, time_mask, frequency_mask, random_seed``.

    Returns
    -------
    keras.Model
        Not compiled. Takes ``[log_mels, targets]``, targets [shape=(batch, genres)] with 1 for
        the genre of a segment and 0 for the others. Loss and metrics compare the probabilities with
        the targets as they come out of the layers, whatever ``y`` is.
    """
    # A crop of shifted segments starts elsewhere in each of them. Gain comes before mixup, so that
    # two segments meet at any balance, and masks after it, or one segment would fill the other's gap.
    log_mel = keras.Input(net.input_shape[1:], name="log_mel")
    target = keras.Input(net.output_shape[1:], name="target")
    # With PyTorch, Keras adds the number of the draw to the seed: neighbours would draw the same.
    seeds = map(int, np.random.SeedSequence(recipe.random_seed).generate_state(6) >> 1)
    x, y = log_mel, target
    if recipe.time_shift:
        x = TimeShift(random_seed=next(seeds))(x)
    if recipe.crop:
        x = RandomCrop(recipe.crop, random_seed=next(seeds))(x)
    if recipe.gain_db:
        x = Gain(recipe.gain_db, random_seed=next(seeds))(x)
    if recipe.mixup:
        x, y = Mixup(recipe.mixup, random_seed=next(seeds))([x, y])
    if recipe.time_mask:
        x = TimeMask(recipe.time_mask, random_seed=next(seeds))(x)
    if recipe.frequency_mask:
        x = FrequencyMask(recipe.frequency_mask, random_seed=next(seeds))(x)
    return _Augmented([log_mel, target], [net(x), y], name=f"augmented_{net.name}")


class _Augmented(keras.Model):
    """A model whose second output is what its first one is to be."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        probabilities, targets = y_pred
        return super().compute_loss(x, targets, probabilities, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        probabilities, targets = y_pred
        return super().compute_metrics(x, targets, probabilities, sample_weight)


class _Augmentation(keras.layers.Layer):
    """Gives what it is given, but for training, where it gives what ``change`` makes of it."""

    def __init__(self, random_seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.random_seed = random_seed
        self.seed_generator = keras.random.SeedGenerator(random_seed)

    def call(self, inputs, training=None):
        return self.change(inputs) if training else inputs

    def draw(self, n: int, most):
        """So many numbers [shape=(n, 1, 1, 1)], drawn evenly from 0 to ``most``."""
        return most * keras.random.uniform((n, 1, 1, 1), seed=self.seed_generator)

    def draw_whole(self, n: int, most):
        """As ``draw``, but whole numbers, ``most`` among them."""
        return ops.floor(self.draw(n, most + 1))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "random_seed": self.random_seed}


@_registered
class TimeShift(_Augmentation):
    """Rotate each segment in time, by any number of frames."""

    def change(self, log_mels):
        segments, _, frames, _ = ops.shape(log_mels)
        shift = ops.cast(self.draw_whole(segments, frames - 1), "int32")
        index = (ops.reshape(ops.arange(frames), (1, 1, -1, 1)) + shift) % frames
        return ops.take_along_axis(log_mels, index, axis=2)


@_registered
class RandomCrop(_Augmentation):
    """The same stretch of all segments of a batch, at a random time.

    Parameters
    ----------
    frames : int > 0
        Length of the stretch; shorter segments stay whole.
    """

    def __init__(self, frames: int, **kwargs):
        super().__init__(**kwargs)
        self.frames = frames

    def change(self, log_mels):
        length = ops.shape(log_mels)[2]
        frames = min(self.frames, length)
        start = ops.cast(self.draw_whole(1, length - frames), "int32")[0, 0, 0, 0]
        return ops.take(log_mels, start + ops.arange(frames), axis=2)

    def compute_output_shape(self, input_shape):
        batch, n_mels, _, channels = input_shape
        return batch, n_mels, None, channels

    def get_config(self):
        return {**super().get_config(), "frames": self.frames}


@_registered
class Gain(_Augmentation):
    """Make each segment louder or softer.

    Parameters
    ----------
    db : float >= 0 (in dB)
        Drawn evenly from minus this to this.
    """

    def __init__(self, db: float, **kwargs):
        super().__init__(**kwargs)
        self.db = db

    def change(self, log_mels):
        return log_mels + self.draw(ops.shape(log_mels)[0], 2 * self.db) - self.db

    def get_config(self):
        return {**super().get_config(), "db": self.db}


@_registered
class Mixup(_Augmentation):
    """Mix every segment with another one of the batch, sound and target in the same shares.

    What is mixed is power, as if two tracks were playing, and not decibels (Zhang et al. 2018,
    "mixup: Beyond empirical risk minimization", mix the inputs as they are). Takes and gives
    ``[log_mels, targets]``, targets [shape=(batch, genres)] whose rows sum to 1.

    Parameters
    ----------
    most : float in [0, 1]
        Largest share of the other segment; drawn evenly from 0 to this.
    """

    def __init__(self, most: float, **kwargs):
        super().__init__(**kwargs)
        self.most = most

    def change(self, inputs):
        log_mels, targets = inputs
        segments = ops.shape(log_mels)[0]
        other = ops.argsort(ops.reshape(self.draw(segments, 1.0), (-1,)))
        share = self.draw(segments, self.most)
        power = 10 ** (log_mels / 10)
        to_mono = 10 * ops.log10((1 - share) * power + share * ops.take(power, other, axis=0))
        share = share[:, 0, 0]
        return [to_mono, (1 - share) * targets + share * ops.take(targets, other, axis=0)]

    def get_config(self):
        return {**super().get_config(), "most": self.most}


class _Mask(_Augmentation):
    """Neighbours along an axis as quiet as the quietest of the segment.

    Parameters
    ----------
    most : int >= 0
        Most neighbours; their number is drawn evenly from 0 to this.
    """

    axis: int

    def __init__(self, most: int, **kwargs):
        super().__init__(**kwargs)
        self.most = most

    def change(self, log_mels):
        segments, n = ops.shape(log_mels)[0], ops.shape(log_mels)[self.axis]
        width = self.draw_whole(segments, min(self.most, n))
        start = self.draw_whole(segments, n - width)
        shape = [1] * 4
        shape[self.axis] = -1
        place = ops.reshape(ops.arange(n, dtype=width.dtype), shape)
        hidden = ops.logical_and(place >= start, place < start + width)
        return ops.where(hidden, ops.min(log_mels, axis=(1, 2, 3), keepdims=True), log_mels)

    def get_config(self):
        return {**super().get_config(), "most": self.most}


@_registered
class TimeMask(_Mask):
    """Hide a stretch of each segment, of ``most`` frames (Park et al. 2019, "SpecAugment")."""

    axis = 2


@_registered
class FrequencyMask(_Mask):
    """Hide ``most`` neighbouring mel bands of each segment (Park et al. 2019, "SpecAugment")."""

    axis = 1
