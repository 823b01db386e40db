"""Pieces for a net: read from the disk batch by batch, or held in memory where they are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from .backend import keras
from .features import Track, gathered
from .models import split_at

# Up to so much is held in memory: Keras then spends a tenth less time on the steps of a small net,
# and none on drawing the same pictures again.
_HELD_BYTES = 500_000_000

# Tracks whose files stay mapped.
_MAPPED = 256

#: Pieces in a batch that nothing is learnt from.
PREDICTED_AT_ONCE = 32


class Batches(keras.utils.PyDataset):
    """Pieces and what comes with them, as Keras' ``fit`` and ``predict`` take them.

    Parameters
    ----------
    track : callable
        See :func:`genrecls.features.gathered`.
    segments : pd.DataFrame
        With ``sha256`` and ``segment``.
    size : int > 0
        Pieces in a batch; the last one may have fewer.
    targets : sequence of np.ndarray [shape=(len(segments), ...)]
        What comes with each piece: target, weight.
    target_goes_in : bool
        Give the net the target too, which augmentation changes with the piece.
    shuffle_seed : int, optional
        Shuffle the pieces before every epoch.
    """

    def __init__(
        self,
        track: Track,
        segments: pd.DataFrame,
        size: int,
        targets: Sequence[np.ndarray] = (),
        *,
        target_goes_in: bool = False,
        shuffle_seed: int | None = None,
    ):
        super().__init__()
        self.track, self.segments = lru_cache(_MAPPED)(track), segments
        self.places = list(zip(segments["sha256"], segments["segment"] - 1, strict=True))
        self.size, self.targets, self.target_goes_in = size, targets, target_goes_in
        self.order = np.arange(len(segments))
        self.random = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.places) / self.size)

    def __getitem__(self, i: int) -> tuple:
        rows = self.order[i * self.size : (i + 1) * self.size]
        pieces = [self.track(sha256)[n] for sha256, n in (self.places[row] for row in rows)]
        return self._batch(np.stack(pieces).astype(np.float32), rows)

    def on_epoch_end(self) -> None:
        if self.random:
            self.random.shuffle(self.order)

    def at_once(self) -> tuple:
        """All pieces as one batch, in their order."""
        return self._batch(gathered(self.track, self.segments), slice(None))

    def as_dataset(self, size: int | None = None, *, endless: bool = False):
        """The same for TensorFlow, held in memory: without Python between two steps.

        Parameters
        ----------
        size : int > 0, optional
            Pieces in a batch, if not those of ``self``.
        endless : bool
            Begin again after every epoch, so that what reads it is made once.
        """
        import tensorflow as tf

        everything = tf.nest.map_structure(tf.convert_to_tensor, self.at_once())
        rows = tf.data.Dataset.range(len(self.places))
        if self.random:
            rows = rows.shuffle(len(self.places), int(self.random.integers(2**31)))
        rows = rows.batch(size or self.size)
        if endless:
            rows = rows.repeat()
        # A thread that tunes the pipeline makes every epoch wait for its turn.
        options = tf.data.Options()
        options.autotune.enabled = False
        return rows.map(
            lambda i: tf.nest.map_structure(lambda values: tf.gather(values, i), everything)
        ).with_options(options)

    def _batch(self, x: np.ndarray, rows) -> tuple:
        targets = [values[rows] for values in self.targets]
        return (x, targets[0]) if self.target_goes_in else x, *targets


def can_be_held(pieces: np.ndarray, segments: pd.DataFrame) -> bool:
    """Whether all pieces in a table go into memory, each of the size of these."""
    return 4 * len(segments) * math.prod(pieces.shape[1:]) <= _HELD_BYTES


def without_preamble(net, track: Track, segments: pd.DataFrame) -> tuple[Any, Track]:
    """A net without what it does to every piece before it comes to its first weight, and what that
    makes of a track.

    This is the layer that draws log-mels, and the cutting out of what a convolution sees where its
    windows do not overlap, as those of the original's do not: at strides of 5, its 3 x 3 pixels are
    a third of the picture. Where there is nothing of the kind, or so many pictures cannot be held,
    both as they are.
    """
    if "picture" not in [layer.name for layer in net.layers]:
        return net, track
    draw, rest = split_at(net, "picture")
    conv = rest.layers[1]
    if isinstance(conv, keras.layers.Conv2D) and _apart(conv):
        windows = keras.ops.image.extract_patches(
            draw.output, conv.kernel_size, conv.strides, padding=conv.padding
        )
        draw = keras.Model(draw.input, windows)
        inputs = keras.Input(windows.shape[1:], name="windows")
        _, above = split_at(net, conv.name)
        rest = keras.Model(inputs, above(_OnWindows(conv)(inputs)), name=net.name)

    def drawn(sha256: str) -> np.ndarray:
        return keras.ops.convert_to_numpy(draw(np.asarray(track(sha256), np.float32)))

    first = track(segments["sha256"].iloc[0])[:1]
    return (rest, drawn) if can_be_held(draw(np.asarray(first)), segments) else (net, track)


def _apart(conv) -> bool:
    """Whether no two windows of a convolution share a pixel."""
    return all(
        stride >= size and dilation == 1
        for stride, size, dilation in zip(
            conv.strides, conv.kernel_size, conv.dilation_rate, strict=True
        )
    )


class _OnWindows(keras.layers.Layer):
    """A convolution, with its own weights, on the windows that it would cut out of a picture."""

    def __init__(self, conv: keras.layers.Conv2D):
        super().__init__()
        self.conv = conv

    def build(self, shape):
        self.built = True  # as the convolution is

    def call(self, windows):
        kernel = keras.ops.reshape(self.conv.kernel, (-1, self.conv.filters))
        return self.conv.activation(keras.ops.matmul(windows, kernel) + self.conv.bias)


def predicted(net, track: Track, segments: pd.DataFrame) -> np.ndarray:
    """What a net says of pieces, in their order."""
    return net.predict(Batches(track, segments, PREDICTED_AT_ONCE), verbose=0)
