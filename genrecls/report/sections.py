"""Sections of the report: each function adds one, or nothing if it has nothing to show."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt

from genrecls import plots
from genrecls.evaluation import tables
from genrecls.evaluation.calibration import calibrated, reliability
from genrecls.evaluation.examples import example_track_ids, segment_table
from genrecls.evaluation.intervals import RANDOM_SEED, RESAMPLES
from genrecls.evaluation.robustness import ALL_GENRES, ROBUSTNESS_FILE, flip_rates, flip_table
from genrecls.evaluation.runs import Run, has_predictions, read_predictions
from genrecls.evaluation.scores import aggregate_tracks, confusion_matrix
from genrecls.report.document import Report
from genrecls.report.markdown import escape, join_header, render
from genrecls.report.model_card import count_tracks
from genrecls.report.sound_figures import add_excerpts, first_layer_figure, taggram_figure

# Tables of the audit that the report shows.
_AUDIT_TABLES = ("confounds", "genres", "duplicates", "problems")

# End of the name of a run with random weights where the usual ones are pretrained.
_RANDOM = "-weights-random"

# The run that the others are compared with, if it has been cross-validated.
_REFERENCE = "compact_cnn-default"


def _group_by_split(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by the way in which their validation set is held out."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.recipe.split_by, []).append(run)
    return groups


def add_overview(report: Report, runs: Sequence[Run]) -> None:
    """Add the comparison of all runs, their splits, sources and scores."""
    segments = runs[0].segments
    if runs[0].synthetic:
        report.text(render("synthetic.md"))
    report.section("Comparison")
    report.table("comparison", tables.comparison_table(runs))
    report.text(render("comparison.md"))
    report.section("Splits")
    for split_by, (run, *_) in _group_by_split(runs).items():
        leaky = "" if split_by == "artist" else " (leaky)"
        title = f"Validation held out by {split_by}{leaky}:"
        report.table(f"split_by_{split_by}", join_header(tables.split_table(run.segments)), title)
    if "source" in segments:
        report.section("Sources")
        columns = [name for name in ("genre", "source", "licence") if name in segments]
        report.table("sources", count_tracks(segments, columns))
    report.section("Scores")
    report.table("scores", tables.score_table(runs))


def _read_cross_validation(runs: Sequence[Run]) -> tuple[pd.DataFrame, dict[str, dict]]:
    name = runs[0].folder.parent.name
    return read_predictions(name) if has_predictions(name) else (pd.DataFrame(), {})


def add_cross_validation(report: Report, runs: Sequence[Run]) -> None:
    """Add the scores of cross-validated models, with their intervals and differences."""
    predictions, cards = _read_cross_validation(runs)
    names = [name for name, card in cards.items() if card["split_by"] is None]
    if not names:
        return
    predictions = predictions[predictions["run"].isin(names)]
    genres = cards[names[0]]["genres"]
    scores = tables.cross_validated_scores(predictions, genres)
    values = {"repeats": scores["repeats"][0], "groups": scores["fewest groups"][0]}
    values |= {"card": cards[names[0]], "resamples": RESAMPLES, "random_seed": RANDOM_SEED}
    report.section("Cross-validation")
    report.text(render("cross_validation.md", **values))
    report.table("cross_validation_scores", scores, shown=False)
    for level, title in (("track", "Tracks (the main result):"), ("segment", "Segments of 15 s:")):
        report.table(f"cross_validation_{level}s", tables.summary_table(scores, level), title)

    rows = scores[scores["score"] == "balanced accuracy"]
    figure, ax = plt.subplots(figsize=(9, 1.2 + 0.45 * len(names)))
    plots.intervals(rows.assign(label=rows["run"], group=rows["level"] + "s"), ax=ax)
    ax.set(xlabel="Balanced accuracy, 95 % interval", xlim=(0, 1.02))
    report.figure("cross_validation", figure, "Balanced accuracy with its interval")

    if len(names) > 1:
        reference = _REFERENCE if _REFERENCE in names else scores["run"].iloc[-1]
        title = f"{escape(reference)} compared with each other model on the same tracks:"
        report.table("paired", tables.paired_table(predictions, genres, reference), title)
    add_transfer(report, predictions, genres)
    report.text("Confusion matrices of tracks, with counts over all repeats:")
    for run in names:
        tracks = aggregate_tracks(predictions[predictions["run"] == run], genres)
        matrix = confusion_matrix(tracks, genres).reset_index()
        report.table(f"cv_confusion_{run}", matrix, escape(run))
    title = "Calibration before and after scaling, with temperatures fitted on the other folds:"
    report.table("cv_calibration", tables.calibration_table(predictions, genres), title)


def add_transfer(report: Report, predictions: pd.DataFrame, genres: Sequence[str]) -> None:
    """Add the difference between pretrained and random weights, for models that have both."""
    runs = sorted(predictions["run"].unique())
    rows = []
    for run in [run for run in runs if run + _RANDOM in runs]:
        pair = predictions[predictions["run"].isin([run, run + _RANDOM])]
        names = {f"{run} minus": "minus", f"only {run} right": "only it right"}
        rows.append(tables.paired_table(pair, genres, run).rename(columns=names).assign(run=run))
    if rows:
        table = pd.concat(rows).set_index("run").reset_index()
        title = "Effect of pretraining: the same model, recipe and folds with random weights:"
        report.table("transfer", table, title)


def add_fine_tuning(report: Report, runs: Sequence[Run]) -> None:
    """Add the results that ``benchmarks/fine_tuning.py`` has written to the report's folder."""
    table = report.folder / "fine_tuning.md"
    if not table.is_file():
        return
    report.section("Training in stages")
    report.text(table.read_text(encoding="utf-8"))
    figure, ax = plt.subplots(figsize=(9, 3.8))
    plots.fine_tuning(pd.read_csv(report.folder / "fine_tuning_curves.csv"), ax=ax)
    report.figure("fine_tuning", figure, "Test F1 over training time")


