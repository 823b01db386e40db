"""Pieces for a net: read from the disk batch by batch, or held in memory where they are few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

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

    def _batch(self, x: np.ndarray, rows) -> tuple:
        targets = [values[rows] for values in self.targets]
        return (x, targets[0]) if self.target_goes_in else x, *targets


def can_be_held(track: Track, segments: pd.DataFrame) -> bool:
    """Whether what there is of so many pieces goes into memory."""
    values = math.prod(track(segments["sha256"].iloc[0]).shape[1:])
    return 4 * len(segments) * values <= _HELD_BYTES


def after_picture(net, track: Track, segments: pd.DataFrame) -> tuple:
    """A net without the layer that draws log-mels, and what that layer makes of a track.

    It learns nothing. Where there is none, or so many pictures cannot be held, both as they are.
    """
    if "picture" not in [layer.name for layer in net.layers]:
        return net, track
    draw, rest = split_at(net, "picture")

    def drawn(sha256: str) -> np.ndarray:
        return keras.ops.convert_to_numpy(draw(np.asarray(track(sha256), np.float32)))

    return (rest, drawn) if can_be_held(drawn, segments) else (net, track)


def predicted(net, track: Track, segments: pd.DataFrame) -> np.ndarray:
    """What a net says of pieces, in their order."""
    return net.predict(Batches(track, segments, 32), verbose=0)
