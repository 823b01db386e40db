"""Figures of training and evaluation; axes are by default the current ones."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from genrecls.plots._style import COLORS, NEUTRAL


def history(table: pd.DataFrame, *, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Draw the loss and the accuracy of each epoch.

    Parameters
    ----------
    table : pd.DataFrame
        One row per epoch: ``epoch, loss, accuracy, val_loss, val_accuracy``. With ``stage``, a
        dotted line marks the beginning of the second stage.
    axes : sequence of two Axes, optional
        Axes for the loss and the accuracy; by default those of a new figure.
    """
    panels: Sequence[Axes] = plt.subplots(1, 2, figsize=(10, 3.2))[1] if axes is None else axes
    for ax, name in zip(panels, ("loss", "accuracy"), strict=True):
        ax.plot(table["epoch"], table[name], label="training")
        ax.plot(table["epoch"], table[f"val_{name}"], label="validation")
        if "stage" in table:
            for epoch in table.loc[table["stage"] == 2, "epoch"].head(1):
                ax.axvline(epoch - 0.5, color="gray", ls=":", lw=1)
        ax.set(xlabel="Epoch", ylabel=name.capitalize())
        ax.legend()
    panels[1].set_ylim(0, 1.02)
    return panels


def confusion(matrix: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix with its counts.

    Parameters
    ----------
    matrix : pd.DataFrame
        Counts, with true genres in rows and predicted genres in columns.
    ax : Axes, optional
        Axes to draw on.
    """
    ax = _heat_map(matrix.div(matrix.sum(axis=1).clip(lower=1), axis=0), matrix, ax)
    ax.set_aspect("equal")
    ax.tick_params(axis="x", rotation=0 if len(matrix) < 5 else 60)
    ax.set(xlabel="Predicted genre", ylabel="True genre")
    return ax


def intervals(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw values with their intervals, one below the other.

    Parameters
    ----------
    table : pd.DataFrame
        ``label, value, low, high``, from top to bottom. With ``group``, each group has a colour
        and an entry in the legend.
    ax : Axes, optional
        Axes to draw on.
    """
    ax = ax or plt.gca()
    groups = table["group"] if "group" in table else pd.Series("", table.index)
    labels, names = list(table["label"].unique()), list(groups.unique())
    for i, name in enumerate(names):
        rows = table[groups == name]
        shift = (i - (len(names) - 1) / 2) * 0.25
        y = [labels.index(label) + shift for label in rows["label"]]
        ax.hlines(y, rows["low"], rows["high"], color=COLORS[i], lw=2)
        ax.plot(rows["value"], y, "o", color=COLORS[i], label=name)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    if len(names) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def reliability(tables: dict[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Draw reliability diagrams: a calibrated model has its dots on the diagonal.

    Parameters
    ----------
    tables : dict of str to pd.DataFrame
        Label and table of ``genrecls.evaluation.calibration.reliability``.
    ax : Axes, optional
        Axes to draw on.
    """
    ax = ax or plt.gca()
    ax.plot([0, 1], [0, 1], color="0.7", lw=1, ls="--")
    styles = itertools.cycle(itertools.product(("-", "--", "-.", ":"), COLORS))
    for (line, color), (label, table) in zip(styles, tables.items(), strict=False):
        ax.plot(table["confidence"], table["accuracy"], line, color=color, lw=1.2, label=label)
        sizes = 150 * table["n"] / table["n"].sum() + 8  # A larger dot has more predictions.
        ax.scatter(table["confidence"], table["accuracy"], sizes, color=color)
    lowest = min((table["confidence"].min() for table in tables.values()), default=0)
    ax.set(xlim=(max(lowest - 0.05, 0), 1.02), ylim=(-0.02, 1.04))
    ax.set(xlabel="Confidence", ylabel="Share that is right")
    ax.legend()
    return ax


def robustness(rates: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how many predictions change, with a row per transformation and a column per run.

    Parameters
    ----------
    rates : pd.DataFrame
        Rows of :func:`genrecls.evaluation.flip_rates` for one genre, or for all genres together.
    ax : Axes, optional
        Axes to draw on.
    """
    rows, columns = rates["transformation"].unique(), rates["run"].unique()
    cells = rates.assign(label=rates["flips"].astype(str) + " of " + rates["n"].astype(str))
    cells = cells.pivot(index="transformation", columns="run").loc[rows]
    ax = _heat_map(cells["rate"][columns], cells["label"][columns].fillna(""), ax)
    ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right", rotation_mode="anchor")
    return ax


def learning_curve(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw a score over the number of groups per genre, with its interval.

    Parameters
    ----------
    table : pd.DataFrame
        Table of :func:`genrecls.inspection.learning_curve`.
    ax : Axes, optional
        Axes to draw on; by default those of a new figure.
    """
    ax = ax or plt.subplots(figsize=(9, 4))[1]
    ax.fill_between(table["groups"], table["low"], table["high"], alpha=0.2, lw=0)
    ax.plot(table["groups"], table["value"], "o-")
    ax.set_xscale("log", base=2)
    ax.set_xticks(table["groups"], [str(n) for n in table["groups"]])
    ax.set(xlabel="Groups per genre", ylabel="Macro F1, tracks of other groups", ylim=(0, 1.02))
    return ax


def ranking(table: pd.DataFrame, value: str, *, ax: Axes | None = None) -> Axes:
    """Draw a value of each track as a bar, beside its genre and a different predicted one.

    Parameters
    ----------
    table : pd.DataFrame
        Tracks with ``path, genre`` and perhaps ``predicted``; the first ten are drawn.
    value : str
        Column with numbers in [0, 1].
    ax : Axes, optional
        Axes to draw on; by default those of a new figure.
    """
    ax, table = ax or plt.subplots(figsize=(9, 4))[1], table.head(10)
    names, texts = table["path"].str.rsplit("/", n=1).str[-1].str[:40], table["genre"]
    if "predicted" in table:
        predicted = texts + ", predicted: " + table["predicted"]
        texts = predicted.where(table["predicted"] != table["genre"], texts)
    ax.barh(range(len(table)), table[value], color=NEUTRAL)
    for y, (x, text) in enumerate(zip(table[value], texts, strict=True)):
        ax.text(x, y, f" {text}", va="center")
    ax.set_yticks(range(len(table)), names)
    ax.set(xlim=(0, 1), ylim=(len(table) - 0.5, -0.5), xlabel=value.capitalize())
    return ax


def embedding_map(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw a map of tracks, with a colour and a shape for each genre.

    Parameters
    ----------
    table : pd.DataFrame
        Table of :func:`genrecls.inspection.embedding_map`.
    ax : Axes, optional
        Axes to draw on; by default those of a new figure.
    """
    ax = ax or plt.subplots(figsize=(9, 4))[1]
    # There are 90 pairs of a colour and a shape.
    pairs = zip(itertools.cycle(COLORS), itertools.cycle("os^DvP<X>"), strict=True)
    for (color, marker), (genre, rows) in zip(pairs, table.groupby("genre"), strict=False):
        label = f" {genre}"  # matplotlib leaves out labels that begin with "_"
        ax.plot(rows["x"], rows["y"], marker, color=color, mec="white", mew=0.5, ms=8, label=label)
    ax.set(xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def _heat_map(shares: pd.DataFrame, labels: pd.DataFrame, ax: Axes | None) -> Axes:
    """Draw labels on a background that shows shares from 0 to 1."""
    ax = ax or plt.gca()
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, origin="upper", aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        color = "white" if share > 0.6 else "black" if share else "0.6"
        ax.text(j, i, str(labels.iloc[i, j]), ha="center", va="center", color=color)
    ax.set_xticks(range(len(shares.columns)), shares.columns)
    ax.set_yticks(range(len(shares)), shares.index)
    ax.spines[:].set_visible(False)
    return ax