def add_leak(report: Report, runs: Sequence[Run]) -> None:
    """Add the difference between validation and test for each way to hold out validation."""
    table = tables.leak_table(*_read_cross_validation(runs))
    if table.empty:
        return
    summary = tables.leak_summary(table)
    report.section("The leak")
    report.text(render("leak.md"))
    report.table("leak_scores", table, shown=False)
    report.table("leak", summary)
    figure, ax = plt.subplots(figsize=(9, 1 + 0.4 * len(summary)))
    plots.intervals(tables.leak_intervals(table), ax=ax).set(xlabel="Accuracy, 95 % interval")
    report.figure("leak", figure, "Accuracy over segments, on the validation and the test set")


def add_calibration(report: Report, runs: Sequence[Run]) -> None:
    """Add the calibration of each run, as a table and as reliability diagrams."""
    genres = runs[0].genres
    predictions = pd.concat([run.predictions.assign(run=run.name) for run in runs])
    report.section("Calibration")
    report.text(render("calibration.md"))
    report.table("calibration", tables.calibration_table(predictions, genres))
    rows = -(-len(runs) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(10, 2.9 * rows), squeeze=False)
    for ax in axes.flat[len(runs) :]:
        ax.remove()
    for ax, run in zip(axes.flat, runs, strict=False):
        test = run.predictions.query("split == 'test'")
        after = f"after (T = {run.temperature:.2f})"
        levels = {"before": test, after: calibrated(test, genres)}
        curves = {label: reliability(table, genres) for label, table in levels.items()}
        plots.reliability(curves, ax=ax).set_title(run.name, fontsize=8)
    report.figure("reliability", figure, "Reliability diagrams of test segments")


