"""Callbacks and learning-rate schedules."""

from __future__ import annotations

import math
import time

import pandas as pd

from genrecls.config import Recipe


def halving_schedule(recipe: Recipe):
    """The rate of an epoch: halved at every epoch divisible by ``halve_every``, 0 included."""
    return lambda epoch, *_: recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every + 1)


def cosine_schedule(recipe: Recipe):
    """The rate of an epoch: up in a line for ``warm_up`` epochs, then half a cosine to 0."""
    rise, fall = recipe.warm_up, max(recipe.epochs - recipe.warm_up, 1)

    def rate(epoch: int, *_) -> float:
        if epoch < rise:
            return recipe.learning_rate * (epoch + 1) / rise
        return recipe.learning_rate * (1 + math.cos(math.pi * (epoch - rise) / fall)) / 2

    return rate


def live_plot():
    """A callback that redraws loss and accuracy while a net is trained, in a notebook.

    Not after every epoch of a small net: drawing takes a twentieth of the time at most.

    Examples
    --------
    >>> import genrecls
    >>> callbacks = [genrecls.live_plot()]  # for genrecls.train, in a notebook
    """
    from IPython.display import display
    from matplotlib import pyplot as plt

    from genrecls import plots
    from genrecls._utils.backend import keras

    logs: list[dict] = []
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    plt.close(figure)  # or it is shown once more at the end of the cell
    shown, due = None, 0.0

    def redraw(*_):
        nonlocal shown, due
        start = time.perf_counter()
        for ax in axes:
            ax.clear()
        plots.history(pd.DataFrame(logs).rename_axis("epoch").reset_index(), axes=axes)
        shown = shown or display(figure, display_id=True)
        shown.update(figure)
        end = time.perf_counter()
        due = end + 19 * (end - start)

    def note(_, values):
        logs.append(values)
        if time.perf_counter() >= due:
            redraw()

    return keras.callbacks.LambdaCallback(on_epoch_end=note, on_train_end=redraw)


def _epoch_bar(epochs: int):
    from tqdm.auto import tqdm

    from genrecls._utils.backend import keras

    bar = tqdm(total=epochs, desc="training", unit="epoch")

    def advance(_, logs):
        bar.set_postfix_str(", ".join(f"{k} {logs[k]:.3f}" for k in ("loss", "val_accuracy")
                                      if k in logs))  # fmt: skip
        bar.update()

    return keras.callbacks.LambdaCallback(on_epoch_end=advance, on_train_end=lambda *_: bar.close())
