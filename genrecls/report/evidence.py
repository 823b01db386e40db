"""What a reviewer asks for: the sections of the report on how far its numbers can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from genrecls import plots
from genrecls.evaluation.calibration import calibrated, reliability
from genrecls.evaluation.intervals import RANDOM_SEED, RESAMPLES
from genrecls.evaluation.robustness import ALL_GENRES, ROBUSTNESS_FILE, flip_rates, flip_table
from genrecls.evaluation.runs import Run
from genrecls.evaluation.scores import aggregate_tracks, confusion_matrix
from genrecls.evaluation.tables import (
    calibration_table,
    cross_validated_scores,
    leak_intervals,
    leak_summary,
    leak_table,
    paired_table,
    summary_table,
)
from genrecls.report.inputs import AUDIT
from genrecls.report.markdown import escape, save_figure, save_table

#: End of the name of a run whose weights were random where usually they are pretrained.
RANDOM = "-weights-random"


def cross_validation(folder: Path, predictions: pd.DataFrame, cards: dict) -> list[str]:
    """Every track predicted by models that never heard its artist: scores with intervals."""
    cards = {name: card for name, card in cards.items() if card["split_by"] is None}
    if not cards:
        return []
    predictions = predictions[predictions["run"].isin(list(cards))]
    from matplotlib import pyplot as plt

    genres = next(iter(cards.values()))["genres"]
    tidy = cross_validated_scores(predictions, genres)
    tidy.to_csv(folder / "cross_validation_scores.csv", index=False)
    shown = tidy[tidy["score"] == "balanced accuracy"].rename(columns={"run": "label"})
    shown = shown.assign(group=shown["level"] + "s")
    figure, ax = plt.subplots(figsize=(9, 1.2 + 0.45 * len(cards)))
    plots.intervals(shown, ax=ax).set(xlabel="Balanced accuracy, 95 % interval", xlim=(0, 1.02))
    parts = [
        "## Cross-validation\n",
        protocol(tidy, cards),
        "Tracks (the headline):\n",
        save_table(folder, "cross_validation_tracks", summary_table(tidy, "track")),
        "Segments of 15 s:\n",
        save_table(folder, "cross_validation_segments", summary_table(tidy, "segment")),
        save_figure(folder, "cross_validation", figure, "Balanced accuracy with its interval"),
    ]
    best = tidy["run"].iloc[-1]
    against = "compact_cnn-default" if "compact_cnn-default" in cards else best
    if len(cards) > 1:
        title = f"{escape(against)} against each of the others, on the same tracks:\n"
        table = save_table(folder, "paired", paired_table(predictions, genres, against))
        parts += [title, table]
    parts += _transfer(folder, predictions, genres)
    parts += ["Confusions, tracks (counts over all repeats):\n"]
    for run in cards:
        by_track = aggregate_tracks(predictions[predictions["run"] == run], genres)
        matrix = confusion_matrix(by_track, genres).reset_index()
        parts += [f"{escape(run)}\n", save_table(folder, f"cv_confusion_{run}", matrix)]
    parts += [
        "Calibration, before and after temperature scaling (the temperature of a fold is fitted "
        "on the others):\n",
        save_table(folder, "cv_calibration", calibration_table(predictions, genres)),
    ]
    return parts


def _transfer(folder: Path, predictions: pd.DataFrame, genres: Sequence[str]) -> list[str]:
    """Every net with pretrained weights against itself with random ones."""
    runs = set(predictions["run"])
    tables = []
    for run in sorted(run for run in runs if f"{run}{RANDOM}" in runs):
        two = predictions[predictions["run"].isin([run, f"{run}{RANDOM}"])]
        names = {f"{run} minus": "minus", f"only {run} right": "only it right"}
        table = paired_table(two, genres, run).rename(columns=names)
        table.insert(0, "run", run)
        tables.append(table)
    if not tables:
        return []
    title = "What the pretraining brings: the same net, recipe and folds with random weights:\n"
    return [title, save_table(folder, "transfer", pd.concat(tables))]


def fine_tuning(folder: Path) -> list[str]:
    """What ``benchmarks/fine_tuning.py`` has put here."""
    if not (folder / "fine_tuning.md").is_file():
        return []
    curves = pd.read_csv(folder / "fine_tuning_curves.csv")
    figure = plots.fine_tuning(curves).figure
    return [
        "## Training in stages\n",
        (folder / "fine_tuning.md").read_text(encoding="utf-8"),
        save_figure(folder, "fine_tuning", figure, "Test F1 over training time"),
    ]


def protocol(tidy: pd.DataFrame, cards: dict[str, dict]) -> str:
    """How the numbers of a cross-validation came about, in words."""
    row, card = tidy.iloc[0], next(iter(cards.values()))
    fewer = ""
    if card["folds_used"] < card["folds"]:
        fewer = (
            f" ({card['folds']} were asked for, but some genre has only {row['fewest groups']} "
            f"artists, and every fold is to test every genre)"
        )
    return (
        f"Every track is predicted by models that never heard its artist: {card['folds_used']} "
        f"folds{fewer}, {row['repeats']} repeats with other folds and random seeds. In brackets "
        f"the 95 % percentile interval of {RESAMPLES:,} bootstrap resamples of whole groups "
        f"(artists) within each genre, random seed {RANDOM_SEED}. The smallest genre has "
        f"{row['fewest groups']} groups"
        + (
            ": so few that the intervals are wide and still too narrow.\n"
            if row["fewest groups"] < 10
            else ".\n"
        )
    )


def leak(folder: Path, predictions: pd.DataFrame, cards: dict) -> list[str]:
    from matplotlib import pyplot as plt

    table = leak_table(predictions, cards)
    if not len(table):
        return []
    table.to_csv(folder / "leak_scores.csv", index=False)
    headline = leak_summary(table)
    figure, ax = plt.subplots(figsize=(9, 1 + 0.4 * len(headline)))
    plots.intervals(leak_intervals(table), ax=ax).set(
        xlabel="Accuracy over segments, 95 % interval"
    )
    return [
        "## The leak\n",
        "The same model, tested on the same held-out artists, with its validation held out by "
        "segment, by track or by artist. *Optimism* is what the validation promises more than the "
        "test keeps.\n",
        save_table(folder, "leak", headline),
        save_figure(folder, "leak", figure, "What validation promises and what the test keeps"),
    ]


def calibration(folder: Path, runs: Sequence[Run]) -> list[str]:
    from matplotlib import pyplot as plt

    genres = runs[0].genres
    predictions = pd.concat([run.predictions.assign(run=run.name) for run in runs])
    rows = -(-len(runs) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(10, 2.9 * rows), squeeze=False)
    for ax in axes.flat[len(runs) :]:
        ax.remove()
    for ax, run in zip(axes.flat, runs, strict=False):
        test = run.predictions.query("split == 'test'")
        tables = {
            "before": reliability(test, genres),
            f"after (T = {run.temperature:.2f})": reliability(calibrated(test, genres), genres),
        }
        plots.reliability(tables, ax=ax).set_title(run.name, fontsize=8)
    return [
        "## Calibration\n",
        "Temperatures are fitted on the validation side, one for segments and one for tracks; after "
        "a leaky validation there is nothing to fit on, and they stay 1.\n",
        save_table(folder, "calibration", calibration_table(predictions, genres)),
        save_figure(folder, "reliability", figure, "Reliability of test segments"),
    ]


def robustness(folder: Path, runs: Sequence[Run]) -> list[str]:
    from matplotlib import pyplot as plt

    ridden = [run for run in runs if (run.folder / ROBUSTNESS_FILE).is_file()]
    if not ridden:
        return []
    rates, table = flip_rates(ridden), flip_table(ridden)
    table.columns = [f"{run}: {genre}" for run, genre in table.columns]
    figure, ax = plt.subplots(figsize=(3.5 + 1.3 * len(ridden), 7))
    plots.robustness(rates[rates["genre"] == ALL_GENRES], ax=ax)
    return [
        "## Robustness\n",
        "Predictions on test tracks that flip when something changes that must not matter.\n",
        save_figure(folder, "robustness", figure, "Share of predictions that flip"),
        save_table(folder, "robustness", table.reset_index()),
    ]


def audit(folder: Path) -> list[str]:
    """The tables that ``genrecls audit`` has put here."""
    parts = []
    for name in AUDIT:
        if (file := folder / f"audit_{name}.md").is_file():
            text = file.read_text(encoding="utf-8")
            empty = len(text.splitlines()) == 2  # the head alone
            parts += [f"### {name.capitalize()}\n", "None.\n" if empty else text]
    return ["## Audit\n", *parts] if parts else []
