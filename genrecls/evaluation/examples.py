"""Segment-by-segment tables of example tracks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from genrecls.evaluation.runs import Run
from genrecls.evaluation.scores import aggregate_tracks


def example_tracks(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """The original's tables of every segment of four test tracks.

    Parameters
    ----------
    runs : sequence of Run
        The first gives the probabilities, as in the original; all give predictions.

    Returns
    -------
    dict of str to pd.DataFrame
        Key: ``easy <genre>`` (most probable for the first run), ``hard`` and ``hardest`` (the
        true genre least probable), as far as there are tracks for it. Rows: ``songname`` (as in
        the original, ``<file name>_<part>``), ``genre, y_test, part``, a prediction per run, and
        the first run's probability per genre.
    """
    return {kind: segment_table(runs, track) for kind, track in example_track_ids(runs[0]).items()}


def example_track_ids(run: Run) -> dict[str, str]:
    """Which test tracks are easy, hard and hardest for a run. See :func:`example_tracks`."""
    test = run.predictions.query("split == 'test'")
    by_track = aggregate_tracks(test, run.genres)
    by_track["true_prob"] = [row[f"prob_{row['genre']}"] for row in by_track.to_dict("records")]
    by_track = by_track.sort_values("true_prob", kind="stable")
    chosen = dict(zip(("hardest", "hard"), by_track["track_id"], strict=False))
    for genre in run.genres:
        of_genre = by_track[(by_track["genre"] == genre) & ~by_track["track_id"].isin(
            list(chosen.values()))]  # fmt: skip
        if len(of_genre):
            chosen[f"easy {genre}"] = of_genre["track_id"].iloc[-1]
    easy_first = sorted(chosen, key=lambda kind: (not kind.startswith("easy"), kind))
    return {kind: chosen[kind] for kind in easy_first}


def segment_table(runs: Sequence[Run], track_id: str) -> pd.DataFrame:
    """Every segment of a test track, as in :func:`example_tracks`."""
    first = runs[0]
    segments = first.predictions.query("split == 'test' and track_id == @track_id")
    segments = segments.sort_values("segment")
    names = segments["path"].str.rsplit("/", n=1).str[-1]
    table = pd.DataFrame(
        {
            "songname": names + "_" + segments["segment"].astype(str),
            "genre": segments["genre"],
            "y_test": segments["genre"].map(first.genres.index),
            "part": segments["segment"],
        }
    ).reset_index(drop=True)
    for run in runs:
        other = run.predictions.query("split == 'test' and track_id == @track_id")
        predicted = other.set_index("segment")["predicted"].map(run.genres.index)
        table[f"y_{run.name}"] = predicted.reindex(table["part"]).to_numpy()
    for genre in first.genres:
        table[f"{genre}_prob"] = segments[f"prob_{genre}"].round(2).to_numpy()
    return table
