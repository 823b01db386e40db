"""Segments for a net: read from the disk batch by batch, or held in memory where they are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils.backend import keras
from genrecls.features.prepare import SegmentLoader, gather_segments
from genrecls.models import split_at

# Up to so much is held in memory: Keras then spends a tenth less time on the steps of a small net,
# and none on drawing the same images again.
_HELD_BYTES = 500_000_000

# Tracks whose files stay mapped.
_MAPPED = 256

#: Segments in a batch that nothing is learnt from.
PREDICTION_BATCH = 32


class Batches(keras.utils.PyDataset):
    """Segments and what comes with them, as Keras' ``fit`` and ``predict`` take them.

    Parameters
    ----------
    track : callable
        See :func:`genrecls.features.prepare.gather_segments`.
    segments : pd.DataFrame
        With ``sha256`` and ``segment``.
    size : int > 0
        Segments in a batch; the last one may have fewer.
    targets : sequence of np.ndarray [shape=(len(segments), ...)]
        What comes with each segment: target, weight.
    target_goes_in : bool
        Give the net the target too, which augmentation changes with the segment.
    shuffle_seed : int, optional
        Shuffle the segments before every epoch.
    """

    def __init__(
        self,
        track: SegmentLoader,
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
        segments = [self.track(sha256)[n] for sha256, n in (self.places[row] for row in rows)]
        return self._batch(np.stack(segments).astype(np.float32), rows)

    def on_epoch_end(self) -> None:
        if self.random:
            self.random.shuffle(self.order)

    def max_pending(self) -> tuple:
        """All segments as one batch, in their order."""
        return self._batch(gather_segments(self.track, self.segments), slice(None))

    def as_dataset(self, size: int | None = None, *, endless: bool = False):
        """The same for TensorFlow, held in memory: without Python between two steps.

        Parameters
        ----------
        size : int > 0, optional
            Segments in a batch, if not those of ``self``.
        endless : bool
            Begin again after every epoch, so that what reads it is made once.
        """
        import tensorflow as tf

        everything = tf.nest.map_structure(tf.convert_to_tensor, self.max_pending())
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


def fits_in_memory(sample: np.ndarray, segments: pd.DataFrame) -> bool:
    """Whether all segments in a table go into memory, each of the size of these."""
    return 4 * len(segments) * math.prod(sample.shape[1:]) <= _HELD_BYTES


def precompute_images(
    net, track: SegmentLoader, segments: pd.DataFrame
) -> tuple[Any, SegmentLoader]:
    """A net without what it does to every segment before it comes to its first weight, and what that
    makes of a track.

    This is the layer that draws log-mels, and the cutting out of what a convolution sees where its
    windows do not overlap, as those of the original's do not: at strides of 5, its 3 x 3 pixels are
    a third of the image. Where there is nothing of the kind, or so many images cannot be held,
    both as they are.
    """
    if "image" not in [layer.name for layer in net.layers]:
        return net, track
    draw, rest = split_at(net, "image")
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
    return (rest, drawn) if fits_in_memory(draw(np.asarray(first)), segments) else (net, track)


def _apart(conv) -> bool:
    """Whether no two windows of a convolution share a pixel."""
    return all(
        stride >= size and dilation == 1
        for stride, size, dilation in zip(
            conv.strides, conv.kernel_size, conv.dilation_rate, strict=True
        )
    )


class _OnWindows(keras.layers.Layer):
    """A convolution, with its own weights, on the windows that it would cut out of a image."""

    def __init__(self, conv: keras.layers.Conv2D):
        super().__init__()
        self.conv = conv

    def build(self, shape):
        self.built = True  # as the convolution is

    def call(self, windows):
        kernel = keras.ops.reshape(self.conv.kernel, (-1, self.conv.filters))
        return self.conv.activation(keras.ops.matmul(windows, kernel) + self.conv.bias)


def predict_segments(net, track: SegmentLoader, segments: pd.DataFrame) -> np.ndarray:
    """What a net says of segments, in their order."""
    return net.predict(Batches(track, segments, PREDICTION_BATCH), verbose=0)
