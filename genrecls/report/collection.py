"""Section of the report on the collection, for a run with embeddings."""

from collections.abc import Callable, Sequence

import pandas as pd

from genrecls import inspection, plots
from genrecls.evaluation.runs import Run
from genrecls.evaluation.tables import example_track_ids
from genrecls.report.document import Report
from genrecls.report.markdown import render


def add_collection(report: Report, runs: Sequence[Run]) -> None:
    """Add a map, a learning curve, suspicious labels and the neighbours of a test segment."""
    embedded = [(run, x) for run in runs if (x := run.embeddings) is not None]
    if not embedded:
        return
    # The embedding that was trained on music is the best.
    run, x = max(embedded, key=lambda pair: pair[0].recipe.model == "musicnn")
    row = run.segments["track_id"].eq(example_track_ids(run)["hardest"]).to_numpy().argmax()
    nearest = inspection.nearest_segments(run, x[[row]], 10)
    labels, curve = inspection.find_suspicious_labels(run), inspection.learning_curve(run)
    report.section("The collection")
    report.text(render("collection.md", run=run, segment=run.segments.iloc[row]))
    _add(report, "embedding_map", inspection.embedding_map(run), plots.embedding_map)
    _add(report, "learning_curve", curve, plots.learning_curve)
    _add(report, "suspicious_labels", labels, plots.ranking, "probability")
    _add(report, "nearest_segments", nearest, plots.ranking, "similarity")


def _add(report: Report, name: str, table: pd.DataFrame, draw: Callable, *columns: str) -> None:
    report.table(name, table, shown=False)
    report.figure(name, draw(table, *columns).figure, name.replace("_", " ").capitalize())
