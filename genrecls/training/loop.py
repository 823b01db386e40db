"""Training of one Keras model in one stage, its learning rate and its live plot."""

import math
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt

from genrecls._utils.backend import keras
from genrecls.config import Recipe
from genrecls.features.stored import SegmentLoader
from genrecls.plots import results
from genrecls.training.augmentation import AugmentedModel
from genrecls.training.data import make_fit_data, precompute_images

# Up to this size, a step takes hardly longer than its call from Python. All steps of an epoch are
# then one call.
_SMALL_PARAMETERS = 2_000_000


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
    small = model.count_params() < _SMALL_PARAMETERS
    if recipe.augmented:
        model = AugmentedModel(model, recipe)
    else:
        model, load = precompute_images(model, load, segments)
    data = make_fit_data(load, segments, recipe)
    model.compile(
        optimizer=recipe.optimizer,
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=data.get("steps_per_epoch", 1) if small else 1,
    )
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, _: learning_rate(recipe, epoch))
    callbacks = [*callbacks, schedule]
    if recipe.patience and data["validation_data"] is not None:
        stop = keras.callbacks.EarlyStopping
        callbacks.append(stop("val_loss", patience=recipe.patience, restore_best_weights=True))
    if progress:
        # This module loads Keras, whose messages genrecls._utils.backend has to silence before.
        from tqdm.keras import TqdmCallback

        callbacks.append(TqdmCallback(verbose=0, desc="training"))
    history = model.fit(**data, epochs=recipe.epochs, callbacks=callbacks)
    return pd.DataFrame(history.history).rename_axis("epoch").reset_index()


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Compute the learning rate of an epoch; :class:`genrecls.Recipe` describes the schedules."""
    if recipe.halve_every:
        return recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every + 1)
    if not recipe.warm_up:
        return recipe.learning_rate
    if epoch < recipe.warm_up:
        return recipe.learning_rate * (epoch + 1) / recipe.warm_up
    fall = max(recipe.epochs - recipe.warm_up, 1)
    return recipe.learning_rate * (1 + math.cos(math.pi * (epoch - recipe.warm_up) / fall)) / 2


def live_plot() -> Any:
    """Return a callback that plots loss and accuracy in a notebook during training.

    The plot is redrawn so rarely that drawing takes at most a twentieth of the time.

    Returns
    -------
    keras.callbacks.Callback
        An item for the parameter ``callbacks`` of :func:`genrecls.train`.

    Examples
    --------
    >>> import genrecls
    >>> callbacks = [genrecls.live_plot()]
    """
    from IPython.display import display

    rows: list[dict[str, float]] = []
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    plt.close(figure)  # or the notebook shows it a second time at the end of the cell
    handle: Any = None
    next_draw = 0.0

    def draw(*_: Any) -> None:
        nonlocal handle, next_draw
        start = time.perf_counter()
        for ax in axes:
            ax.clear()
        results.history(pd.DataFrame(rows).assign(epoch=range(len(rows))), axes=axes)
        handle = handle or display(figure, display_id=True)
        handle.update(figure)
        end = time.perf_counter()
        next_draw = end + 19 * (end - start)

    def on_epoch_end(_: int, logs: dict[str, float]) -> None:
        rows.append(logs)
        if time.perf_counter() >= next_draw:
            draw()

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end, on_train_end=draw)
