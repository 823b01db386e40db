"""Figures of sound: time is in seconds and frequency in Hz, with low frequencies at the bottom.

Functions for a single panel take axes (by default the current ones) and return them; those for
several panels return a new figure.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from genrecls._utils.io import printable
from genrecls.config import FrontEnd
from genrecls.features.spectrogram import hz_to_mel
from genrecls.plots._style import COLORS, HZ_TICKS, style

# Hours of frames would take gigabytes, and a figure has fewer pixels.
_MAX_COLUMNS = 20_000


def log_mel(
    levels: np.ndarray,
    front_end: FrontEnd,
    *,
    ax: Axes | None = None,
    vmin: float | None = None,
    colorbar: bool = True,
) -> Axes:
    """Draw a log-mel spectrogram.

    Parameters
    ----------
    levels : np.ndarray [shape=(n_mels, frames) or (segments, n_mels, frames)] (in dB)
        A segment, or all segments of a track, which are drawn one after the other.
    front_end : FrontEnd
        Front end that computed the levels.
    ax : Axes, optional
        Axes to draw on.
    vmin : float, optional (in dB)
        Level of the darkest colour; by default the lowest level.
    colorbar : bool
        Whether to add a colour bar.
    """
    ax = ax or plt.gca()
    frames = levels.shape[-1]
    if levels.ndim == 3:
        frames = len(levels) * front_end.segment_s * front_end.sample_rate / front_end.hop_length
        every = 1 + len(levels) * levels.shape[2] // _MAX_COLUMNS
        levels = np.concatenate(levels[..., ::every], axis=1)
    _show(levels.astype(np.float32), frames, front_end, ax, vmin=vmin)
    if colorbar:
        ax.figure.colorbar(ax.images[-1], ax=ax, format="%d dB", pad=0.01)
    return ax


def spectrogram_image(
    image: np.ndarray, front_end: FrontEnd, *, ax: Axes | None = None, **options: Any
) -> Axes:
    """Draw the image of a segment, or a map that covers the same time and frequencies.

    Parameters
    ----------
    image : np.ndarray [shape=(n_mels, frames, 3) or (height, width)]
        An image in [0, 1], or a map of any resolution.
    front_end, ax
        See :func:`log_mel`.
    **options
        Passed to ``Axes.imshow``, such as ``cmap`` for a map.
    """
    options = {"interpolation": "nearest", **options}
    return _show(image, front_end.shape[1], front_end, ax or plt.gca(), **options)


def taggram(segments: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the probability of each genre over the time of a track.

    A stronger colour means a higher probability; colours fade where a part of the segment is
    silent. Only the middles of overlapping segments are drawn. The label of the genre with the
    highest mean is dark. The novelty, if known, is drawn in grey up to 2; it is half as dark at 1,
    from where on a segment is none of the genres.

    Parameters
    ----------
    segments : pd.DataFrame
        Segments of a prediction in the order of time; silent ones are hatched.
    ax : Axes, optional
        Axes to draw on.
    """
    ax = ax or plt.gca()
    genres = _genres(segments)
    start, end = segments["start_s"].to_numpy(), segments["end_s"].to_numpy()
    half = min(np.diff(start).min(initial=np.inf), end[0] - start[0]) / 2
    left, right = (start + end) / 2 - half, (start + end) / 2 + half
    left[0], right[-1] = start[0], end[-1]
    spans = list(zip(left, right - left, strict=True))
    sounding = segments.get("sounding", pd.Series(1.0, segments.index)).to_numpy()
    rows = [(f"prob_{genre}", COLORS[i % len(COLORS)], 1) for i, genre in enumerate(genres)]
    rows += [("novelty", "0.2", 2)] * ("novelty" in segments)
    for row, (name, color, highest) in enumerate(rows):
        cmap = LinearSegmentedColormap.from_list(name, ["white", color])
        colors = cmap(segments[name].to_numpy() / highest)
        colors[:, 3] = sounding
        ax.broken_barh(spans, (row - 0.45, 0.9), facecolors=colors, lw=0, antialiased=False)
    for i in np.flatnonzero(sounding == 0):
        ax.axvspan(left[i], right[i], fill=False, hatch="///", edgecolor="0.6", lw=0)
    ax.set_yticks(range(len(rows)), [*genres, "novelty"][: len(rows)], color="0.5")
    highest = segments[[f"prob_{genre}" for genre in genres]].mul(sounding, axis=0).sum().argmax()
    ax.get_yticklabels()[highest].set(color="black", weight="bold")
    ax.set(xlim=(0, right[-1]), ylim=(len(rows) - 0.5, -0.5), xlabel="Time (s)")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def prediction(result) -> Figure:
    """Draw a prediction as a taggram above the spectrogram of the track.

    Parameters
    ----------
    result : Prediction
        Prediction with log-mels, from :meth:`genrecls.GenreClassifier.predict`.
    """
    if result.log_mels is None:
        raise ValueError("the prediction has no log-mels to draw; make it with predict()")
    shares = format_probabilities(result.probabilities)
    if result.novelty is not None:
        shares += f"; novelty {result.novelty:.2f}"
    title = f"{printable(Path(result.path).name)}: {result.label} ({shares})"
    with plt.rc_context():
        style()
        return track(result.segments, result.log_mels, result.front_end, title=title)


