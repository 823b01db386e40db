"""Sections of the report: each function adds one, or nothing if it has nothing to show."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genrecls import plots
from genrecls.corpus.confounds import HIGH_AUC
from genrecls.errors import ModelError
from genrecls.evaluation import tables
from genrecls.evaluation.calibration import calibrated, reliability
from genrecls.evaluation.intervals import RANDOM_SEED, RESAMPLES, format_interval, score_intervals
from genrecls.evaluation.robustness import ALL_GENRES, flip_rates, flip_table, tested_runs
from genrecls.evaluation.runs import (
    Run,
    best_run,
    describe_groups,
    describe_test_tracks,
    name_groups,
    read_predictions,
)
from genrecls.evaluation.scores import aggregate_tracks, confusion_matrix
from genrecls.features.image import to_image
from genrecls.features.stored import stored_log_mels
from genrecls.plots.sound import track
from genrecls.report.collection import add_collection
from genrecls.report.document import Report, read_table
from genrecls.report.markdown import escape, render
from genrecls.report.model_card import count_tracks

# Tables of the audit that the report shows.
_AUDIT_TABLES = ("confounds", "genres", "duplicates", "problems")

# End of the name of a run with random weights where the usual ones are pretrained.
_RANDOM = "-weights-random"

# The run that the others are compared with, if it was cross-validated; the model to start with.
_REFERENCE = "musicnn-default"

# Largest number of channels to show: as many as the original's CNN has.
_CHANNELS = 10


def _panels(n: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Make a figure with n axes in rows of a height in inches."""
    rows = -(-n // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False)
    for ax in axes.flat[n:]:
        ax.remove()
    return figure, list(axes.flat[:n])


def add_summary(report: Report, runs: Sequence[Run]) -> None:
    """Add what a reader must know: which model, how good, how sure, what to beware of."""
    run = best_run(runs)
    predictions, cards = _read_cross_validation(runs)
    card = cards.get(run.name, {})
    is_tested = card.get("corpus_hash") == run.card["corpus_hash"]
    test = run.predictions.query("split == 'test'")
    tracks = run.label_tracks(test).set_index("genre", drop=False)
    right = tracks["predicted"] == tracks["genre"]
    values = {
        "run": run,
        "runs": runs,
        "right": right,
        "score": _balanced_accuracy(test, run),
        "tested": is_tested and _balanced_accuracy(predictions.query("run == @run.name"), run),
        "confident": tracks[tracks["label"] == tracks["predicted"]],
        "weakest": right.groupby(level=0).mean().idxmin(),
        "caveats": _find_caveats(report, run, test),
    }
    report.section("Summary")
    report.text(render("summary.md", **values))


def _balanced_accuracy(segments: pd.DataFrame, run: Run) -> str:
    tracks = aggregate_tracks(segments, run.genres)
    return format_interval(*score_intervals(tracks, run.genres, auc=False).iloc[0])


def _find_caveats(report: Report, run: Run, test: pd.DataFrame) -> list[str]:
    """List reasons to distrust the scores of a run."""
    groups = test.groupby("genre")["group"].nunique()
    plural = "s" if groups.min() > 1 else ""
    unit = f"{name_groups(test)}{plural}"
    caveats = [f"the test has {groups.min()} {unit} in the genre {groups.idxmin()}"]
    if not run.above_chance:
        n = run.n_validation_tracks
        caveats.append(f"the model is no better than chance on its {n} validation tracks")
    if run.synthetic:
        caveats.append("the music is synthetic")
    if unknown := describe_groups(run.segments):
        caveats.append(unknown[0].lower() + unknown[1:-1])
    file = report.folder / "audit_confounds.csv"
    if file.is_file() and _is_audited(report, run):
        name, auc = read_table(file)[["confound", "auc alone"]].iloc[0]
        if auc >= HIGH_AUC:
            caveats.append(f"{name} alone predicts the genre with an AUC of {auc:.2f}")
    if tested_runs([run]):
        rates = flip_rates([run]).query("genre == @ALL_GENRES")
        worst = rates.sort_values("flips", ascending=False, kind="stable").iloc[0]
        changed = f"{worst['flips']} of {worst['n']} predictions"
        if worst["flips"]:
            caveats.append(f"{changed} change with the transformation {worst['transformation']}")
    return caveats


def _is_audited(report: Report, run: Run) -> bool:
    """Check whether the saved audit is of the corpus of a run."""
    try:
        saved = json.loads((report.folder / "audit.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is missing or damaged
        return False
    return saved.get("corpus_hash") == run.card["corpus_hash"]


def add_overview(report: Report, runs: Sequence[Run]) -> None:
    """Add the comparison of all runs, their splits, sources and scores."""
    segments = runs[0].segments
    if runs[0].synthetic:
        report.text(render("synthetic.md"))
    report.section("Comparison")
    report.table("comparison", tables.comparison_table(runs))
    report.text(render("comparison.md"))
    if different := describe_test_tracks(runs):
        report.text(escape(different))
    report.section("Splits")
    if unknown := describe_groups(segments):
        report.text(unknown)
    for split_by, run in {run.recipe.split_by: run for run in runs}.items():
        leaky = "" if split_by == "artist" else " (leaky)"
        title = f"Validation held out by {run.held_out_by}{leaky}:"
        table = tables.split_table(run.segments).reset_index()
        report.table(f"split_by_{split_by}", table, title)
    if "source" in segments:
        report.section("Sources")
        columns = [name for name in ("genre", "source", "licence") if name in segments]
        report.table("sources", count_tracks(segments, columns))
    report.section("Scores")
    report.table("scores", tables.score_table(runs), keys=2)


def _read_cross_validation(runs: Sequence[Run]) -> tuple[pd.DataFrame, dict[str, dict]]:
    try:
        return read_predictions(runs[0].folder.parent.name)
    except ModelError:  # no model has been cross-validated
        return pd.DataFrame(), {}


def add_cross_validation(report: Report, runs: Sequence[Run]) -> None:
    """Add the scores of cross-validated models, with their intervals and differences."""
    predictions, cards = _read_cross_validation(runs)
    names = [name for name, card in cards.items() if card["split_by"] is None]
    if not names:
        return
    predictions = predictions[predictions["run"].isin(names)]
    genres = cards[names[0]]["genres"]
    scores = tables.cross_validated_scores(predictions, genres)
    values = {
        "folds": sorted({cards[name]["folds_used"] for name in names}),
        "fewer_folds": any(cards[name]["folds_used"] < cards[name]["folds"] for name in names),
        "same_corpus": cards[names[0]]["corpus_hash"] == runs[0].card["corpus_hash"],
        "repeats": sorted(scores["repeats"].unique()),
        "groups": scores["fewest groups"][0],
        "unit": name_groups(predictions),
        "unknown": describe_groups(predictions),
        "resamples": RESAMPLES,
        "random_seed": RANDOM_SEED,
    }
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
    best = scores["run"].iloc[-1]
    for run in names:
        tracks = aggregate_tracks(predictions[predictions["run"] == run], genres)
        matrix = confusion_matrix(tracks, genres).reset_index()
        title = f"Confusion matrix of tracks, with counts over all repeats, of {escape(run)}:"
        report.table(f"cv_confusion_{run}", matrix, title, shown=run == best)
    title = "Calibration before and after scaling, with temperatures fitted on the other folds:"
    report.table("cv_calibration", tables.calibration_table(predictions, genres), title, keys=2)


def add_transfer(report: Report, predictions: pd.DataFrame, genres: Sequence[str]) -> None:
    """Add the difference between pretrained and random weights, for models that have both."""
    runs = sorted(predictions["run"].unique())
    rows = []
    for run in [run for run in runs if run + _RANDOM in runs]:
        pair = predictions[predictions["run"].isin([run, run + _RANDOM])]
        names = {f"{run} minus": "minus", f"only {run} right": "only it right"}
        rows.append(tables.paired_table(pair, genres, run).rename(columns=names).assign(run=run))
    if rows:
        table = pd.concat(rows).set_index(["run", "minus"]).reset_index()
        title = "Effect of pretraining: the same model, recipe and folds with random weights:"
        report.table("transfer", table, title, keys=2)


def add_leak(report: Report, runs: Sequence[Run]) -> None:
    """Add the difference between validation and test for each way to hold out validation."""
    table = tables.leak_table(*_read_cross_validation(runs))
    if table.empty:
        return
    summary = tables.leak_summary(table)
    report.section("The leak")
    unit = name_groups(runs[0].segments)
    report.text(render("leak.md", unit=unit))
    report.table("leak_scores", table, shown=False)
    report.table("leak", summary, keys=2)
    figure, ax = plt.subplots(figsize=(9, 1 + 0.4 * len(summary)))
    ax = plots.intervals(tables.leak_intervals(table), ax=ax)
    ax.set(xlabel="Balanced accuracy over segments, 95 % interval")
    report.figure("leak", figure, "Balanced accuracy on the validation and the test set")


def add_calibration(report: Report, runs: Sequence[Run]) -> None:
    """Add the calibration of each run, as a table and as reliability diagrams."""
    genres = runs[0].genres
    predictions = pd.concat([run.predictions.assign(run=run.name) for run in runs])
    report.section("Calibration")
    report.text(render("calibration.md"))
    report.table("calibration", tables.calibration_table(predictions, genres), keys=2)
    report.table("labels", tables.label_table(runs), "Labels of test tracks:")
    figure, axes = _panels(len(runs), 3, 10, 2.9)
    for ax, run in zip(axes, runs, strict=True):
        test = run.predictions.query("split == 'test'")
        after = f"after (T = {run.temperature:.2f})"
        levels = {"before": test, after: calibrated(test, genres)}
        curves = {label: reliability(table, genres) for label, table in levels.items()}
        plots.reliability(curves, ax=ax).set_title(run.name, fontsize=8)
    report.figure("reliability", figure, "Reliability diagrams of test segments")


def add_robustness(report: Report, runs: Sequence[Run]) -> None:
    """Add the predictions that change under transformations, for the runs that were tested."""
    tested = tested_runs(runs)
    if not tested:
        return
    rates = flip_rates(tested)
    report.section("Robustness")
    report.text(render("robustness.md", missing=[run.name for run in runs if run not in tested]))
    figure, ax = plt.subplots(figsize=(3.5 + 1.3 * len(tested), 7))
    plots.robustness(rates[rates["genre"] == ALL_GENRES], ax=ax)
    report.figure("robustness", figure, "Predictions that change, of all test tracks")
    report.table("robustness", flip_table(tested), keys=2)


def add_audit(report: Report, runs: Sequence[Run]) -> None:
    """Add the tables that the audit of the corpus has written to the report's folder."""
    files = [report.folder / f"audit_{name}.csv" for name in _AUDIT_TABLES]
    files = [file for file in files if file.is_file()]
    if files:
        report.section("Audit")
    if files and not _is_audited(report, runs[0]):
        report.text(
            "The saved audit does not match the corpus that the models were trained on, or an "
            "earlier version has written it. Run `genrecls audit` again."
        )
        return
    for file in files:
        report.section(file.stem.removeprefix("audit_").capitalize(), level=3)
        report.table(file.stem, read_table(file))


def add_spectrograms(report: Report, runs: Sequence[Run]) -> None:
    """Add the spectrogram of a training track of each genre."""
    run = best_run(runs)
    tracks = run.segments.query("split == 'train'").groupby("genre").first()
    report.section("Looking at the sound")
    figure, axes = _panels(len(tracks), 2, 12, 3.2)
    for ax, (genre, row) in zip(axes, tracks.iterrows(), strict=True):
        # Many tracks begin quietly.
        second = stored_log_mels(run.front_end, row["sha256"])[:2][-1]
        plots.log_mel(second, run.front_end, ax=ax)
        ax.set_title(f"{genre}: {Path(row['path']).stem}"[:70])
    caption = f"Log-mel spectrogram of {run.front_end.segment_s:g} s of each genre"
    report.figure("images", figure, caption)


def add_models(report: Report, runs: Sequence[Run]) -> None:
    """Add the training curves, the confusion matrix and the first layer of each run."""
    report.section("Models")
    for run in runs:
        report.section(run.name, level=3)
        if len(run.history) > 1:  # a logistic regression has no curve
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
        add_first_layer(report, run)


def add_first_layer(report: Report, run: Run) -> None:
    """Add a segment and the outputs of the first convolution."""
    segment, maps = run.first_layer
    if not len(maps):  # the model has no convolution
        return
    image = to_image(segment["log_mel"], run.front_end)
    figure = plots.first_layer(image, maps[:_CHANNELS], run.front_end, columns=5)
    figure.axes[0].set_title(f"{run.name}: {segment['path']}, segment {segment['segment']}")
    shown = f"the first {_CHANNELS}" if len(maps) > _CHANNELS else len(maps)
    caption = f"A segment, and the outputs of the first convolution: {shown} channels"
    report.figure(f"first_layer_{run.name}", figure, caption)


def add_examples(report: Report, runs: Sequence[Run]) -> None:
    """Add test tracks that are easy and hard for the best run, segment by segment."""
    best = best_run(runs)
    report.section("Example tracks")
    report.text(f"They are easy or hard for {escape(best.name)}, whose probabilities are shown.")
    ordered = [best, *(run for run in runs if run is not best)]
    for i, (kind, track_id) in enumerate(tables.example_track_ids(best).items(), start=1):
        report.section(kind.capitalize(), level=3)
        report.table(f"example_{i}_{kind}", tables.segment_table(ordered, track_id), keys=2)
        add_taggram(report, f"{i}_{kind}", best, track_id)


def add_taggram(report: Report, name: str, run: Run, track_id: str) -> None:
    """Add the probabilities of a test track over time."""
    rows = run.predictions.query("split == 'test' and track_id == @track_id")
    segments = calibrated(rows, run.genres).sort_values("segment")
    path, genre, sha256 = segments.iloc[0][["path", "genre", "sha256"]]
    log_mels = stored_log_mels(run.front_end, sha256)
    title = f"{Path(path).name}, {genre}: {run.name}"
    figure = track(segments, log_mels, run.front_end, title=title)
    caption = f"Calibrated probability of each genre, above the mel spectrogram: {run.name}"
    report.figure(f"taggram_{name}", figure, caption)


def add_details(report: Report, runs: Sequence[Run]) -> None:
    """Add the test tracks, the tracks with problems, and the versions of the packages."""
    best = best_run(runs)
    report.section("Test tracks")
    for run in runs:
        tracks = run.label_tracks(run.predictions.query("split == 'test'"))
        tracks = tracks.drop(columns=["track_id", "title", "artist", "group"], errors="ignore")
        report.table(f"tracks_{run.name}", tracks.round(3), escape(run.name), shown=run is best)
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
    add_summary,
    add_overview,
    add_cross_validation,
    add_leak,
    add_calibration,
    add_robustness,
    add_audit,
    add_spectrograms,
    add_collection,
    add_models,
    add_examples,
    add_details,
)
