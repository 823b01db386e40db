"""Training in stages: what is frozen is computed once and kept on disk, only the rest is trained.

Stage 1 trains the head on what the frozen trunk says of each piece. Stage 2 trains the end of the
trunk too, on what lies below the cut says. Both cost a small part of training the whole net.
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

from .config import Recipe, hash_json, project_root
from .corpus import split_hash
from .features import Features, Track
from .files import write_atomically

# Every batch has this size, or TensorFlow would trace the net anew.
_BATCH = 16

# More pieces say hardly more about the mean and variance of 10,000 pixels each. While batch norm
# takes statistics, Keras keeps what every layer says: 3 GB for so many pixels of InceptionResNetV2.
_CALIBRATED_ON = 64
_CALIBRATED_PIXELS = _BATCH * 128 * 323

# Raise it when the same weights and pieces give other outputs than before.
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
    """Train a model with a trunk in one or two stages.

    Parameters
    ----------
    model : keras.Model
        Log-mels to probabilities, with a trunk; see :func:`genrecls.models.trunk_end`. It is
        trained in place.
    features : Features
    segments : pd.DataFrame
        The segments table, with ``split``.
    recipe : Recipe
        With ``trunk='frozen'``.
    fit_net : callable
        ``(net, track, recipe) -> history``: trains a net on what ``track`` gives of the pieces; see
        :func:`genrecls.features.gathered`.
    progress : bool
        Show progress bars.

    Returns
    -------
    history : pd.DataFrame
        One row an epoch of either stage, with ``stage`` (1 or 2).
    probabilities : np.ndarray [shape=(held-out pieces, genres)]
        Of the pieces whose split is not ``'train'``.

    Notes
    -----
    Outputs are kept in ``data/trunk/``, named by the weights that made them, the picture, and the
    content of the sound file. An interrupted run does not compute them again (what follows takes
    seconds, and begins anew), and a pretrained trunk is asked once for all folds, recipes and
    heads. Those of a random trunk, which hardly serve another run, are deleted at the end.
    """
    from .models import split_at, trunk_end

    trunk, head = split_at(model, trunk_end(model))
    picture = [features.folder.name, features.front_end.to_dict(), recipe.input_range]
    with ExitStack() as stack:
        if recipe.weights is None:
            uid = _folder([_VERSION, _digest(trunk), picture, split_hash(segments)])
            uid.parent.mkdir(parents=True, exist_ok=True)
            # Another run on the same trunk would delete what this one reads.
            stack.enter_context(FileLock(uid.with_suffix(".lock")))
            file = uid.with_suffix(".npz")
            _calibrate(trunk, file, features, segments, recipe, progress=progress)
        trunk.trainable = False  # not before: what is frozen takes no batch-norm statistics
        asked = _ask(trunk, features, segments, recipe, picture, progress=progress)
        found = _train(asked, head, segments, recipe, fit_net)
        if recipe.weights is None:
            for folder in asked.folders:
                shutil.rmtree(folder)
    return found


@dataclass(frozen=True)
class _Asked:
    """What a frozen trunk says of all tracks: where it ends, and at the cut before its tail."""

    at_end: Track
    tail: Any
    at_cut: Track
    folders: list[Path]


def _ask(trunk, features: Features, segments, recipe, picture, *, progress: bool) -> _Asked:
    from .models import split_at

    below, tail = trunk, None
    if recipe.fine_tune_after:
        below, tail = split_at(trunk, recipe.fine_tune_after)
    decides = [_VERSION, recipe.model, picture, recipe.fine_tune_after, _digest(below)]
    folders = [_folder(decides)]
    tracks = segments["sha256"].unique().tolist()
    at_cut = at_end = _outputs(
        below, tracks, features.track, folders[0], what="frozen part", progress=progress
    )
    if tail:
        folders.append(_folder([*decides, _digest(tail)]))
        at_end = _outputs(
            tail, tracks, at_cut, folders[1], what="rest of the trunk", progress=progress
        )
    return _Asked(at_end, tail, at_cut, folders)


def _train(asked: _Asked, head, segments, recipe, fit_net) -> tuple[pd.DataFrame, np.ndarray]:
    from .backend import keras
    from .batches import predicted
    from .models import unfreeze

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
    return history, predicted(net, track, segments[segments["split"] != "train"])


def _first_was_better(history: pd.DataFrame, recipe: Recipe) -> bool:
    """Whether validation, where it decides, was best in the first stage."""
    if not recipe.patience or "val_loss" not in history:
        return False
    return history["stage"].iloc[history["val_loss"].argmin()] == 1


def _calibrate(trunk, file: Path, features, segments, recipe, *, progress: bool) -> None:
    """Give a random trunk batch-norm statistics; they are kept, since sums differ in the last bit
    from run to run, and what is named by the weights must not."""
    from .backend import keras
    from .models import calibrate_batch_norm

    norms = [x for x in trunk.layers if isinstance(x, keras.layers.BatchNormalization)]
    if not file.exists():
        train = segments[segments["split"] == "train"]
        some = train.sample(min(len(train), _CALIBRATED_ON), random_state=recipe.random_seed)
        pixels = math.prod(features.front_end.shape)
        size = max(1, min(_BATCH, _CALIBRATED_PIXELS // pixels))
        parts = [some.iloc[i : i + size] for i in range(0, len(some), size)]
        bar = _bar(parts, "batch norm", "batch", progress=progress)
        calibrate_batch_norm(trunk, (features.log_mels(part) for part in bar))
        values = [keras.ops.convert_to_numpy(w) for n in norms
                  for w in (n.moving_mean, n.moving_variance)]  # fmt: skip
        write_atomically(file, lambda f: np.savez(f, *values))
    with np.load(file, allow_pickle=False) as saved:
        for i, norm in enumerate(norms):
            norm.moving_mean.assign(saved[f"arr_{2 * i}"])
            norm.moving_variance.assign(saved[f"arr_{2 * i + 1}"])


def _outputs(
    net, tracks: list[str], source: Track, folder: Path, *, what: str, progress: bool
) -> Track:
    """What a frozen part of a model says of all pieces of some tracks, computed where missing."""
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
    return project_root() / "data" / "trunk" / hash_json(decides)[:16]


def _bar(parts: list, what: str, unit: str, *, progress: bool):
    from tqdm.auto import tqdm

    return tqdm(parts, desc=what, unit=unit, disable=not progress)
