"""Training in stages: what is frozen is computed once and kept on disk, only the rest is trained.

Stage 1 trains the head on what the frozen backbone says of each segment. Stage 2 trains the end of the
backbone too, on what lies below the cut says. Both cost a small part of training the whole net.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from genrecls._utils.io import write_atomically
from genrecls._utils.paths import project_root
from genrecls.config import Recipe, hash_json
from genrecls.corpus.splits import split_hash
from genrecls.features.prepare import Features, SegmentLoader

# Every batch has this size, or TensorFlow would trace the net anew.
_BATCH = 16

# More segments say hardly more about the mean and variance of 10,000 pixels each. While batch norm
# takes statistics, Keras keeps what every layer says: 3 GB for so many pixels of InceptionResNetV2.
_CALIBRATED_ON = 64
_CALIBRATED_PIXELS = _BATCH * 128 * 323

# Raise it when the same weights and segments give other outputs than before.
_VERSION = 2


def fit_in_stages(
    model,
    features: Features,
    segments: pd.DataFrame,
    recipe: Recipe,
    fit_net: Callable[..., pd.DataFrame],
    *,
    progress: bool = True,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Train a model with a backbone in one or two stages.

    Parameters
    ----------
    model : keras.Model
        Log-mels to probabilities, with a backbone; see :func:`genrecls.models.backbone_end`. It is
        trained in place.
    features : Features
    segments : pd.DataFrame
        The segments table, with ``split``.
    recipe : Recipe
        With ``backbone='frozen'``.
    fit_net : callable
        ``(net, track, recipe) -> history``: trains a net on what ``track`` gives of the segments; see
        :func:`genrecls.features.prepare.gather_segments`.
    progress : bool
        Show progress bars.

    Returns
    -------
    history : pd.DataFrame
        One row an epoch of either stage, with ``stage`` (1 or 2).
    probabilities : np.ndarray [shape=(held-out segments, genres)]
        Of the segments whose split is not ``'train'``.

    Notes
    -----
    Outputs are kept in ``data/backbone/``, named by the weights that made them, the image, and the
    content of the sound file. An interrupted run does not compute them again (what follows takes
    seconds, and begins anew), and a pretrained backbone is asked once for all folds, recipes and
    heads. Those of a random backbone, which hardly serve another run, are deleted at the end.
    """
    from genrecls.models import backbone_end, split_at

    backbone, head = split_at(model, backbone_end(model))
    image = [features.folder.name, features.front_end.to_dict(), recipe.input_range]
    with ExitStack() as stack:
        if recipe.weights is None:
            uid = _folder([_VERSION, _digest(backbone), image, split_hash(segments)])
            uid.parent.mkdir(parents=True, exist_ok=True)
            # Another run on the same backbone would delete what this one reads.
            stack.enter_context(FileLock(uid.with_suffix(".lock")))
            file = uid.with_suffix(".npz")
            _calibrate(backbone, file, features, segments, recipe, progress=progress)
        backbone.trainable = False  # not before: what is frozen takes no batch-norm statistics
        asked = _ask(backbone, features, segments, recipe, image, progress=progress)
        found = _train(asked, head, segments, recipe, fit_net)
        if recipe.weights is None:
            for folder in asked.folders:
                shutil.rmtree(folder)
    return found


@dataclass(frozen=True)
class _Asked:
    """What a frozen backbone says of all tracks: where it ends, and at the cut before its tail."""

    at_end: SegmentLoader
    tail: Any
    at_cut: SegmentLoader
    folders: list[Path]


def _ask(backbone, features: Features, segments, recipe, image, *, progress: bool) -> _Asked:
    from genrecls.models import split_at

    below, tail = backbone, None
    if recipe.fine_tune_after:
        below, tail = split_at(backbone, recipe.fine_tune_after)
    decides = [_VERSION, recipe.model, image, recipe.fine_tune_after, _digest(below)]
    folders = [_folder(decides)]
    tracks = segments["sha256"].unique().tolist()
    at_cut = at_end = _outputs(
        below, tracks, features.track, folders[0], what="frozen part", progress=progress
    )
    if tail:
        folders.append(_folder([*decides, _digest(tail)]))
        at_end = _outputs(
            tail, tracks, at_cut, folders[1], what="rest of the backbone", progress=progress
        )
    return _Asked(at_end, tail, at_cut, folders)


