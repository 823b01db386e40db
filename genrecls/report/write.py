"""Saved runs to ``reports/<corpus>/``: every table and figure, without audio or TensorFlow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from genrecls import plots
from genrecls._utils.io import write_atomically
from genrecls._utils.parallel import map_parallel
from genrecls._utils.paths import project_root
from genrecls.config import FrontEnd
from genrecls.errors import ModelError
from genrecls.evaluation.calibration import calibrated
from genrecls.evaluation.examples import example_track_ids, segment_table
from genrecls.evaluation.runs import Run, has_predictions, read_predictions, read_runs
from genrecls.evaluation.scores import aggregate_tracks, confusion_matrix
from genrecls.evaluation.tables import comparison_table, score_table, split_table
from genrecls.features.excerpts import EXCERPT_MELS, N_MELS, excerpt_front_end, excerpts_file
from genrecls.features.image import to_image
from genrecls.features.prepare import stored_log_mels
from genrecls.report import evidence
from genrecls.report.html import page
from genrecls.report.inputs import REPORT, as_meta, inputs_of
from genrecls.report.markdown import escape, save_figure, save_table

log = logging.getLogger(__name__)

_CHANNELS = 10  # of a first convolution: as many as the original had


def write_report(corpus_name: str) -> Path:
    """Write the tables (CSV and Markdown) and figures (PNG and SVG) of a corpus, and the report.

    Returns
    -------
    Path
        Of ``reports/<corpus>/report.html``, one file that holds its images. Beside it stands
        the same as ``report.md``; ``reports/report.html`` is a copy of the report made last.

    Raises
    ------
    ModelError
        If there are no runs of the corpus, or its gallery is missing.
    CorpusError
        If the log-mels of an example track are missing.
    """
    folder = project_root() / "reports" / corpus_name
    folder.mkdir(parents=True, exist_ok=True)
    inputs = inputs_of(corpus_name)  # first: what changes while it is read makes the report stale
    plots.style()
    runs = read_runs(corpus_name)
    nothing = pd.DataFrame(), {}
    cross_validated = read_predictions(corpus_name) if has_predictions(corpus_name) else nothing
    sections = [
        f"# Report on the corpus *{escape(corpus_name)}*\n",
        *_synthetic_note(runs),
        "## Comparison\n",
        save_table(folder, "comparison", comparison_table(runs)),
        "`test F1` is the macro F1 over segments. A split marked leaky has segments of one track on "
        "both sides of training and validation: its validation accuracy says little.\n",
        "## Splits\n",
        *_splits(folder, runs),
        *_sources(folder, runs[0].segments),
        "## Scores\n",
        save_table(folder, "scores", score_table(runs)),
        *evidence.cross_validation(folder, *cross_validated),
        *evidence.fine_tuning(folder),
        *evidence.leak(folder, *cross_validated),
        *evidence.calibration(folder, runs),
        *evidence.robustness(folder, runs),
        *evidence.audit(folder),
        "## Looking at the sound\n",
        *_sound(folder, corpus_name),
        "## Models\n",
        *_models(folder, runs),
        "## Example tracks\n",
        *_examples(folder, runs),
        "## Test tracks\n",
        *[part for run in runs for part in _predictions(folder, run)],
        "## Tracks left out, and tracks used with a warning\n",
        *_left_out(folder, runs),
        "## Versions\n",
        save_table(folder, "versions", _versions(runs)),
    ]
    text = "\n".join(sections)
    html = page(text, folder, meta=as_meta(inputs)).encode()
    report = folder / REPORT
    write_atomically(folder / "report.md", lambda file: file.write(text.encode()))
    for path in (report, folder.parent / REPORT):
        write_atomically(path, lambda file: file.write(html))
    return report


def _synthetic_note(runs: Sequence[Run]) -> list[str]:
    if "source" not in runs[0].segments or not (
        runs[0].segments["source"].str.contains("synthetic", case=False).all()
    ):
        return []
    return ["*Synthetic music from `genrecls demo`: it proves the pipeline, not the science.*\n"]


def _splits(folder: Path, runs: Sequence[Run]) -> list[str]:
    parts = []
    for method in dict.fromkeys(run.recipe.split_by for run in runs):
        run = next(r for r in runs if r.recipe.split_by == method)
        leaky = " (leaky: preset `original`)" if method == "segment" else " (preset `default`)"
        parts += [
            f"Validation held out by {method}{leaky}:\n",
            save_table(folder, f"split_by_{method}", _flat(split_table(run.segments))),
        ]
    return parts


def _sources(folder: Path, segments: pd.DataFrame) -> list[str]:
    """Where the music comes from, if the corpus says so."""
    known = [c for c in ("genre", "source", "licence") if c in segments]
    if "source" not in known:
        return []
    tracks = segments.drop_duplicates("track_id").groupby(known, sort=False)
    table = tracks.size().rename("tracks").reset_index()
    return ["## Sources\n", save_table(folder, "sources", table)]


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """A split table with one row of column names."""
    table = table.copy()
    table.columns = [f"{genre} {what}" for genre, what in table.columns]
    return table.reset_index()


def _sound(folder: Path, corpus_name: str) -> list[str]:
    from matplotlib import pyplot as plt

    gallery = excerpts_file(corpus_name)
    if not gallery.exists():
        raise ModelError(f"{str(gallery)!r} is missing; run 'genrecls prepare' first")
    with np.load(gallery, allow_pickle=False) as saved:
        genres = [str(g) for g in saved["genres"]]
        front_end = FrontEnd.preset("default")
        rows = -(-len(genres) // 2)
        figure, axes = plt.subplots(rows, 2, figsize=(12, 3.2 * rows), squeeze=False)
        for ax in axes.flat[len(genres) :]:
            ax.remove()
        for i, genre in enumerate(genres):
            ax = plots.log_mel(saved[f"segment_{i}"].astype(float), front_end, ax=axes.flat[i],
                               colorbar=i % 2 == 1 or i == len(genres) - 1)  # fmt: skip
            ax.set_title(f"{genre}: {Path(str(saved[f'path_{i}'])).stem}")
        parts = [save_figure(folder, "images", figure, "Fifteen seconds of each genre as a image")]

        figure, axes = plt.subplots(len(genres), 1, figsize=(10, 2 * len(genres)), squeeze=False)
        for i, genre in enumerate(genres):
            ax = plots.waveform(saved[f"envelope_{i}"], float(saved[f"duration_s_{i}"]),
                                ax=axes[i, 0])  # fmt: skip
            ax.set_title(f"{genre}: {saved[f'path_{i}']}")
        caption = "Waveforms; the red line stands at 30 s"
        parts.append(save_figure(folder, "waveforms", figure, caption))

        figure, ax = plt.subplots(figsize=(10, 3.6))
        plots.log_mel(
            saved[f"mels_{EXCERPT_MELS}"].astype(float), excerpt_front_end(), ax=ax, vmin=-60
        )
        ax.set_title(f"{saved['path_0']}, {EXCERPT_MELS} mel bands")
        parts.append(save_figure(folder, "log_mel", figure, "Log-mel spectrogram of 30 s"))

        figure, axes = plt.subplots(1, len(N_MELS), figsize=(12, 3.4))
        for ax, n_mels in zip(axes, N_MELS, strict=True):
            levels = saved[f"mels_{n_mels}"].astype(float)
            plots.log_mel(levels, excerpt_front_end(n_mels), ax=ax, vmin=-60, colorbar=False)
            ax.set_title(f"n_mels = {n_mels}")
        parts.append(save_figure(folder, "n_mels", figure, "The same 30 s with 10, 100, 500 bands"))
    return parts


def _models(folder: Path, runs: Sequence[Run]) -> list[str]:
    calls = [(folder, run) for run in runs]
    return [part for parts in map_parallel(_run, calls, desc="models", unit="model")
            for part in parts]  # fmt: skip


def _run(folder: Path, run: Run) -> list[str]:
    from matplotlib import pyplot as plt

    plots.style()  # in a process of its own
    test = run.predictions.query("split == 'test'")
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    plots.history(run.history, axes=axes)
    axes[0].set_title(f"{run.name}: loss")
    axes[1].set_title(f"{run.name}: accuracy")
    curves = save_figure(folder, f"history_{run.name}", figure, "Training curves")

    matrix = confusion_matrix(test, run.genres)
    side = 2.2 + 0.7 * len(run.genres)
    figure, ax = plt.subplots(figsize=(side + 0.8, side))
    plots.confusion(matrix, ax=ax).set_title("Test segments")
    figure.suptitle(run.name, fontsize=10, wrap=True)
    save_table(folder, f"confusion_{run.name}", matrix.reset_index())
    confusion = save_figure(
        folder, f"confusion_{run.name}", figure, "Confusion matrix (test segments)"
    )

    segment, maps = run.first_layer
    image = to_image(segment["log_mel"], run.front_end)
    shown = maps[:_CHANNELS]
    figure = plots.first_layer(image, shown, run.front_end, columns=5)
    figure.suptitle(f"{run.name}: {segment['path']}, segment {segment['segment']}", fontsize=10)
    caption = "First convolution"
    if len(maps) > len(shown):
        caption += f", the first {len(shown)} of {len(maps)} channels"
    layer = save_figure(folder, f"first_layer_{run.name}", figure, caption)
    return [f"### {escape(run.name)}\n", curves, confusion, layer]


def _examples(folder: Path, runs: Sequence[Run]) -> list[str]:
    parts, taggrams = [], []
    for preset in dict.fromkeys(run.recipe.split_by for run in runs):
        group = [run for run in runs if run.recipe.split_by == preset]
        names = escape(", ".join(run.name for run in group))
        for i, (kind, track_id) in enumerate(example_track_ids(group[0]).items(), start=1):
            name = f"{i}_{kind}_by_{preset}"
            title = f"### {escape(kind.capitalize())} ({names})\n"
            table = save_table(folder, f"example_{name}", segment_table(group, track_id))
            parts.append([title, table])
            taggrams.append((folder, f"taggram_{name}", *_heard(group[0], track_id)))
    drawn = map_parallel(_taggram, taggrams, desc="taggrams")
    return [text for part, figure in zip(parts, drawn, strict=True) for text in (*part, figure)]


def _heard(run: Run, track_id: str) -> tuple[str, pd.DataFrame, np.ndarray, FrontEnd]:
    """A test track as a run sees it, from the log-mels that are stored, and what it says of it."""
    segments = calibrated(run.predictions.query("track_id == @track_id"), run.genres)
    segments = segments.sort_values("segment")
    log_mels = stored_log_mels(run.front_end, segments["sha256"].iloc[0])
    return run.name, segments, log_mels, run.front_end


def _taggram(
    folder: Path, name: str, run: str, segments: pd.DataFrame, log_mels: np.ndarray,
    front_end: FrontEnd,
) -> str:  # fmt: skip
    plots.style()  # in a process of its own
    title = f"{Path(segments['path'].iloc[0]).name}, {segments['genre'].iloc[0]}: {run}"
    figure = plots.track(segments, log_mels, front_end, title=title)
    caption = f"Probability per genre over time, calibrated, above the mel-spectrogram: {run}"
    return save_figure(folder, name, figure, caption)


def _predictions(folder: Path, run: Run) -> list[str]:
    test = run.predictions.query("split == 'test'")
    table = aggregate_tracks(test, run.genres).drop(columns=["track_id"]).round(3)
    return [f"### {escape(run.name)}\n", save_table(folder, f"tracks_{run.name}", table)]


def _left_out(folder: Path, runs: Sequence[Run]) -> list[str]:
    parts = []
    for what, title in (("left_out", "Left out"), ("notes", "Warnings")):
        rows = {tuple(row.values()): row for run in runs for row in run.card[what]}
        table = pd.DataFrame(list(rows.values()))
        parts.append(save_table(folder, what, table) if len(table) else f"{title}: none.\n")
    return parts


def _versions(runs: Sequence[Run]) -> pd.DataFrame:
    """What every run was made with, when, and on which machine."""
    rows = [
        {
            "run": run.name,
            "created": run.card["created"],
            "machine": run.card["machine"],
            **run.card["versions"],
        }
        for run in runs
    ]
    return pd.DataFrame(rows).fillna("–")
