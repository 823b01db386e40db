"""Figures. Each function draws given data on given axes and returns them; nothing is computed.

Time is in seconds and frequency in Hz on every picture of sound, low frequencies at the bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from .config import FrontEnd
from .spectrogram import hz_to_mel

HZ_TICKS = (200, 500, 1000, 2000, 4000, 8000, 16000)
COLORS = ("#3b6ea8", "#c8553d", "#588157", "#8a5a9e", "#c99a2e", "#4f9d9d", "#a33b6b", "#6b705c")

_SOUND = {"origin": "lower", "aspect": "auto"}


def style() -> None:
    """The one look of all figures of the project: fonts, sizes, colours."""
    plt.rcParams.update(
        {
            "figure.dpi": 70,
            "savefig.dpi": 120,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=COLORS),
            "legend.frameon": False,
            "image.cmap": "viridis",
            # A track may be called "Ca$h $tacks": that is no formula.
            "text.parse_math": False,
        }
    )


def waveform(
    envelope: np.ndarray, duration_s: float, *, mark_s: float | None = 30.0, ax: Axes | None = None
) -> Axes:
    """A track from above: its lowest and highest sample in every stretch of time.

    Parameters
    ----------
    envelope : np.ndarray [shape=(2, stretches)], in [-1, 1]
        See :func:`genrecls.gallery.envelope`.
    duration_s : float > 0 (in seconds)
    mark_s : float, optional (in seconds)
        Where to draw the original's red line.
    """
    ax = ax or plt.gca()
    times = np.linspace(0, duration_s, envelope.shape[1])
    ax.fill_between(times, *envelope, lw=0, color=COLORS[0])
    if mark_s is not None:
        ax.axvline(mark_s, color="red", lw=1.2)
    ax.set(xlim=(0, duration_s), ylim=(-1, 1), xlabel="Time (s)", ylabel="Amplitude")
    return ax


def log_mel(
    levels: np.ndarray,
    front_end: FrontEnd,
    *,
    ax: Axes | None = None,
    vmin: float | None = None,
    colorbar: bool = True,
) -> Axes:
    """A log-mel in dB, with its colour bar: of a piece [shape=(n_mels, frames)], or of all pieces
    of a track [shape=(pieces, n_mels, frames)], one after the other."""
    ax = ax or plt.gca()
    extent = _extent(levels, front_end)
    if levels.ndim == 3:
        extent = (0, len(levels) * front_end.segment_s, *extent[2:])
        levels = np.concatenate(levels, axis=1)
    image = ax.imshow(levels.astype(np.float32), extent=extent, vmin=vmin, **_SOUND)
    if colorbar:
        ax.figure.colorbar(image, ax=ax, format="%d dB", pad=0.01)
    return _label(ax, front_end)


def picture(
    image: np.ndarray, front_end: FrontEnd, *, ax: Axes | None = None, cmap: str | None = None
) -> Axes:
    """A picture [shape=(n_mels, frames, 3)], or a map of the same stretch of sound.

    A map [shape=(height, width)] of any resolution is stretched over the same axes.
    """
    ax = ax or plt.gca()
    frames = front_end.shape if image.ndim == 2 else image.shape[:2]
    extent = _extent(np.empty(frames), front_end)
    ax.imshow(image, extent=extent, cmap=cmap, interpolation="nearest", **_SOUND)
    return _label(ax, front_end)


def taggram(result, genres: Sequence[str] | None = None, *, ax: Axes | None = None) -> Axes:
    """Probability of every genre over the time of a track: a row and a colour each.

    The stronger the colour, the more probable the genre. Where pieces overlap, each is drawn
    around its middle.

    Parameters
    ----------
    result : Prediction or pd.DataFrame
        Of one track; or its pieces in the order of time: ``start_s, end_s, prob_<genre>...``. With
        ``silent``, silent pieces are hatched.
    genres : sequence of str, optional
        By default all, in the order of their columns.
    """
    ax = ax or plt.gca()
    pieces = result if isinstance(result, pd.DataFrame) else result.pieces
    genres = genres or [name.removeprefix("prob_") for name in pieces if name.startswith("prob_")]
    start, end = pieces["start_s"].to_numpy(), pieces["end_s"].to_numpy()
    half = np.diff(start).min() / 2 if len(start) > 1 else (end[0] - start[0]) / 2
    left, right = (start + end) / 2 - half, (start + end) / 2 + half
    left[0], right[-1] = start[0], end[-1]
    for row, genre in enumerate(genres):
        color = LinearSegmentedColormap.from_list(genre, ["white", COLORS[row % len(COLORS)]])
        shares = color(pieces[f"prob_{genre}"].to_numpy())
        spans = np.stack([left, right - left], axis=1)
        ax.broken_barh(spans, (row - 0.45, 0.9), facecolors=shares, lw=0, antialiased=False)
    if "silent" in pieces:
        for at in np.flatnonzero(pieces["silent"]):
            ax.axvspan(left[at], right[at], fill=False, hatch="///", edgecolor="0.6", lw=0)
    ax.set_yticks(range(len(genres)), genres)
    ax.set(xlim=(0, right[-1]), ylim=(len(genres) - 0.5, -0.5), xlabel="Time (s)")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def prediction(result) -> plt.Figure:
    """The taggram of a :class:`~genrecls.bundle.Prediction` above the mel-spectrogram of the track.

    The pieces of the spectrogram are those that the model sees, one after the other: under the
    default front end each is drawn relative to its own loudest value.

    Raises
    ------
    ValueError
        If the prediction does not hold its log-mels, as those of ``predict_all``.
    """
    if result.log_mels is None:
        raise ValueError("this prediction holds no log-mels; those of predict() do")
    with plt.rc_context():
        style()
        title = f"{Path(result.path).name}: {result.verdict} ({said(result.probabilities)})"
        return track(result.pieces, result.log_mels, result.front_end, title=title)


def track(
    pieces: pd.DataFrame, log_mels: np.ndarray, front_end: FrontEnd, *, title: str
) -> plt.Figure:
    """The taggram of a track above its mel-spectrogram, over the same seconds.

    Parameters
    ----------
    pieces : pd.DataFrame
        See :func:`taggram`.
    log_mels : np.ndarray [shape=(pieces that do not overlap, n_mels, frames)] (in dB)
    front_end : FrontEnd
    title : str
    """
    n_genres = sum(name.startswith("prob_") for name in pieces)
    figure = plt.figure(figsize=(10, 3.2 + 0.3 * n_genres), layout="constrained")
    ratios = [0.4 + 0.3 * n_genres, 2.8]
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
    taggram(pieces, ax=top).set(xlabel="")
    top.set_title(title)
    log_mel(log_mels, front_end, ax=bottom, colorbar=False)
    return figure


def said(probabilities: dict[str, float]) -> str:
    """Probabilities in words, the highest first, five at most."""
    highest = sorted(probabilities.items(), key=lambda item: -item[1])
    more = [] if len(highest) <= 5 else ["…"]
    return ", ".join([f"{genre} {p:.2f}" for genre, p in highest[:5]] + more)


def first_layer(
    image: np.ndarray, maps: np.ndarray, front_end: FrontEnd, *, columns: int = 4
) -> plt.Figure:
    """The input picture above the map of every channel of the first convolution.

    Parameters
    ----------
    image : np.ndarray [shape=(n_mels, frames, 3)], in [0, 1]
    maps : np.ndarray [shape=(channels, height, width)]
    """
    rows = -(-len(maps) // columns)
    figure = plt.figure(figsize=(10, 2.6 + 1.75 * rows))
    top, bottom = figure.subfigures(2, 1, height_ratios=[2.6, 1.75 * rows])
    picture(image, front_end, ax=top.subplots()).set_title("Input picture")
    axes = bottom.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for i, ax in enumerate(axes.flat):
        if i >= len(maps):
            ax.remove()
            continue
        picture(maps[i], front_end, ax=ax, cmap="magma").set_title(f"Channel {i + 1}")
        _label(ax, front_end, HZ_TICKS[::2])
        ax.tick_params(labelsize=7)
        ax.set(xlabel="", ylabel="")
    bottom.supxlabel("Time (s)", fontsize=10)
    bottom.supylabel("Frequency (Hz)", fontsize=10)
    return figure


def maps(image: np.ndarray, maps: dict[str, np.ndarray], front_end: FrontEnd) -> plt.Figure:
    """A picture, and what an answer about it rests on: a map each, over the picture in gray.

    Parameters
    ----------
    image : np.ndarray [shape=(n_mels, frames, 3)], in [0, 1]
    maps : dict of str to np.ndarray [shape=(height, width)]
        Name and map, of any resolution; see :mod:`genrecls.explain`. Where one is nowhere
        negative, dark is 0; else white is.
    """
    figure = plt.figure(figsize=(4 * (1 + len(maps)), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(maps), sharey=True)
    picture(image, front_end, ax=axes[0]).set_title("Input picture")
    gray = image.mean(axis=-1)
    for ax, (name, values) in zip(axes[1:], maps.items(), strict=True):
        picture(np.repeat(gray[..., None], 3, axis=-1), front_end, ax=ax).set_title(name)
        most = float(np.abs(values).max()) or 1.0
        signed = values.min() < 0
        shown = ax.imshow(
            values, extent=(*ax.get_xlim(), *ax.get_ylim()), alpha=0.6, interpolation="bilinear",
            cmap="RdBu_r" if signed else "magma", vmin=-most if signed else 0, vmax=most, **_SOUND,
        )  # fmt: skip
        figure.colorbar(shown, ax=ax, pad=0.02)
        ax.set_ylabel("")
    return figure


def channel_pieces(
    table: pd.DataFrame, images: Sequence[np.ndarray], front_end: FrontEnd
) -> plt.Figure:
    """The pieces to which channels answer most and least: a row a channel, the strongest left.

    Parameters
    ----------
    table : pd.DataFrame
        See :func:`genrecls.explain.channel_pieces`.
    images : sequence of np.ndarray [shape=(n_mels, frames, 3)], in [0, 1]
        The picture of every row.
    front_end : FrontEnd
    """
    channels = table["channel"].unique()
    columns = len(table) // len(channels)
    figure = plt.figure(figsize=(2.6 * columns, 1.75 * len(channels) + 0.4), layout="constrained")
    axes = figure.subplots(len(channels), columns, sharex=True, sharey=True, squeeze=False)
    for ax, row, image in zip(axes.flat, table.to_dict("records"), images, strict=True):
        picture(image, front_end, ax=ax)
        _label(ax, front_end, HZ_TICKS[::2])
        title = f"{row['genre']}, {row['start_s']:.0f} s: {row['activation']:.2g}"
        ax.set_title(title, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.set(xlabel="", ylabel="")
    for ax, channel in zip(axes[:, 0], channels, strict=True):
        ax.set_ylabel(f"Channel {channel}", fontsize=8)
    figure.supxlabel("Time (s)", fontsize=10)
    figure.supylabel("Frequency (Hz)", fontsize=10)
    figure.suptitle(f"{columns // 2} strongest on the left, {columns // 2} weakest on the right",
                    fontsize=10)  # fmt: skip
    return figure


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
    ax.set(xlabel="Training time (s)", ylabel="Macro F1, test pieces", ylim=(0, 1.03))
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


def horses(rates: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Transformations that must not matter down, runs across: the share of verdicts that flip.

    Parameters
    ----------
    rates : pd.DataFrame
        Of one genre, or of all: ``run, transformation, flips, n, rate``, a row each. See
        :func:`genrecls.horses.flip_rates`.
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
    ax.figure.colorbar(image, ax=ax, label="Share of verdicts flipped", pad=0.02)
    ax.set_xticks(range(len(runs)), runs, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.spines[:].set_visible(False)
    return ax


def _extent(levels: np.ndarray, front_end: FrontEnd) -> tuple[float, float, float, float]:
    bands, frames = levels.shape[-2:]
    return 0, frames * front_end.hop_length / front_end.sample_rate, 0, bands


def _label(ax: Axes, front_end: FrontEnd, hertz: Sequence[int] = HZ_TICKS) -> Axes:
    """Put round frequencies where the mel scale has them."""
    low, high = hz_to_mel(front_end.f_min), hz_to_mel(front_end.f_max)
    # The n bands are centred on the inner ones of n + 2 equally spaced mels.
    steps = front_end.n_mels + 1
    places = {hz: (hz_to_mel(hz) - low) / (high - low) * steps - 0.5 for hz in hertz}
    ticks = {hz: place for hz, place in places.items() if 0 <= place <= front_end.n_mels}
    ax.set_yticks(list(ticks.values()), list(ticks))
    ax.set(xlabel="Time (s)", ylabel="Frequency (Hz)")
    ax.spines[:].set_visible(False)
    return ax
