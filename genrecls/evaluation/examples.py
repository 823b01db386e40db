"""Segment-by-segment tables of example tracks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from genrecls.evaluation.runs import Run
from genrecls.evaluation.scores import aggregate_tracks


def example_track_ids(run: Run) -> dict[str, str]:
    """Choose test tracks that are easy and hard for a run.

    Parameters
    ----------
    run : Run
        The run whose probabilities of the true genre decide.

    Returns
    -------
    dict of str to str
        ``track_id`` of each kind: ``easy <genre>``, ``hard`` and ``hardest``, as far as there are
        enough tracks.
    """
    tracks = aggregate_tracks(run.predictions.query("split == 'test'"), run.genres)
    tracks["true_prob"] = [row[f"prob_{row['genre']}"] for row in tracks.to_dict("records")]
    tracks = tracks.sort_values("true_prob", kind="stable")
    easy = tracks[2:].groupby("genre")["track_id"].last().to_dict()
    hard = list(zip(("hardest", "hard"), tracks["track_id"], strict=False))
    return {f"easy {genre}": track_id for genre, track_id in easy.items()} | dict(hard[::-1])


def segment_table(runs: Sequence[Run], track_id: str) -> pd.DataFrame:
    """Tabulate the predictions of several runs on every segment of a test track.

    Parameters
    ----------
    runs : sequence of Run
        Only the first gives probabilities, as in the original.
    track_id : str
        A test track, such as one of :func:`example_track_ids`.

    Returns
    -------
    pd.DataFrame
        The original's columns: ``songname`` (``<file name>_<part>``), ``genre``, ``y_test`` (index
        of the genre), ``part``, ``y_<run>`` (predicted index) and ``<genre>_prob``.
    """
    chosen = f"split == 'test' and track_id == {track_id!r}"
    tables = [run.predictions.query(chosen).set_index("segment").sort_index() for run in runs]
    first, genres = tables[0], runs[0].genres
    table = first[["genre"]].assign(y_test=first["genre"].map(genres.index), part=first.index)
    names = first["path"].str.rsplit("/", n=1).str[-1]
    table.insert(0, "songname", names + "_" + first.index.astype(str))
    for run, other in zip(runs, tables, strict=True):
        table[f"y_{run.name}"] = other["predicted"].map(run.genres.index)
    for genre in genres:
        table[f"{genre}_prob"] = first[f"prob_{genre}"].round(2)
    return table.reset_index(drop=True)
