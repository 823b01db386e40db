"""Training of one model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from genrecls.config import Recipe
from genrecls.corpus.splits import check_no_leak
from genrecls.features.prepare import Features, SegmentLoader
from genrecls.models.building import build_model
from genrecls.training.callbacks import _epoch_bar, cosine_schedule, halving_schedule

# A step of a net with fewer parameters takes hardly longer than to call it: a whole epoch is one
# call where the segments are in memory, so many steps otherwise.
_SMALL, _STEPS_AT_ONCE = 2_000_000, 20


@dataclass(frozen=True)
class Fitted:
    """A trained net and what it says of the segments that it was not trained on.

    Attributes
    ----------
    model : keras.Model
        Log-mels [shape=(batch, n_mels, frames, 1)] in dB to probabilities.
    probabilities : np.ndarray [shape=(held-out segments, genres)]
        Of the segments whose split is not ``'train'``, in their order.
    history : pd.DataFrame
        One row an epoch: ``epoch, loss, accuracy, time_s`` (since the start of the training), and
        ``val_loss, val_accuracy`` if there is a validation; ``stage`` if there are two.
    best_epoch : int
        The epoch whose weights are kept: the last one, but with ``patience``.
    weights : str
        What the net started from: ``'random'``, ``'imagenet'``, or the path of a file.
    training_time_s : float
        Until the last epoch ended. Of a backbone whose outputs are on disk already, without them.
    """

    model: Any
    probabilities: np.ndarray
    history: pd.DataFrame
    best_epoch: int
    weights: str
    training_time_s: float


def fit(
    features: Features,
    segments: pd.DataFrame,
    recipe: Recipe,
    *,
    progress: bool = True,
    callbacks: Sequence = (),
) -> Fitted:
    """Train a net on the segments whose split is ``'train'``; predict all others.

    Segments whose split is ``'validation'``, if there are any, are watched during training.
    """
    from genrecls._utils.backend import keras, make_deterministic
    from genrecls.training.data import predict_segments
    from genrecls.training.stages import fit_in_stages

    # How strict the validation is has been judged where it was held out.
    check_no_leak(segments, leaky_validation=True)
    make_deterministic()
    keras.utils.set_random_seed(recipe.random_seed)
    clock = _clock(time.perf_counter())

    def fit_net(net, track: SegmentLoader, recipe: Recipe) -> pd.DataFrame:
        return fit_model(net, track, segments, recipe, progress=progress,
                          callbacks=[clock, *callbacks])  # fmt: skip

    model = build_model(recipe, features.front_end, segments["genre"].nunique())
    if recipe.backbone == "frozen":
        history, probabilities = fit_in_stages(
            model, features, segments, recipe, fit_net, progress=progress
        )
    else:
        history = fit_net(model, features.track, recipe)
        probabilities = predict_segments(
            model, features.track, segments[segments["split"] != "train"]
        )
    watched = recipe.patience and "val_loss" in history
    best = history["val_loss"].argmin() if watched else -1
    return Fitted(
        model=model,
        probabilities=probabilities,
        history=history,
        best_epoch=int(history["epoch"].iloc[best]),
        weights=str(recipe.weights or "random"),
        training_time_s=history["time_s"].iloc[-1],
    )


def _clock(start: float):
    """A callback that writes into the history when each epoch ended, in seconds from ``start``."""
    from genrecls._utils.backend import keras

    def tick(_, logs):
        logs["time_s"] = time.perf_counter() - start

    return keras.callbacks.LambdaCallback(on_epoch_end=tick)


def fit_model(
    net,
    track: SegmentLoader,
    segments: pd.DataFrame,
    recipe: Recipe,
    *,
    progress: bool,
    callbacks: list,
) -> pd.DataFrame:
    """Train a net as a recipe says, without stages.

    Parameters
    ----------
    net : keras.Model
        What ``track`` gives of a segment to probabilities; trained in place.
    track : callable
        See :func:`genrecls.features.prepare.gather_segments`.
    segments : pd.DataFrame
        The segments table, with ``split``; there may be no ``'validation'``.
    recipe : Recipe
    progress : bool
        Show a progress bar.
    callbacks : list of keras.callbacks.Callback

    Returns
    -------
    pd.DataFrame
        One row an epoch.
    """
    from genrecls._utils.backend import keras
    from genrecls.training.augmentation import augmented_model
    from genrecls.training.data import fits_in_memory, precompute_images

    segments = segments[segments["split"].isin(("train", "validation"))]
    source = track
    if recipe.augmented:
        net = augmented_model(net, recipe)
    else:
        net, track = precompute_images(net, track, segments)
    # What is drawn in advance is so because it can be held.
    held = track is not source or fits_in_memory(source(segments["sha256"].iloc[0]), segments)
    data = _data_for(track, segments, recipe, held=held)
    # With PyTorch, Keras can only take one step at a time.
    small = keras.backend.backend() == "tensorflow" and net.count_params() < _SMALL
    optimizer = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[recipe.optimizer]
    net.compile(
        optimizer=optimizer(learning_rate=recipe.learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=data.get("steps_per_epoch", _STEPS_AT_ONCE) if small else 1,
    )
    if recipe.halve_every:
        callbacks.append(keras.callbacks.LearningRateScheduler(halving_schedule(recipe)))
    if recipe.warm_up:
        callbacks.append(keras.callbacks.LearningRateScheduler(cosine_schedule(recipe)))
    if recipe.patience and data["validation_data"]:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_loss", patience=recipe.patience, restore_best_weights=True
            )
        )
    if progress:
        callbacks.append(_epoch_bar(recipe.epochs))
    history = net.fit(**data, epochs=recipe.epochs, callbacks=callbacks, verbose=0)
    return pd.DataFrame(history.history).rename_axis("epoch").reset_index()


def _data_for(
    track: SegmentLoader, segments: pd.DataFrame, recipe: Recipe, *, held: bool
) -> dict[str, Any]:
    """Arguments of Keras' ``fit``: the segments to train on and to validate on, held in memory or
    read batch by batch."""
    from genrecls._utils.backend import keras
    from genrecls.training.data import PREDICTION_BATCH, Batches

    labels, genres = pd.factorize(segments["genre"], sort=True)
    targets = np.eye(len(genres), dtype=np.float32)[labels]
    train, validation = (segments["split"] == split for split in ("train", "validation"))
    weights = np.ones(len(genres), np.float32)
    if recipe.class_weights:
        weights[:] = train.sum() / (len(genres) * np.bincount(labels[train]))

    def part(rows: pd.Series, *of_segments: np.ndarray, **shuffled: int) -> Batches:
        some = [values[rows] for values in of_segments]
        return Batches(
            track, segments[rows], recipe.batch_size, some, target_goes_in=bool(recipe.augmented),
            **shuffled,
        )  # fmt: skip

    to_train_on = part(train, targets, weights[labels], shuffle_seed=recipe.random_seed)
    to_validate_on = part(validation, targets) if validation.any() else None
    if not held:
        return {"x": to_train_on, "validation_data": to_validate_on}
    if keras.backend.backend() == "tensorflow":
        return {
            "x": to_train_on.as_dataset(endless=True),
            "shuffle": False,  # it does that itself
            "steps_per_epoch": len(to_train_on),
            "validation_data": to_validate_on and to_validate_on.as_dataset(PREDICTION_BATCH),
        }
    x, y, weight = to_train_on.max_pending()
    return {
        "x": x,
        "y": y,
        "sample_weight": weight,
        "batch_size": recipe.batch_size,
        "validation_data": to_validate_on and to_validate_on.max_pending(),
    }
