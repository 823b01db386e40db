"""The model card of a trained run: its purpose, its data, its scores and its limits.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, DOI 10.1145/3287560.3287596.
"""

import pandas as pd

from genrecls._utils.io import write_atomically
from genrecls.evaluation.intervals import format_interval, score_intervals
from genrecls.evaluation.novelty import NONE_OF_THESE, NOT_SURE
from genrecls.evaluation.runs import Run, describe_groups, name_groups
from genrecls.evaluation.scores import aggregate_tracks, confusion_matrix
from genrecls.evaluation.tables import split_table
from genrecls.report.markdown import render

#: Name of the model card in the folder of a run.
MODEL_CARD_FILE = "README.md"
# The scores in the header of a card, and their names on the Hugging Face Hub.
_METRICS = {"balanced accuracy": "balanced_accuracy", "macro F1": "f1", "accuracy": "accuracy"}


def write_model_card(run: Run) -> None:
    """Write the model card of a run to its folder, as ``README.md``; no model is needed."""
    text = model_card(run)
    write_atomically(run.folder / MODEL_CARD_FILE, lambda file: file.write(text.encode()))


def model_card(run: Run) -> str:
    """Return the model card of a run in Markdown."""
    segments, test = run.segments, run.predictions.query("split == 'test'")
    tracks = aggregate_tracks(test, run.genres)
    labels = run.label_tracks(test)["label"]
    stated = next((name for name in ("licence", "source") if name in segments), None)
    levels = {f"tracks ({len(tracks)})": tracks, f"segments ({len(test)})": test}
    intervals = {name: score_intervals(table, run.genres) for name, table in levels.items()}
    scores = {
        name: table.apply(lambda row: format_interval(*row), axis=1)
        for name, table in intervals.items()
    }
    return render(
        "model_card.md",
        run=run,
        split_table=split_table(segments).reset_index(),
        unit=name_groups(segments),
        unknown=describe_groups(segments),
        sources=stated and count_tracks(segments, ["genre", stated]),
        scores=pd.DataFrame(scores).reset_index(names="score"),
        tracks=tracks,
        counts={label: int((labels == label).sum()) for label in (NOT_SURE, NONE_OF_THESE)},
        correct=int((labels == tracks["genre"]).sum()),
        confusion=confusion_matrix(tracks, run.genres).reset_index(),
        groups=test.groupby("genre")["group"].nunique(),
        metrics=_METRICS,
        measured=next(iter(intervals.values())).loc[list(_METRICS)].dropna(),
    )


def count_tracks(segments: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Count the tracks for each combination of values in some columns."""
    tracks = segments.drop_duplicates("track_id")
    return tracks.groupby(columns, sort=False).size().reset_index(name="tracks")
