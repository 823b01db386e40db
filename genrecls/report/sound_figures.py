"""Figures of sound, drawn from saved arrays without audio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from genrecls import plots
from genrecls.config import FrontEnd
from genrecls.evaluation.calibration import calibrated
from genrecls.evaluation.runs import Run
from genrecls.features.excerpts import EXCERPT_MELS, N_MELS, excerpt_front_end, load_excerpts
from genrecls.features.image import to_image
from genrecls.features.stored import stored_log_mels
from genrecls.plots.sound import track
from genrecls.report.document import Report

# Largest number of channels to show: as many as the original's CNN has.
_CHANNELS = 10


def add_excerpts(report: Report, runs: Sequence[Run]) -> None:
    """Add spectrograms and waveforms of one track per genre."""
    excerpts = load_excerpts(runs[0].folder.parent.name)
    if excerpts is None:
        return
    report.section("Looking at the sound")
    names = [(str(g), str(excerpts[f"path_{i}"])) for i, g in enumerate(excerpts["genres"])]
    rows = -(-len(names) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(12, 3.2 * rows), squeeze=False)
    for ax in axes.flat[len(names) :]:
        ax.remove()
    for i, (genre, path) in enumerate(names):
        levels, ax = excerpts[f"segment_{i}"].astype(float), axes.flat[i]
        last_in_row = i % 2 == 1 or i == len(names) - 1
        plots.log_mel(levels, FrontEnd.preset("default"), ax=ax, colorbar=last_in_row)
        ax.set_title(f"{genre}: {Path(path).stem}")
    report.figure("images", figure, "Log-mel spectrogram of 15 s of each genre")

    figure, axes = plt.subplots(len(names), 1, figsize=(10, 2 * len(names)), squeeze=False)
    for i, (genre, path) in enumerate(names):
        envelope, duration_s = excerpts[f"envelope_{i}"], float(excerpts[f"duration_s_{i}"])
        plots.waveform(envelope, duration_s, ax=axes[i, 0]).set_title(f"{genre}: {path}")
    report.figure("waveforms", figure, "Waveforms of the first minute; the red line marks 30 s")

    figure, ax = plt.subplots(figsize=(10, 3.6))
    levels = excerpts[f"mels_{EXCERPT_MELS}"].astype(float)
    plots.log_mel(levels, excerpt_front_end(), ax=ax, vmin=-60)
    ax.set_title(f"{names[0][1]}, {EXCERPT_MELS} mel bands")
    report.figure("log_mel", figure, "Log-mel spectrogram of 30 s")

    figure, axes = plt.subplots(1, len(N_MELS), figsize=(12, 3.4))
    for n_mels, ax in zip(N_MELS, axes, strict=True):
        levels = excerpts[f"mels_{n_mels}"].astype(float)
        plots.log_mel(levels, excerpt_front_end(n_mels), ax=ax, vmin=-60, colorbar=False)
        ax.set_title(f"n_mels = {n_mels}")
    report.figure("n_mels", figure, "The same 30 s with fewer and with more mel bands")


def first_layer_figure(run: Run) -> tuple[Figure, str]:
    """Draw a segment and the outputs of the first convolution, with a caption."""
    segment, maps = run.first_layer
    image = to_image(segment["log_mel"], run.front_end)
    figure = plots.first_layer(image, maps[:_CHANNELS], run.front_end, columns=5)
    figure.axes[0].set_title(f"{run.name}: {segment['path']}, segment {segment['segment']}")
    shown = f"the first {_CHANNELS} of {len(maps)}" if len(maps) > _CHANNELS else len(maps)
    return figure, f"A segment, and the outputs of the first convolution: {shown} channels"


def taggram_figure(run: Run, track_id: str) -> tuple[Figure, str]:
    """Draw the probabilities of a test track over time, with a caption."""
    rows = run.predictions.query("split == 'test' and track_id == @track_id")
    segments = calibrated(rows, run.genres).sort_values("segment")
    path, genre, sha256 = segments.iloc[0][["path", "genre", "sha256"]]
    log_mels = stored_log_mels(run.front_end, sha256)
    title = f"{Path(path).name}, {genre}: {run.name}"
    figure = track(segments, log_mels, run.front_end, title=title)
    return figure, f"Calibrated probability of each genre, above the mel spectrogram: {run.name}"
