"""Batches of segments, read from disk or held in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils.backend import keras
from genrecls.features.stored import SegmentLoader, gather_segments


class Batches(keras.utils.PyDataset):
    """Segments with their targets, read from disk batch by batch.

    Parameters
    ----------
    load : callable
        Takes the hash of a sound file and returns an array [shape=(segments, ...)].
    segments : pd.DataFrame
        Table with ``sha256`` and ``segment``.
    batch_size : int > 0
        Segments in a batch; the last batch may have fewer.
    targets : sequence of np.ndarray [shape=(len(segments), ...)]
        Target and weight of every segment.
    target_as_input : bool
        Give the target to the model as a second input, since augmentation changes it.
    shuffle_seed : int >= 0, optional
        Seed of the order of the segments, which then differs in every epoch.
    """

    def __init__(
        self,
        load: SegmentLoader,
        segments: pd.DataFrame,
        batch_size: int,
        targets: Sequence[np.ndarray] = (),
        *,
        target_as_input: bool = False,
        shuffle_seed: int | None = None,
    ):
        super().__init__()
        self.load, self.segments, self.batch_size = load, segments, batch_size
        self.targets, self.target_as_input = targets, target_as_input
        self.order = np.arange(len(segments))
        self.rng = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.segments) / self.batch_size)

    def __getitem__(self, index: int) -> tuple:
        return self._take(self.order[index * self.batch_size : (index + 1) * self.batch_size])

    def on_epoch_end(self) -> None:
        """Shuffle the segments for the next epoch."""
        if self.rng:
            self.rng.shuffle(self.order)

    def as_dataset(self, *, endless: bool = False) -> Any:
        """Return the batches as a TensorFlow dataset that is held in memory.

        Parameters
        ----------
        endless : bool
            Repeat the segments without end, so that Keras makes one iterator for all epochs.

        Returns
        -------
        tf.data.Dataset
        """
        import tensorflow as tf

        everything = tf.nest.map_structure(
            tf.convert_to_tensor, self._take(np.arange(len(self.order)))
        )
        rows = tf.data.Dataset.range(len(self.order))
        if self.rng:
            rows = rows.shuffle(len(self.order), int(self.rng.integers(2**31)))
        rows = rows.batch(self.batch_size)
        if endless:
            rows = rows.repeat()
        # With autotuning, every epoch would wait for the thread that tunes the pipeline.
        options = tf.data.Options()
        options.autotune.enabled = False
        return rows.map(
            lambda i: tf.nest.map_structure(lambda values: tf.gather(values, i), everything)
        ).with_options(options)

    def _take(self, rows: np.ndarray) -> tuple:
        x = gather_segments(self.load, self.segments.iloc[rows])
        targets = [values[rows] for values in self.targets]
        return (x, targets[0]) if self.target_as_input else x, *targets