def track(
    segments: pd.DataFrame, log_mels: np.ndarray, front_end: FrontEnd, *, title: str
) -> Figure:
    """Draw the taggram of a track above the log-mels of its segments that do not overlap.

    One more log-mel is that of the last segment, which overlaps.
    """
    height = 0.3 * (len(_genres(segments)) + ("novelty" in segments))
    figure = plt.figure(figsize=(10, 3.2 + height), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[0.4 + height, 2.8])
    taggram(segments, ax=top).set(xlabel="", title=title)
    end_s, length_s = segments["end_s"].iloc[-1], front_end.segment_s
    n = int(end_s / length_s + 1e-6)
    for last in log_mels[n:].astype(np.float32):  # its beginning will be covered
        _show(last, last.shape[1], front_end, bottom, start_s=end_s - length_s)
    log_mel(log_mels[:n], front_end, ax=bottom, colorbar=False)
    for image in bottom.images:
        image.set_clim(log_mels.min(), log_mels.max())
    return figure


def format_probabilities(probabilities: dict[str, float]) -> str:
    """Write the five highest probabilities as text, the highest first.

    Parameters
    ----------
    probabilities : dict of str to float
        Genre and probability.
    """
    highest = sorted(probabilities.items(), key=lambda item: -item[1])
    texts = [f"{genre} {p:.2f}" for genre, p in highest]
    return ", ".join(texts[:5] + ["…"] * (len(texts) > 5))