def add_robustness(report: Report, runs: Sequence[Run]) -> None:
    """Add the predictions that change under transformations, for the runs that were tested."""
    runs = [run for run in runs if (run.folder / ROBUSTNESS_FILE).is_file()]
    if not runs:
        return
    rates = flip_rates(runs)
    report.section("Robustness")
    report.text(render("robustness.md"))
    figure, ax = plt.subplots(figsize=(3.5 + 1.3 * len(runs), 7))
    plots.robustness(rates[rates["genre"] == ALL_GENRES], ax=ax)
    report.figure("robustness", figure, "Predictions that change, of all test tracks")
    report.table("robustness", join_header(flip_table(runs), ": "))


def add_audit(report: Report, runs: Sequence[Run]) -> None:
    """Add the tables that the audit of the corpus has written to the report's folder."""
    files = [report.folder / f"audit_{name}.md" for name in _AUDIT_TABLES]
    files = [file for file in files if file.is_file()]
    if files:
        report.section("Audit")
    for file in files:
        table = file.read_text(encoding="utf-8")
        empty = len(table.splitlines()) == 2  # header and rule
        report.section(file.stem.removeprefix("audit_").capitalize(), level=3)
        report.text("None." if empty else table)


def add_models(report: Report, runs: Sequence[Run]) -> None:
    """Add the training curves, the confusion matrix and the first layer of each run."""
    report.section("Models")
    for run in runs:
        report.section(run.name, level=3)
        figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
        plots.history(run.history, axes=axes)[0].set_title(run.name)
        report.figure(f"history_{run.name}", figure, "Training curves")

        matrix = confusion_matrix(run.predictions.query("split == 'test'"), run.genres)
        report.table(f"confusion_{run.name}", matrix.reset_index(), shown=False)
        side = 2.2 + 0.7 * len(run.genres)
        figure, ax = plt.subplots(figsize=(side + 0.8, side))
        plots.confusion(matrix, ax=ax)
        figure.suptitle(run.name, fontsize=10, wrap=True)
        report.figure(f"confusion_{run.name}", figure, "Confusion matrix of test segments")
        report.figure(f"first_layer_{run.name}", *first_layer_figure(run))


def add_examples(report: Report, runs: Sequence[Run]) -> None:
    """Add easy and hard test tracks, segment by segment."""
    report.section("Example tracks")
    for split_by, group in _group_by_split(runs).items():
        names = ", ".join(run.name for run in group)
        examples = example_track_ids(group[0]).items()
        for i, (kind, track_id) in enumerate(examples, start=1):
            name = f"{i}_{kind}_by_{split_by}"
            report.section(f"{kind.capitalize()} ({names})", level=3)
            report.table(f"example_{name}", segment_table(group, track_id))
            report.figure(f"taggram_{name}", *taggram_figure(group[0], track_id))


def add_details(report: Report, runs: Sequence[Run]) -> None:
    """Add the test tracks, the tracks with problems, and the versions of the packages."""
    report.section("Test tracks")
    for run in runs:
        report.section(run.name, level=3)
        tracks = aggregate_tracks(run.predictions.query("split == 'test'"), run.genres)
        report.table(f"tracks_{run.name}", tracks.drop(columns=["track_id"]).round(3))
    titles = {"left_out": "Left out:", "notes": "Used with a warning:"}
    problems = {key: [row for run in runs for row in run.card[key]] for key in titles}
    if any(problems.values()):
        report.section("Tracks left out, and tracks used with a warning")
    for key in filter(problems.get, titles):
        report.table(key, pd.DataFrame(problems[key]).drop_duplicates(), titles[key])
    rows = [{"run": run.name, **run.card, **run.card["versions"]} for run in runs]
    columns = ["run", "created", "machine", *dict.fromkeys(k for r in rows for k in r["versions"])]
    report.section("Versions")
    report.table("versions", pd.DataFrame(rows)[columns].fillna("–"))


#: All sections in their order. One that has nothing to show adds nothing.
SECTIONS = (
    add_overview,
    add_cross_validation,
    add_fine_tuning,
    add_leak,
    add_calibration,
    add_robustness,
    add_audit,
    add_excerpts,
    add_models,
    add_examples,
    add_details,
)
