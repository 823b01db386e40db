"""Figures of training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from genrecls.plots.style import COLORS


def history(table: pd.DataFrame, *, axes: Sequence[Axes] | None = None) -> Sequence[Axes]:
    """Loss and accuracy per epoch, training and validation; a dotted line before stage 2."""
    axes = axes if axes is not None else plt.subplots(1, 2, figsize=(10, 3.2))[1]
    for ax, what in zip(axes, ("loss", "accuracy"), strict=True):
        ax.plot(table["epoch"], table[what], label="training")
        ax.plot(table["epoch"], table[f"val_{what}"], label="validation")
        if "stage" in table:
            for second in table.loc[table["stage"] == 2, "epoch"].head(1):
                ax.axvline(second - 0.5, color="gray", ls=":", lw=1)
        ax.set(xlabel="Epoch", ylabel=what.capitalize())
        ax.legend()
    axes[1].set_ylim(0, 1.02)
    return axes


def fine_tuning(curves: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Test F1 over training time, on a logarithmic axis; a circle where a second stage begins.

    Parameters
    ----------
    curves : pd.DataFrame
        One row an epoch: ``run, stage`` (0 where there are none), ``time_s, test_f1``.
    """
    ax = ax or plt.subplots(figsize=(9, 3.8))[1]
    for color, (run, curve) in zip(COLORS, curves.groupby("run", sort=False), strict=False):
        ax.plot(curve["time_s"], curve["test_f1"], color=color, label=run)
        second = curve[curve["stage"] == 2].head(1)
        ax.plot(second["time_s"], second["test_f1"], "o", color=color)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="Training time (s)", ylabel="Macro F1, test segments", ylim=(0, 1.03))
    ax.legend(loc="lower right")
    return ax


def confusion(matrix: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """A confusion matrix with its counts; rows are the true genres."""
    ax = ax or plt.gca()
    shares = matrix / matrix.sum(axis=1).clip(lower=1).to_numpy()[:, None]
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, origin="upper", aspect="equal")
    for i, row in enumerate(matrix.to_numpy()):
        for j, count in enumerate(row):
            color = "white" if shares.iloc[i, j] > 0.6 else "black"
            ax.text(j, i, str(count), ha="center", va="center", color=color)
    names = list(matrix.index)
    ax.set_xticks(range(len(names)), names, rotation=0 if len(names) < 5 else 60)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="Predicted genre", ylabel="True genre")
    ax.spines[:].set_visible(False)
    return ax


def intervals(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Values with their intervals, one below the other.

    Parameters
    ----------
    table : pd.DataFrame
        ``label, value, low, high``, the first row at the top; with ``group``, a colour and a
        legend entry for each.
    """
    ax = ax or plt.gca()
    groups = table["group"] if "group" in table else pd.Series("", table.index)
    labels = list(dict.fromkeys(table["label"]))
    kinds = list(dict.fromkeys(groups))
    for i, kind in enumerate(kinds):
        rows = table[groups == kind]
        shift = (i - (len(kinds) - 1) / 2) * 0.25
        y = [labels.index(label) + shift for label in rows["label"]]
        ax.hlines(y, rows["low"], rows["high"], color=COLORS[i], lw=2)
        ax.plot(rows["value"], y, "o", color=COLORS[i], label=kind)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    if len(kinds) > 1:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def reliability(tables: dict[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """How often a model is right where it says how sure it is: the diagonal is honest.

    Parameters
    ----------
    tables : dict of str to pd.DataFrame
        Label and table of :func:`genrecls.calibration.reliability`. The larger the dot, the more
        predictions stand behind it.
    """
    ax = ax or plt.gca()
    ax.plot([0, 1], [0, 1], color="0.7", lw=1, ls="--")
    for color, (label, table) in zip(COLORS, tables.items(), strict=False):
        ax.plot(table["confidence"], table["accuracy"], color=color, lw=1.2, label=label)
        sizes = 150 * table["n"] / table["n"].sum() + 8
        ax.scatter(table["confidence"], table["accuracy"], sizes, color=color)
    lowest = min((table["confidence"].min() for table in tables.values()), default=0)
    ax.set(xlim=(max(lowest - 0.05, 0), 1.02), ylim=(-0.02, 1.04), xlabel="Confidence",
           ylabel="Share that is right")  # fmt: skip
    ax.legend()
    return ax


def robustness(rates: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Transformations that must not matter down, runs across: the share of predictions that flip.

    Parameters
    ----------
    rates : pd.DataFrame
        Of one genre, or of all: ``run, transformation, flips, n, rate``, a row each. See
        :func:`genrecls.evaluation.robustness.flip_rates`.
    """
    ax = ax or plt.gca()
    runs, names = rates["run"].unique(), rates["transformation"].unique()
    cells = rates.set_index(["transformation", "run"])
    shares = cells["rate"].unstack().reindex(index=names, columns=runs)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, origin="upper", aspect="auto")
    for (name, run), cell in cells.iterrows():
        place = list(runs).index(run), list(names).index(name)
        color = "white" if cell["rate"] > 0.6 else "black" if cell["flips"] else "0.6"
        text = f"{cell['flips']:.0f} of {cell['n']:.0f}"
        ax.text(*place, text, ha="center", va="center", color=color, fontsize=9)
    ax.figure.colorbar(image, ax=ax, label="Share of predictions flipped", pad=0.02)
    ax.set_xticks(range(len(runs)), runs, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.spines[:].set_visible(False)
    return ax
