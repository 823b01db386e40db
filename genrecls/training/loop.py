"""Training of one Keras model in one stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from genrecls._utils.backend import keras
from genrecls.config import Recipe
from genrecls.features.stored import SegmentLoader
from genrecls.models import split_at
from genrecls.training.augmentation import add_augmentation
from genrecls.training.callbacks import learning_rate
from genrecls.training.data import Batches

PREDICTION_BATCH = 32

# Segments up to this size are held in memory, with their images drawn once and without Python
# between two steps: the original's CNN then trains 1.7 times as fast as on NumPy arrays.
_MAX_HELD_BYTES = 500_000_000

# Up to this size, a step takes hardly longer than its call from Python. All steps of an epoch are
# then one call.
_SMALL_PARAMETERS = 2_000_000

_OPTIMIZERS = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}


def fit_model(
    model: keras.Model,
    load: SegmentLoader,
    segments: pd.DataFrame,
    recipe: Recipe,
    *,
    progress: bool = True,
    callbacks: Sequence = (),
) -> pd.DataFrame:
    """Train a model in one stage.

    Parameters
    ----------
    model : keras.Model
        Turns the arrays that ``load`` returns into probabilities. It is trained in place.
    load : callable
        Takes the hash of a sound file and returns the model's input for all of its segments.
    segments : pd.DataFrame
        The segments table, with ``split``. The validation may be empty.
    recipe : Recipe
        Decides optimizer, learning rate, batch size, augmentation and random seed.
    progress : bool
        Show a progress bar.
    callbacks : sequence of keras.callbacks.Callback
        Further callbacks.

    Returns
    -------
    pd.DataFrame
        One row per epoch: ``epoch``, ``loss``, ``accuracy``, ``learning_rate`` and, with a
        validation, ``val_loss`` and ``val_accuracy``.
    """
    segments = segments[segments["split"].isin(("train", "validation"))]
    if recipe.augmented:
        model = add_augmentation(model, recipe)
    else:
        model, load = _precompute_images(model, load, segments)
    data = _make_data(load, segments, recipe)
    small = model.count_params() < _SMALL_PARAMETERS
    model.compile(
        optimizer=_OPTIMIZERS[recipe.optimizer](learning_rate=recipe.learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=data.get("steps_per_epoch", 1) if small else 1,
    )
    callbacks = [
        *callbacks,
        keras.callbacks.LearningRateScheduler(lambda epoch, _: learning_rate(recipe, epoch)),
    ]
    if recipe.patience and data["validation_data"] is not None:
        stop = keras.callbacks.EarlyStopping
        callbacks.append(stop("val_loss", patience=recipe.patience, restore_best_weights=True))
    if progress:
        callbacks.append(_progress_bar(recipe.epochs))
    history = model.fit(**data, epochs=recipe.epochs, callbacks=callbacks)
    return pd.DataFrame(history.history).rename_axis("epoch").reset_index()


def _precompute_images(
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


def _make_data(load: SegmentLoader, segments: pd.DataFrame, recipe: Recipe) -> dict[str, Any]:
    """Return the arguments of Keras' ``fit`` that concern the data."""
    labels, genres = pd.factorize(segments["genre"], sort=True)
    targets = np.eye(len(genres), dtype=np.float32)[labels]
    train = (segments["split"] == "train").to_numpy()
    weights = np.ones(len(segments), np.float32)
    if recipe.class_weights:
        by_genre = train.sum() / (len(genres) * np.bincount(labels[train]))
        weights[train] = by_genre[labels[train]]

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


def _progress_bar(epochs: int) -> Any:
    bar = tqdm(total=epochs, desc="training", unit="epoch")

    def on_epoch_end(_: int, logs: dict[str, float]) -> None:
        shown = [name for name in ("loss", "val_accuracy") if name in logs]
        bar.set_postfix_str(", ".join(f"{name} {logs[name]:.3f}" for name in shown))
        bar.update()

    return keras.callbacks.LambdaCallback(
        on_epoch_end=on_epoch_end, on_train_end=lambda _: bar.close()
    )
