"""Outputs of a frozen backbone: computed once for every track and kept on disk."""

import hashlib
import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from genrecls._utils import cache
from genrecls._utils.backend import keras
from genrecls.config import FrontEnd, Recipe, hash_json
from genrecls.features.stored import Features, SegmentLoader
from genrecls.models.backbone import calibrate_batch_norm

#: Kind of the entries in the cache.
KIND = "backbone_outputs"

_FILE = "outputs.npy"

# All batches have this size, since TensorFlow would trace the model again for another one. musicnn
# needs 0.15 GB for each segment of a batch.
_BATCH = 8

# More segments hardly change the mean and variance of 10,000 pixels each. Keras keeps the output of
# every layer while batch norm takes statistics: 3 GB for this many pixels of InceptionResNetV2.
_CALIBRATION_SEGMENTS = 64
_CALIBRATION_BATCH = 16
_CALIBRATION_PIXELS = _CALIBRATION_BATCH * 128 * 323


def hash_backbone(
    backbone: keras.Model, front_end: FrontEnd, recipe: Recipe, train: pd.DataFrame | None = None
) -> str:
    """Hash everything that decides the outputs of a backbone beside the sound file.

    The batch norm of a random backbone takes its statistics from the training segments.
    """
    weights = hashlib.sha256()
    for values in backbone.get_weights():
        weights.update(np.asarray(values).tobytes())
    settings = [front_end.to_dict(), cache.VERSIONS["log_mels"]]
    settings += [recipe.model, recipe.input_range, recipe.fine_tune_after, backbone.output_shape]
    rows = [] if train is None else train[["sha256", "segment"]].to_numpy().tolist()
    split = [rows, recipe.random_seed] if rows else []
    return hash_json([weights.hexdigest(), *settings, *split])[:16]


def calibrate_backbone(
    backbone: keras.Model, features: Features, segments: pd.DataFrame, recipe: Recipe
) -> None:
    """Give a random backbone batch-norm statistics of some training segments."""
    train = segments[segments["split"] == "train"]
    n = min(len(train), _CALIBRATION_SEGMENTS)
    sample = train.sample(n, random_state=recipe.random_seed)
    pixels = math.prod(features.front_end.shape)
    size = max(1, min(_CALIBRATION_BATCH, _CALIBRATION_PIXELS // pixels))
    batches = [sample.iloc[i : i + size] for i in range(0, n, size)]
    calibrate_batch_norm(backbone, (features.log_mels(batch) for batch in batches))


def cache_outputs(
    model: keras.Model, load: SegmentLoader, uid: str, hashes: list[str], *, progress: bool
) -> SegmentLoader:
    """Compute the outputs of a frozen model that are not in the cache, and return their loader."""
    entries = {sha256: cache.entry(KIND, f"{uid}-{sha256}") for sha256 in hashes}
    todo = [sha256 for sha256 in hashes if cache.load(entries[sha256]) is None]
    with tqdm(total=len(todo), desc="backbone", unit="track", disable=not progress) as bar:
        # The batches go on from track to track, since one track alone would fill them badly.
        segments = (segment for sha256 in todo for segment in load(sha256))
        outputs = _predict_batches(model, segments)
        for sha256 in todo:
            rows = list(itertools.islice(outputs, len(load(sha256))))
            with cache.new(entries[sha256]) as (folder, _):
                np.save(folder / _FILE, rows)
            bar.update()
    return lambda sha256: np.load(entries[sha256] / _FILE, mmap_mode="r", allow_pickle=False)


def _predict_batches(model: keras.Model, segments: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the output of a model for each segment; only one batch is in memory."""
    while batch := list(itertools.islice(segments, _BATCH)):
        yield from _predict(model, np.array(batch, np.float32))


def _predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Predict one batch, padded to the fixed batch size."""
    batch = np.zeros((_BATCH, *x.shape[1:]), x.dtype)
    batch[: len(x)] = x
    return model.predict_on_batch(batch)[: len(x)]