def first_layer(
    image: np.ndarray, maps: np.ndarray, front_end: FrontEnd, *, columns: int = 4
) -> Figure:
    """Draw the image of a segment above the outputs of the first convolution.

    Parameters
    ----------
    image, front_end
        See :func:`spectrogram_image`.
    maps : np.ndarray [shape=(channels, height, width)]
        Output of each channel.
    columns : int > 0
        Number of maps in a row.
    """
    height = 1.75 * -(-len(maps) // columns)
    figure = plt.figure(figsize=(10, 2.6 + height))
    panels: Any = figure.subfigures(2, 1, height_ratios=[2.6, height])
    spectrogram_image(image, front_end, ax=panels[0].subplots()).set_title("Input image")
    titles = [f"Channel {i + 1}" for i in range(len(maps))]
    _draw_panels(panels[1], maps, titles, front_end, columns, cmap="magma")
    return figure


def saliency_maps(image: np.ndarray, maps: dict[str, np.ndarray], front_end: FrontEnd) -> Figure:
    """Draw the image of a segment, and each saliency map over the image in grey.

    Parameters
    ----------
    image, front_end
        See :func:`spectrogram_image`.
    maps : dict of str to np.ndarray [shape=(height, width)]
        Title and map, of any resolution; see :mod:`genrecls.inspection`.
    """
    figure = plt.figure(figsize=(4 * (1 + len(maps)), 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(maps), sharey=True)
    spectrogram_image(image, front_end, ax=axes[0]).set_title("Input image")
    gray = image.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    for ax, (title, values) in zip(axes[1:], maps.items(), strict=True):
        highest = float(np.abs(values).max()) or 1.0
        # The value 0 is white in a map with negative values, and dark in the others.
        lowest, cmap = (-highest, "RdBu_r") if values.min() < 0 else (0, "magma")
        options = {"vmin": lowest, "vmax": highest, "cmap": cmap, "interpolation": "bilinear"}
        spectrogram_image(gray, front_end, ax=ax)
        spectrogram_image(values, front_end, ax=ax, alpha=0.6, **options)
        ax.set(title=title, ylabel="")
        figure.colorbar(ax.images[-1], ax=ax, pad=0.02)
    return figure


def channel_segments(
    table: pd.DataFrame, images: Sequence[np.ndarray], front_end: FrontEnd
) -> Figure:
    """Draw the segments with the strongest and the weakest output of each channel.

    Parameters
    ----------
    table : pd.DataFrame
        One row per image, as from :func:`genrecls.inspection.channel_segments`.
    images, front_end
        Image of each row; see :func:`spectrogram_image`.
    """
    channels = table["channel"].unique()
    columns = len(table) // len(channels)
    figure = plt.figure(figsize=(2.6 * columns, 1.75 * len(channels) + 0.4), layout="constrained")
    rows = zip(table["genre"], table["start_s"], table["activation"], strict=True)
    titles = [f"{genre}, {start_s:.0f} s: {activation:.2g}" for genre, start_s, activation in rows]
    axes = _draw_panels(figure, images, titles, front_end, columns)
    for ax, channel in zip(axes[:, 0], channels, strict=True):
        ax.set_ylabel(f"Channel {channel}", fontsize=8)
    half = columns // 2
    figure.suptitle(f"{half} strongest on the left, {half} weakest on the right", fontsize=10)
    return figure


def _genres(segments: pd.DataFrame) -> list[str]:
    return segments.filter(regex="^prob_").columns.str.removeprefix("prob_").tolist()


def _show(
    image: np.ndarray,
    frames: float,
    front_end: FrontEnd,
    ax: Axes,
    *,
    start_s: float = 0,
    **options: Any,
) -> Axes:
    """Show an image that is a number of frames wide, and label its axes."""
    end_s = start_s + frames * front_end.hop_length / front_end.sample_rate
    extent = (start_s, end_s, 0, front_end.n_mels)
    ax.imshow(image, extent=extent, origin="lower", aspect="auto", **options)
    ax.set(xlabel="Time (s)", ylabel="Frequency (Hz)")
    ax.spines[:].set_visible(False)
    _set_ticks(ax, front_end, HZ_TICKS)
    return ax


def _set_ticks(ax: Axes, front_end: FrontEnd, ticks_hz: Sequence[int]) -> None:
    """Set ticks where the mel scale has round frequencies."""
    # The n bands are centred on the inner ones of n + 2 equally spaced mels.
    scale = front_end.mel_scale
    low, high = hz_to_mel([front_end.f_min, front_end.f_max], scale)
    step = (high - low) / (front_end.n_mels + 1)
    positions = {hz: (hz_to_mel(hz, scale) - low) / step - 0.5 for hz in ticks_hz}
    ticks = {hz: y for hz, y in positions.items() if 0 <= y <= front_end.n_mels}
    ax.set_yticks(list(ticks.values()), [str(hz) for hz in ticks])


def _draw_panels(
    figure: Figure, images, titles: list[str], front_end: FrontEnd, columns: int, **options: Any
) -> np.ndarray:
    """Draw images as small panels in rows; return the axes [shape=(rows, columns)]."""
    rows = -(-len(titles) // columns)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(titles) :]:
        ax.remove()
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        spectrogram_image(image, front_end, ax=ax, **options).set_title(title, fontsize=8)
        _set_ticks(ax, front_end, HZ_TICKS[::2])
        ax.set(xlabel="", ylabel="")
        ax.tick_params(labelsize=7)
    figure.supxlabel("Time (s)", fontsize=10)
    figure.supylabel("Frequency (Hz)", fontsize=10)
    return axes
