"""Training of a model: the whole model in one stage, or a frozen backbone in stages.

Stage 1 trains the head on the outputs of the frozen backbone. Stage 2 trains the head and the upper
blocks of the backbone on the outputs of its lower blocks. The outputs are computed once and kept on
disk, so that both stages take a small part of the time of training the whole model.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from genrecls._utils import cache
from genrecls._utils.backend import keras, make_deterministic
from genrecls.config import Recipe
from genrecls.corpus.splits import check_no_leak
from genrecls.errors import ModelError
from genrecls.features.stored import Features, SegmentLoader, gather_segments
from genrecls.models.backbone import backbone_end, split_at, unfreeze
from genrecls.models.building import build_model
from genrecls.training.backbone_outputs import (
    KIND,
    cache_outputs,
    calibrate_backbone,
    hash_backbone,
)
from genrecls.training.data import predict_held_out
from genrecls.training.head import fit_head
from genrecls.training.loop import fit_model


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained model and its predictions on the segments that it was not trained on.

    Attributes
    ----------
    model : keras.Model
        Log-mels [shape=(batch, n_mels, frames, 1)] in dB to probabilities.
    probabilities : np.ndarray [shape=(held-out segments, genres)]
        Predictions on the segments whose split is not ``'train'``, in their order.
    history : pd.DataFrame
        One row per epoch: ``epoch``, ``loss``, ``accuracy``, ``learning_rate``, ``time_s`` (since
        the start), with a validation ``val_loss`` and ``val_accuracy``, with stages ``stage``.
    best_epoch : int
        The epoch whose weights are kept: the last one, except with ``patience``.
    embeddings : np.ndarray [shape=(segments, dimensions)], or None
        Embeddings of all segments, in their order, with the head ``'logistic'``.
    out_of_fold : np.ndarray [shape=(training segments, genres)], or None
        Predictions on the training segments by heads that were not fitted on their group.
    """

    model: keras.Model
    probabilities: np.ndarray
    history: pd.DataFrame
    best_epoch: int
    embeddings: np.ndarray | None = None
    out_of_fold: np.ndarray | None = None


def fit(
    features: Features,
    segments: pd.DataFrame,
    recipe: Recipe,
    *,
    builder: Callable | None = None,
    progress: bool = True,
    callbacks: Sequence = (),
) -> Fitted:
    """Train a model on the training segments and predict all others; see :func:`genrecls.train`.

    A LeakError is raised if a group, a recording or a file is both in the test and elsewhere.
    """
    # Only the caller knows whether the validation may share tracks or artists with the training.
    check_no_leak(segments, leaky_validation=True)
    make_deterministic()
    keras.utils.set_random_seed(recipe.random_seed)
    options = {"progress": progress, "callbacks": [_clock(time.perf_counter()), *callbacks]}
    embeddings = out_of_fold = None
    model = build_model(recipe, features.front_end, segments["genre"].nunique(), builder)
    if recipe.backbone == "frozen":
        history, probabilities, embeddings, out_of_fold = _fit_in_stages(
            model, features, segments, recipe, **options
        )
    else:
        history = fit_model(model, features.track, segments, recipe, **options)
        probabilities = predict_held_out(model, features.track, segments)
    if not np.isfinite(probabilities).all():
        advice = "lower learning_rate, or check the builder"
        raise ModelError(f"the training of {recipe.model!r} has diverged (NaN): {advice}")
    by_validation = recipe.patience and "val_loss" in history
    best = int(history["val_loss"].argmin()) if by_validation else len(history) - 1
    return Fitted(model, probabilities, history, best, embeddings, out_of_fold)


def _clock(start: float) -> Any:
    """Return a callback that adds the end of each epoch to the history, in s since the start."""

    def on_epoch_end(_: int, logs: dict[str, float]) -> None:
        logs["time_s"] = time.perf_counter() - start

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


def _fit_in_stages(
    model: keras.Model, features: Features, segments: pd.DataFrame, recipe: Recipe, **options: Any
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Fit on the outputs of the backbone; return the last parts of :class:`Fitted`."""
    backbone, head = split_at(model, backbone_end(model))
    random = recipe.weights is None
    train = segments[segments["split"] == "train"] if random else None
    uid = hash_backbone(backbone, features.front_end, recipe, train)
    path = cache.entry(KIND, uid)
    path.parent.mkdir(parents=True, exist_ok=True)
    cache.remove_leftovers(KIND)
    # Outputs of a random backbone hardly serve another run and are deleted at the end. A second run
    # with the same backbone must wait, or it would miss what the first one deletes.
    with FileLock(path.with_suffix(".lock")) if random else contextlib.nullcontext():
        if random:
            calibrate_backbone(backbone, features, segments, recipe)
        # A frozen batch norm does not take statistics, so that it is frozen after them.
        backbone.trainable = False
        lower, upper = backbone, None
        if recipe.fine_tune_after:
            lower, upper = split_at(backbone, recipe.fine_tune_after)
        hashes = segments["sha256"].unique().tolist()
        bar = {"progress": options["progress"]}
        inputs = outputs = cache_outputs(lower, features.track, f"{uid}-lower", hashes, **bar)
        if upper is not None:
            outputs = cache_outputs(upper, inputs, f"{uid}-upper", hashes, **bar)
        embeddings = out_of_fold = None
        if recipe.head == "logistic":
            embeddings = gather_segments(outputs, segments)
            callbacks = options["callbacks"]
            history, out_of_fold = fit_head(head, embeddings, segments, recipe, callbacks)
            probabilities = head.predict_on_batch(embeddings[segments["split"] != "train"])
        else:
            loaders = (upper, inputs, outputs)
            history, probabilities = _train(head, *loaders, segments, recipe, **options)
        if random:
            for entry in path.parent.glob(f"{uid}-*"):
                shutil.rmtree(entry)
    return history, probabilities, embeddings, out_of_fold


def _train(
    head: keras.Model,
    upper: keras.Model | None,
    inputs: SegmentLoader,
    outputs: SegmentLoader,
    segments: pd.DataFrame,
    recipe: Recipe,
    **options: Any,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Train the head, then also the upper blocks of the backbone if there are any."""
    keras.utils.set_random_seed(recipe.random_seed)
    history = fit_model(head, outputs, segments, recipe, **options).assign(stage=1)
    if upper is None:
        return history, predict_held_out(head, outputs, segments)
    unfreeze(upper)
    trained = keras.Model(upper.input, head(upper.output), name="upper_blocks_and_head")
    history = _fine_tune(trained, inputs, segments, recipe, history, **options)
    return history, predict_held_out(trained, inputs, segments)


def _fine_tune(
    model: keras.Model,
    load: SegmentLoader,
    segments: pd.DataFrame,
    recipe: Recipe,
    history: pd.DataFrame,
    **options: Any,
) -> pd.DataFrame:
    """Train the second stage, and undo it if the validation was best in the first one."""
    weights = model.get_weights()
    second = dataclasses.replace(
        recipe, epochs=recipe.fine_tune_epochs, learning_rate=recipe.fine_tune_rate
    )
    keras.utils.set_random_seed(recipe.random_seed + 1)
    stage_2 = fit_model(model, load, segments, second, **options).assign(stage=2)
    history = pd.concat([history, stage_2], ignore_index=True)
    history["epoch"] = history.index
    stage = history["stage"]
    if recipe.patience and "val_loss" in history and stage[history["val_loss"].argmin()] == 1:
        model.set_weights(weights)
    return history
