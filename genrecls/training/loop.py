"""Training of one Keras model in one stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from genrecls._utils.backend import keras
from genrecls.config import Recipe
from genrecls.features.stored import SegmentLoader
from genrecls.training.augmentation import add_augmentation
from genrecls.training.callbacks import learning_rate
from genrecls.training.data import make_fit_data, precompute_images

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
    """Train a model in one stage, in place, and return one row per epoch.

    The model turns the arrays that ``load`` returns for a sound file's hash into probabilities.
    """
    segments = segments[segments["split"].isin(("train", "validation"))]
    if recipe.augmented:
        model = add_augmentation(model, recipe)
    else:
        model, load = precompute_images(model, load, segments)
    data = make_fit_data(load, segments, recipe)
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


def _progress_bar(epochs: int) -> Any:
    bar = tqdm(total=epochs, desc="training", unit="epoch")

    def on_epoch_end(_: int, logs: dict[str, float]) -> None:
        shown = [name for name in ("loss", "val_accuracy") if name in logs]
        bar.set_postfix_str(", ".join(f"{name} {logs[name]:.3f}" for name in shown))
        bar.update()

    return keras.callbacks.LambdaCallback(
        on_epoch_end=on_epoch_end, on_train_end=lambda _: bar.close()
    )
