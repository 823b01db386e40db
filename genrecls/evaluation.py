"""Saved predictions to numbers and tables. Needs neither a model nor audio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .bundle import GenreClassifier, probability_columns


def track_verdicts(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """One row a track: the mean of its pieces' probabilities and the genre where it is highest.

    Parameters
    ----------
    predictions : pd.DataFrame
        The predictions table of one model.
    genres : sequence of str
        In the order of the classes.

    Returns
    -------
    pd.DataFrame
        ``track_id, path, title, artist, genre, pieces, wrong_pieces, prob_<genre>...,
        predicted``.
    """
    columns = probability_columns(genres)
    by = predictions.assign(wrong=predictions["predicted"] != predictions["genre"]).groupby(
        ["track_id", "path", "title", "artist", "genre"], sort=False
    )
    verdicts = by[columns].mean()
    verdicts.insert(0, "pieces", by.size())
    verdicts.insert(1, "wrong_pieces", by["wrong"].sum())
    verdicts["predicted"] = np.array(genres)[verdicts[columns].to_numpy().argmax(axis=1)]
    return verdicts.reset_index()


def accuracy(table: pd.DataFrame) -> float:
    """Share of the rows (pieces or tracks) whose ``predicted`` is their ``genre``."""
    return float((table["predicted"] == table["genre"]).mean())


def f1_scores(table: pd.DataFrame, genres: Sequence[str]) -> dict[str, float]:
    """F1 of every genre, and their unweighted mean as ``macro``.

    A genre that is neither present nor predicted has an F1 of 0.
    """
    from sklearn.metrics import f1_score

    scores = f1_score(
        table["genre"], table["predicted"], labels=list(genres), average=None, zero_division=0
    )
    return {**dict(zip(genres, scores.tolist(), strict=True)), "macro": float(scores.mean())}


def confusion_matrix(table: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Counts: one row a true genre, one column a predicted one."""
    from sklearn.metrics import confusion_matrix as count

    counts = count(table["genre"], table["predicted"], labels=list(genres))
    return pd.DataFrame(counts, pd.Index(genres, name="genre"), pd.Index(genres, name="predicted"))


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927): what ``right`` of ``n`` tell at best.

    At best, because tracks of one artist are not independent either.
    """
    z = 1.959964
    centre = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * (right * (n - right) / n + z * z / 4) ** 0.5
    return max(centre - half, 0.0), min(centre + half, 1.0)


def comparison_table(runs: Sequence[GenreClassifier]) -> pd.DataFrame:
    """One row a run: the original's columns first, then what one must know to read them.

    The first row is no model: it always says the commonest genre of the training pieces.

    ``test F1`` is the macro F1 over test pieces; ``test tracks right`` counts track verdicts and
    ``95 % interval`` is the Wilson interval of their share; ``validation split`` says how
    validation was held out, and ``leaky`` marks that pieces of one track stood on both sides;
    ``inference (ms/piece)`` is the median time from log-mel to probabilities, one piece at a
    time, on the machine that trained the run.
    """
    return pd.DataFrame([_majority_row(runs[-1]), *map(_comparison_row, runs)])


def _majority_row(run: GenreClassifier) -> dict:
    """What always saying the commonest training genre would get, under the split of a run."""
    segments = run.segments
    commonest = segments.loc[segments["split"] == "train", "genre"].value_counts().idxmax()
    said = segments.assign(predicted=commonest)
    for genre, column in zip(run.genres, probability_columns(run.genres), strict=True):
        said[column] = float(genre == commonest)
    nothing = {"architecture": f"always {commonest}", "parameters": 0, "training_time_s": 0.0}
    validation = accuracy(said[said["split"] == "validation"])
    card = nothing | {"validation_accuracy": validation, "inference_ms_per_piece": 0.0}
    return _scores(said[said["split"] == "test"], run.genres, card, by="artist") | {
        "weights": "–", "trunk": "–", "run": "–"
    }  # fmt: skip


def _comparison_row(run: GenreClassifier) -> dict:
    test = run.predictions.query("split == 'test'")
    trunk = "–" if run.card["architecture"] == "cnn" else run.recipe.trunk
    scores = _scores(test, run.genres, run.card, by=run.recipe.split)
    return scores | {"weights": run.card["weights"], "trunk": trunk, "run": run.name}


def _scores(test: pd.DataFrame, genres: Sequence[str], card: dict, *, by: str) -> dict:
    tracks = track_verdicts(test, genres)
    right = int((tracks["predicted"] == tracks["genre"]).sum())
    return {
        "architecture": card["architecture"],
        "parameters": card["parameters"],
        "training time (s)": round(card["training_time_s"], 1),
        "validation accuracy": round(card["validation_accuracy"], 3),
        "test F1": round(f1_scores(test, genres)["macro"], 3),
        "test tracks right": f"{right} of {len(tracks)}",
        "95 % interval": "{:.2f}–{:.2f}".format(*wilson_interval(right, len(tracks))),
        "validation split": f"by {by}" + (" (leaky)" if by == "piece" else ""),
        "test accuracy": round(accuracy(test), 3),
        "test pieces": len(test),
        "inference (ms/piece)": round(card["inference_ms_per_piece"], 1),
    }


def score_table(runs: Sequence[GenreClassifier]) -> pd.DataFrame:
    """One row a run and split: number of pieces, accuracy, F1 per genre and macro."""
    rows = []
    for run in runs:
        for split, part in run.predictions.groupby("split", sort=False):
            f1 = {f"F1 {name}": round(f, 3) for name, f in f1_scores(part, run.genres).items()}
            rows.append(
                {"run": run.name, "split": split, "pieces": len(part)}
                | {"accuracy": round(accuracy(part), 3)}
                | f1
            )
    return pd.DataFrame(rows)


def example_tracks(runs: Sequence[GenreClassifier]) -> dict[str, pd.DataFrame]:
    """The original's tables of every piece of four test tracks.

    Parameters
    ----------
    runs : sequence of GenreClassifier
        The first gives the probabilities, as in the original; all give predictions.

    Returns
    -------
    dict of str to pd.DataFrame
        Key: ``easy <genre>`` (most probable for the first run), ``hard`` and ``hardest`` (the
        true genre least probable), as far as there are tracks for it. Rows: ``songname`` (as in
        the original, ``<file name>_<part>``), ``genre, y_test, part``, a prediction per run, and
        the first run's probability per genre.
    """
    first = runs[0]
    test = first.predictions.query("split == 'test'")
    verdicts = track_verdicts(test, first.genres)
    verdicts["true_prob"] = [row[f"prob_{row['genre']}"] for row in verdicts.to_dict("records")]
    verdicts = verdicts.sort_values("true_prob", kind="stable")
    chosen = dict(zip(("hardest", "hard"), verdicts["track_id"], strict=False))
    for genre in first.genres:
        of_genre = verdicts[(verdicts["genre"] == genre) & ~verdicts["track_id"].isin(
            list(chosen.values()))]  # fmt: skip
        if len(of_genre):
            chosen[f"easy {genre}"] = of_genre["track_id"].iloc[-1]
    easy_first = sorted(chosen, key=lambda kind: (not kind.startswith("easy"), kind))
    return {kind: _piece_table(runs, chosen[kind]) for kind in easy_first}


def _piece_table(runs: Sequence[GenreClassifier], track_id: str) -> pd.DataFrame:
    first = runs[0]
    pieces = first.predictions.query("split == 'test' and track_id == @track_id")
    pieces = pieces.sort_values("segment")
    names = pieces["path"].str.rsplit("/", n=1).str[-1]
    table = pd.DataFrame(
        {
            "songname": names + "_" + pieces["segment"].astype(str),
            "genre": pieces["genre"],
            "y_test": pieces["genre"].map(first.genres.index),
            "part": pieces["segment"],
        }
    ).reset_index(drop=True)
    for run in runs:
        other = run.predictions.query("split == 'test' and track_id == @track_id")
        predicted = other.set_index("segment")["predicted"].map(run.genres.index)
        table[f"y_{run.name}"] = predicted.reindex(table["part"]).to_numpy()
    for genre in first.genres:
        table[f"{genre}_prob"] = pieces[f"prob_{genre}"].round(2).to_numpy()
    return table
