"""The report on the trained models of a corpus: what it contains, in its order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from tqdm.auto import tqdm

from genrecls import plots
from genrecls._utils.paths import reports_dir
from genrecls.evaluation.runs import Run, read_runs
from genrecls.evaluation.scores import aggregate_tracks
from genrecls.evaluation.tables import comparison_table, score_table, split_table
from genrecls.report import sections
from genrecls.report.document import Report
from genrecls.report.markdown import join_header, render
from genrecls.report.model_card import count_tracks
from genrecls.report.sound_figures import add_excerpts


def write_report(corpus_name: str) -> Path:
    """Write the report on the trained models of a corpus, from saved tables alone.

    Every table is saved as CSV and Markdown, every figure as PNG and SVG, in
    ``reports/<corpus>/``. ``reports/report.html`` is a copy of the report that was written last.

    Parameters
    ----------
    corpus_name : str
        Name of the corpus, which is the name of its folder in ``models/``.

    Returns
    -------
    Path
        Path of ``report.html``, a single file that contains its figures. ``report.md`` beside it
        has the same content.

    Raises
    ------
    ModelError
        If the corpus has no trained models.
    CorpusError
        If the log-mels of an example track are not stored.
    """
    runs = read_runs(corpus_name)
    report = Report(f"Report on the corpus {corpus_name}", reports_dir() / corpus_name)
    with plt.rc_context():
        plots.style()
        for add_section in tqdm(SECTIONS, desc="report", unit="section"):
            add_section(report, runs)
    return report.save()


def _add_comparison(report: Report, runs: Sequence[Run]) -> None:
    if runs[0].synthetic:
        report.text(render("synthetic.md"))
    report.section("Comparison")
    report.table("comparison", comparison_table(runs))
    report.text(render("comparison.md"))


def _add_splits(report: Report, runs: Sequence[Run]) -> None:
    report.section("Splits")
    for split_by in dict.fromkeys(run.recipe.split_by for run in runs):
        run = next(run for run in runs if run.recipe.split_by == split_by)
        leaky = "" if split_by == "artist" else " (leaky)"
        title = f"Validation held out by {split_by}{leaky}:"
        report.table(f"split_by_{split_by}", join_header(split_table(run.segments)), title)


def _add_sources(report: Report, runs: Sequence[Run]) -> None:
    segments = runs[0].segments
    columns = [name for name in ("genre", "source", "licence") if name in segments]
    if "source" in columns:
        report.section("Sources")
        report.table("sources", count_tracks(segments, columns))


def _add_scores(report: Report, runs: Sequence[Run]) -> None:
    report.section("Scores")
    report.table("scores", score_table(runs))


def _add_test_tracks(report: Report, runs: Sequence[Run]) -> None:
    report.section("Test tracks")
    for run in runs:
        report.section(run.name, level=3)
        test = run.predictions.query("split == 'test'")
        tracks = aggregate_tracks(test, run.genres).drop(columns=["track_id"])
        report.table(f"tracks_{run.name}", tracks.round(3))


def _add_problem_tracks(report: Report, runs: Sequence[Run]) -> None:
    titles = {"left_out": "Left out:", "notes": "Used with a warning:"}
    rows = {key: [row for run in runs for row in run.card[key]] for key in titles}
    if any(rows.values()):
        report.section("Tracks left out, and tracks used with a warning")
    for key in filter(rows.get, titles):
        report.table(key, pd.DataFrame(rows[key]).drop_duplicates(), titles[key])


def _add_versions(report: Report, runs: Sequence[Run]) -> None:
    rows = [{"run": run.name, **run.card, **run.card["versions"]} for run in runs]
    columns = ["run", "created", "machine", *dict.fromkeys(k for r in rows for k in r["versions"])]
    report.section("Versions")
    report.table("versions", pd.DataFrame(rows)[columns].fillna("–"))


#: Functions that add a section each. One that has nothing to show adds nothing.
SECTIONS = (
    _add_comparison,
    _add_splits,
    _add_sources,
    _add_scores,
    sections.add_cross_validation,
    sections.add_fine_tuning,
    sections.add_leak,
    sections.add_calibration,
    sections.add_robustness,
    sections.add_audit,
    add_excerpts,
    sections.add_models,
    sections.add_examples,
    _add_test_tracks,
    _add_problem_tracks,
    _add_versions,
)
