"""Learning rate and live plot."""

from __future__ import annotations

import math
import time
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt

from genrecls._utils.backend import keras
from genrecls.config import Recipe
from genrecls.plots import results


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Compute the learning rate of an epoch.

    With ``halve_every``, it is halved at every epoch divisible by that number, epoch 0 included.
    With ``warm_up``, it rises linearly and then falls to 0 along half a cosine.
    """
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
        results.history(pd.DataFrame(rows).rename_axis("epoch").reset_index(), axes=axes)
        handle = handle or display(figure, display_id=True)
        handle.update(figure)
        end = time.perf_counter()
        next_draw = end + 19 * (end - start)

    def on_epoch_end(_: int, logs: dict[str, float]) -> None:
        rows.append(logs)
        if time.perf_counter() >= next_draw:
            draw()

    return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end, on_train_end=draw)
