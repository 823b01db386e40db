"""Figures. Each function draws given data on given axes and returns them; nothing is computed.

Time is in seconds and frequency in Hz on every image of sound, low frequencies at the bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from genrecls.config import FrontEnd
from genrecls.features.spectrogram import hz_to_mel
from genrecls.plots.style import COLORS, HZ_TICKS, style

_SOUND = {"origin": "lower", "aspect": "auto"}


def waveform(
    envelope: np.ndarray, duration_s: float, *, mark_s: float | None = 30.0, ax: Axes | None = None
) -> Axes:
    """A track from above: its lowest and highest sample in every stretch of time.

    Parameters
    ----------
    envelope : np.ndarray [shape=(2, stretches)], in [-1, 1]
        See :func:`genrecls.features.excerpts.envelope`.
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
    """A log-mel in dB, with its colour bar: of a segment [shape=(n_mels, frames)], or of all segments
    of a track [shape=(segments, n_mels, frames)], one after the other."""
    ax = ax or plt.gca()
    extent = _extent(levels, front_end)
    if levels.ndim == 3:
        extent = (0, len(levels) * front_end.segment_s, *extent[2:])
        levels = np.concatenate(levels, axis=1)
    image = ax.imshow(levels.astype(np.float32), extent=extent, vmin=vmin, **_SOUND)
    if colorbar:
        ax.figure.colorbar(image, ax=ax, format="%d dB", pad=0.01)
    return _label(ax, front_end)


def spectrogram_image(
    image: np.ndarray, front_end: FrontEnd, *, ax: Axes | None = None, cmap: str | None = None
) -> Axes:
    """A image [shape=(n_mels, frames, 3)], or a map of the same stretch of sound.

    A map [shape=(height, width)] of any resolution is stretched over the same axes.
    """
    ax = ax or plt.gca()
    frames = front_end.shape if image.ndim == 2 else image.shape[:2]
    extent = _extent(np.empty(frames), front_end)
    ax.imshow(image, extent=extent, cmap=cmap, interpolation="nearest", **_SOUND)
    return _label(ax, front_end)