def _train(asked: _Asked, head, segments, recipe, fit_net) -> tuple[pd.DataFrame, np.ndarray]:
    from genrecls._utils.backend import keras
    from genrecls.models import unfreeze
    from genrecls.training.data import predict_segments

    net, track = head, asked.at_end
    keras.utils.set_random_seed(recipe.random_seed)
    history = fit_net(net, track, recipe).assign(stage=1)
    if tail := asked.tail:
        unfreeze(tail)
        net = keras.Model(tail.input, head(tail.output), name="tail_and_head")
        after_first = net.get_weights()
        track = asked.at_cut
        second = dataclasses.replace(
            recipe, epochs=recipe.fine_tune_epochs, learning_rate=recipe.fine_tune_rate
        )
        keras.utils.set_random_seed(recipe.random_seed + 1)
        history = pd.concat(
            [history, fit_net(net, track, second).assign(stage=2)], ignore_index=True
        )
        history["epoch"] = history.index
        if _first_was_better(history, recipe):
            net.set_weights(after_first)
    return history, predict_segments(net, track, segments[segments["split"] != "train"])


def _first_was_better(history: pd.DataFrame, recipe: Recipe) -> bool:
    """Whether validation, where it decides, was best in the first stage."""
    if not recipe.patience or "val_loss" not in history:
        return False
    return history["stage"].iloc[history["val_loss"].argmin()] == 1


def _calibrate(backbone, file: Path, features, segments, recipe, *, progress: bool) -> None:
    """Give a random backbone batch-norm statistics; they are kept, since sums differ in the last bit
    from run to run, and what is named by the weights must not."""
    from genrecls._utils.backend import keras
    from genrecls.models import calibrate_batch_norm

    norms = [x for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
    if not file.exists():
        train = segments[segments["split"] == "train"]
        some = train.sample(min(len(train), _CALIBRATED_ON), random_state=recipe.random_seed)
        pixels = math.prod(features.front_end.shape)
        size = max(1, min(_BATCH, _CALIBRATED_PIXELS // pixels))
        parts = [some.iloc[i : i + size] for i in range(0, len(some), size)]
        bar = _bar(parts, "batch norm", "batch", progress=progress)
        calibrate_batch_norm(backbone, (features.log_mels(part) for part in bar))
        values = [keras.ops.convert_to_numpy(w) for n in norms
                  for w in (n.moving_mean, n.moving_variance)]  # fmt: skip
        write_atomically(file, lambda f: np.savez(f, *values))
    with np.load(file, allow_pickle=False) as saved:
        for i, norm in enumerate(norms):
            norm.moving_mean.assign(saved[f"arr_{2 * i}"])
            norm.moving_variance.assign(saved[f"arr_{2 * i + 1}"])


def _outputs(
    net, tracks: list[str], source: SegmentLoader, folder: Path, *, what: str, progress: bool
) -> SegmentLoader:
    """What a frozen part of a model says of all segments of some tracks, computed where missing."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [sha256 for sha256 in tracks if not (folder / f"{sha256}.npy").exists()]
    waiting: list[tuple[str, np.ndarray]] = []
    bar = _bar(todo, what, "track", progress=progress)
    for sha256 in bar:
        waiting.append((sha256, np.asarray(source(sha256), np.float32)))
        if sum(len(x) for _, x in waiting) >= _BATCH or sha256 == todo[-1]:
            outputs = _in_batches(net, np.concatenate([x for _, x in waiting]))
            for name, x in waiting:
                mine, outputs = outputs[: len(x)], outputs[len(x) :]
                write_atomically(folder / f"{name}.npy", lambda f, mine=mine: np.save(f, mine))
            waiting = []
    return lambda sha256: np.load(folder / f"{sha256}.npy", mmap_mode="r", allow_pickle=False)


def _in_batches(net, x: np.ndarray) -> np.ndarray:
    """Outputs of a net, computed in batches of one size."""
    padded = np.concatenate([x, np.zeros((-len(x) % _BATCH, *x.shape[1:]), x.dtype)])
    parts = [net.predict_on_batch(padded[i : i + _BATCH]) for i in range(0, len(padded), _BATCH)]
    return np.concatenate(parts)[: len(x)]


def _digest(net) -> str:
    """SHA-256 of all weights of a net."""
    digest = hashlib.sha256()
    for values in net.get_weights():
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


def _folder(decides: list) -> Path:
    return project_root() / "data" / "backbone" / hash_json(decides)[:16]


def _bar(parts: list, what: str, unit: str, *, progress: bool):
    from tqdm.auto import tqdm

    return tqdm(parts, desc=what, unit=unit, disable=not progress)
