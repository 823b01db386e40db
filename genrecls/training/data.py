"""Segments as Keras takes them: read from disk batch by batch, or held in memory."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils.backend import keras
from genrecls.config import Recipe
from genrecls.features.stored import SegmentLoader, gather_segments
from genrecls.models import split_at

PREDICTION_BATCH = 32

# Segments up to this size are held in memory, with their images drawn once and without Python
# between two steps: the original's CNN then trains 1.7 times as fast as on NumPy arrays.
_MAX_HELD_BYTES = 500_000_000


class Batches(keras.utils.PyDataset):
    """Segments with their targets (target and weight of each), read from disk batch by batch.

    With ``target_as_input``, the model gets the target as a second input, since augmentation
    changes it. With ``shuffle_seed``, the order of the segments differs in every epoch.
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

        An endless dataset repeats the segments, so that Keras makes one iterator for all epochs.
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
        inputs = (x, targets[0]) if self.target_as_input else x
        return inputs, *targets


def precompute_images(
    model: keras.Model, load: SegmentLoader, segments: pd.DataFrame
) -> tuple[keras.Model, SegmentLoader]:
    """Return the layers after the image layer, and a loader of images, if these can be held."""
    if "image" not in [layer.name for layer in model.layers]:
        return model, load
    draw, classify = split_at(model, "image")

    def load_images(sha256: str) -> np.ndarray:
        return np.asarray(draw(np.asarray(load(sha256), np.float32)))

    return (classify, load_images) if _can_hold(load_images, segments) else (model, load)


def _can_hold(load: SegmentLoader, segments: pd.DataFrame) -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    values = math.prod(load(segments["sha256"].iloc[0]).shape[1:])
    return 4 * len(segments) * values <= _MAX_HELD_BYTES


def make_fit_data(load: SegmentLoader, segments: pd.DataFrame, recipe: Recipe) -> dict[str, Any]:
    """Return the arguments of Keras' ``fit`` that concern the data."""
    labels, genres = pd.factorize(segments["genre"], sort=True)
    targets = np.eye(len(genres), dtype=np.float32)[labels]
    train = (segments["split"] == "train").to_numpy()
    weights = segments["sounding"].to_numpy(np.float32, copy=True)
    if recipe.class_weights:
        weights[train] = balanced_weights(segments[train])

    def select(rows: np.ndarray, batch_size: int, shuffle_seed: int | None = None) -> Batches:
        return Batches(
            load,
            segments[rows],
            batch_size,
            [targets[rows], weights[rows]],
            target_as_input=recipe.augmented,
            shuffle_seed=shuffle_seed,
        )

    training = select(train, recipe.batch_size, recipe.random_seed)
    validation = None if train.all() else select(~train, PREDICTION_BATCH)
    if not _can_hold(load, segments):
        return {"x": training, "validation_data": validation, "verbose": 0}
    return {
        "x": training.as_dataset(endless=True),
        "shuffle": False,  # the dataset shuffles itself
        "steps_per_epoch": len(training),
        "validation_data": validation and validation.as_dataset(),
        "verbose": 0,
    }


def balanced_weights(segments: pd.DataFrame) -> np.ndarray:
    """Return the weights of segments, scaled so that all genres have the same sum."""
    weights = segments["sounding"]
    sums = weights.groupby(segments["genre"]).transform("sum")
    return (weights * (weights.sum() / (segments["genre"].nunique() * sums))).to_numpy()


def predict_held_out(model: keras.Model, load: SegmentLoader, segments: pd.DataFrame) -> np.ndarray:
    """Predict the segments whose split is not ``'train'``, in their order."""
    held_out = segments[segments["split"] != "train"]
    options: Any = {"verbose": 0}
    return model.predict(Batches(load, held_out, PREDICTION_BATCH), **options)