def taggram(result, genres: Sequence[str] | None = None, *, ax: Axes | None = None) -> Axes:
    """Probability of every genre over the time of a track: a row and a colour each.

    The stronger the colour, the more probable the genre. Where segments overlap, each is drawn
    around its middle.

    Parameters
    ----------
    result : Prediction or pd.DataFrame
        Of one track; or its segments in the order of time: ``start_s, end_s, prob_<genre>...``. With
        ``silent``, silent segments are hatched.
    genres : sequence of str, optional
        By default all, in the order of their columns.
    """
    ax = ax or plt.gca()
    segments = result if isinstance(result, pd.DataFrame) else result.segments
    genres = genres or [name.removeprefix("prob_") for name in segments if name.startswith("prob_")]
    start, end = segments["start_s"].to_numpy(), segments["end_s"].to_numpy()
    half = np.diff(start).min() / 2 if len(start) > 1 else (end[0] - start[0]) / 2
    left, right = (start + end) / 2 - half, (start + end) / 2 + half
    left[0], right[-1] = start[0], end[-1]
    for row, genre in enumerate(genres):
        color = LinearSegmentedColormap.from_list(genre, ["white", COLORS[row % len(COLORS)]])
        shares = color(segments[f"prob_{genre}"].to_numpy())
        spans = np.stack([left, right - left], axis=1)
        ax.broken_barh(spans, (row - 0.45, 0.9), facecolors=shares, lw=0, antialiased=False)
    if "silent" in segments:
        for at in np.flatnonzero(segments["silent"]):
            ax.axvspan(left[at], right[at], fill=False, hatch="///", edgecolor="0.6", lw=0)
    ax.set_yticks(range(len(genres)), genres)
    ax.set(xlim=(0, right[-1]), ylim=(len(genres) - 0.5, -0.5), xlabel="Time (s)")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def prediction(result) -> plt.Figure:
    """The taggram of a :class:`~genrecls.classifier.Prediction` above the mel-spectrogram of the track.

    The segments of the spectrogram are those that the model sees, one after the other: under the
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
        title = f"{Path(result.path).name}: {result.label} ({format_probabilities(result.probabilities)})"
        return track(result.segments, result.log_mels, result.front_end, title=title)


def track(
    segments: pd.DataFrame, log_mels: np.ndarray, front_end: FrontEnd, *, title: str
) -> plt.Figure:
    """The taggram of a track above its mel-spectrogram, over the same seconds.

    Parameters
    ----------
    segments : pd.DataFrame
        See :func:`taggram`.
    log_mels : np.ndarray [shape=(segments that do not overlap, n_mels, frames)] (in dB)
    front_end : FrontEnd
    title : str
    """
    n_genres = sum(name.startswith("prob_") for name in segments)
    figure = plt.figure(figsize=(10, 3.2 + 0.3 * n_genres), layout="constrained")
    ratios = [0.4 + 0.3 * n_genres, 2.8]
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
    taggram(segments, ax=top).set(xlabel="")
    top.set_title(title)
    log_mel(log_mels, front_end, ax=bottom, colorbar=False)
    return figure


def format_probabilities(probabilities: dict[str, float]) -> str:
    """Probabilities in words, the highest first, five at most."""
    highest = sorted(probabilities.items(), key=lambda item: -item[1])
    more = [] if len(highest) <= 5 else ["…"]
    return ", ".join([f"{genre} {p:.2f}" for genre, p in highest[:5]] + more)


def first_layer(
    image: np.ndarray, maps: np.ndarray, front_end: FrontEnd, *, columns: int = 4
) -> plt.Figure:
    """The input image above the map of every channel of the first convolution.

    Parameters
    ----------
    image : np.ndarray [shape=(n_mels, frames, 3)], in [0, 1]
    maps : np.ndarray [shape=(channels, height, width)]
    """
    rows = -(-len(maps) // columns)
    figure = plt.figure(figsize=(10, 2.6 + 1.75 * rows))
    top, bottom = figure.subfigures(2, 1, height_ratios=[2.6, 1.75 * rows])
    spectrogram_image(image, front_end, ax=top.subplots()).set_title("Input image")
    axes = bottom.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for i, ax in enumerate(axes.flat):
        if i >= len(maps):
            ax.remove()
            continue
        spectrogram_image(maps[i], front_end, ax=ax, cmap="magma").set_title(f"Channel {i + 1}")
        _label(ax, front_end, HZ_TICKS[::2])
        ax.tick_params(labelsize=7)
        ax.set(xlabel="", ylabel="")
    bottom.supxlabel("Time (s)", fontsize=10)
    bottom.supylabel("Frequency (Hz)", fontsize=10)
    return figure


def saliency_maps(
    image: np.ndarray, maps: dict[str, np.ndarray], front_end: FrontEnd
) -> plt.Figure:
    """A image, and what an answer about it rests on: a map each, over the image in gray.

    Parameters
    ----------
    image : np.ndarray [shape=(n_mels, frames, 3)], in [0, 1]
    maps : dict of str to np.ndarray [shape=(height, width)]
        Name and map, of any resolution; see :mod:`genrecls.inspection.saliency`. Where one is nowhere
        negative, dark is 0; else white is.
    """
    figure = plt.figure(figsize=(4 * (1 + len(maps)), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(maps), sharey=True)
    spectrogram_image(image, front_end, ax=axes[0]).set_title("Input image")
    gray = image.mean(axis=-1)
    for ax, (name, values) in zip(axes[1:], maps.items(), strict=True):
        spectrogram_image(np.repeat(gray[..., None], 3, axis=-1), front_end, ax=ax).set_title(name)
        most = float(np.abs(values).max()) or 1.0
        signed = values.min() < 0
        shown = ax.imshow(
            values, extent=(*ax.get_xlim(), *ax.get_ylim()), alpha=0.6, interpolation="bilinear",
            cmap="RdBu_r" if signed else "magma", vmin=-most if signed else 0, vmax=most, **_SOUND,
        )  # fmt: skip
        figure.colorbar(shown, ax=ax, pad=0.02)
        ax.set_ylabel("")
    return figure


def channel_segments(
    table: pd.DataFrame, images: Sequence[np.ndarray], front_end: FrontEnd
) -> plt.Figure:
    """The segments to which channels answer most and least: a row a channel, the strongest left.

    Parameters
    ----------
    table : pd.DataFrame
        See :func:`genrecls.saliency.channel_segments`.
    images : sequence of np.ndarray [shape=(n_mels, frames, 3)], in [0, 1]
        The image of every row.
    front_end : FrontEnd
    """
    channels = table["channel"].unique()
    columns = len(table) // len(channels)
    figure = plt.figure(figsize=(2.6 * columns, 1.75 * len(channels) + 0.4), layout="constrained")
    axes = figure.subplots(len(channels), columns, sharex=True, sharey=True, squeeze=False)
    for ax, row, image in zip(axes.flat, table.to_dict("records"), images, strict=True):
        spectrogram_image(image, front_end, ax=ax)
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
