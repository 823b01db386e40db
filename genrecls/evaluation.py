"""Saved predictions to numbers and tables. Needs neither a model nor audio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .bundle import GenreClassifier
from .calibration import probability_columns
from .config import TRANSFERRED
from .intervals import (
    LOSSES,
    mcnemar,
    paired_difference,
    score_intervals,
    scores,
    wilson_interval,
)


def track_verdicts(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """One row a track: the mean of its pieces' probabilities and the genre where it is highest.

    Parameters
    ----------
    predictions : pd.DataFrame
        The predictions table of one model; of a cross-validation, with ``repeat``.
    genres : sequence of str
        In the order of the classes.

    Returns
    -------
    pd.DataFrame
        ``track_id, path, title, artist, genre, group`` (and ``repeat``), ``temperature`` (that of
        tracks, where there is one), ``pieces,
        wrong_pieces, prob_<genre>..., predicted``. The probabilities are not calibrated.
    """
    columns = probability_columns(genres)
    keys = "track_id path title artist genre group repeat fold track_temperature".split()
    by = predictions.assign(wrong=predictions["predicted"] != predictions["genre"]).groupby(
        [key for key in keys if key in predictions], sort=False
    )
    verdicts = by[columns].mean()
    verdicts.insert(0, "pieces", by.size())
    verdicts.insert(1, "wrong_pieces", by["wrong"].sum())
    verdicts["predicted"] = np.array(genres)[verdicts[columns].to_numpy().argmax(axis=1)]
    return verdicts.reset_index().rename(columns={"track_temperature": "temperature"})


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


def comparison_table(runs: Sequence[GenreClassifier]) -> pd.DataFrame:
    """One row a run: the original's columns first, then what one must know to read them.

    The first row is no model: it always says the commonest genre of the training pieces.

    ``test F1`` is the macro F1 over test pieces, ``F1 interval`` that of a bootstrap over groups;
    ``test tracks right`` counts track verdicts and ``share interval`` is the Wilson interval of
    their share (95 % both); ``validation split`` says how validation was held out, and ``leaky``
    marks that tracks or artists stood on both sides;
    ``inference (ms/piece)`` is the median time from log-mel to probabilities, one piece at a
    time, on the machine that trained the run.

    Examples
    --------
    >>> import genrecls
    >>> run = genrecls.GenreClassifier.load("models/music/compact_cnn-default")
    >>> genrecls.comparison_table([run])["architecture"].tolist()
    ['always classique', 'compact_cnn']
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
    scores = _scores(test, run.genres, run.card, by=run.recipe.split)
    return scores | {"weights": run.card["weights"], "trunk": _trunk(run), "run": run.name}


def _trunk(run: GenreClassifier) -> str:
    """What became of the trunk; a second stage that made it worse has been undone."""
    if run.recipe.model not in TRANSFERRED:
        return "–"
    if run.recipe.trunk == "trained":
        return "trained"
    stage = run.history.set_index("epoch").loc[run.card["best_epoch"], "stage"]
    return "fine-tuned" if stage == 2 else "frozen"


def _scores(test: pd.DataFrame, genres: Sequence[str], card: dict, *, by: str) -> dict:
    tracks = track_verdicts(test, genres)
    right = int((tracks["predicted"] == tracks["genre"]).sum())
    f1 = score_intervals(test, genres, auc=False).loc["macro F1"]
    return {
        "architecture": card["architecture"],
        "parameters": card["parameters"],
        "training time (s)": round(card["training_time_s"], 1),
        "validation accuracy": round(card["validation_accuracy"], 3),
        "test F1": round(f1["value"], 3),
        "F1 interval": f"{f1['low']:.2f}–{f1['high']:.2f}",
        "test tracks right": f"{right} of {len(tracks)}",
        "share interval": "{:.2f}–{:.2f}".format(*wilson_interval(right, len(tracks))),
        "validation split": f"by {by}" + ("" if by == "artist" else " (leaky)"),
        "test accuracy": round(accuracy(test), 3),
        "test groups": test["group"].nunique(),
        "test pieces": len(test),
        "inference (ms/piece)": round(card["inference_ms_per_piece"], 1),
    }


def score_table(runs: Sequence[GenreClassifier]) -> pd.DataFrame:
    """One row a run and split: sizes, and scores of pieces with their intervals over groups."""
    rows = []
    for run in runs:
        leaky = "" if run.recipe.split == "artist" else " (leaky)"
        for split, part in run.predictions.groupby("split", sort=False):
            found = score_intervals(part, run.genres).drop(list(LOSSES))
            name = f"{split}{leaky}" if split == "validation" else split
            values = {score: _value(*row) for score, row in zip(found.index, found.to_numpy(),
                                                                 strict=True)}  # fmt: skip
            f1 = {f"F1 {genre}": round(f, 3) for genre, f in f1_scores(part, run.genres).items()
                  if genre != "macro"}  # fmt: skip
            rows.append({"run": run.name, "split": name} | _sizes(part) | values | f1)
    return pd.DataFrame(rows)


def _sizes(pieces: pd.DataFrame) -> dict[str, int]:
    return {
        "groups": pieces["group"].nunique(),
        "tracks": pieces["track_id"].nunique(),
        "pieces": len(pieces[["track_id", "segment"]].drop_duplicates()),
    }


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
    return {kind: piece_table(runs, track) for kind, track in example_track_ids(runs[0]).items()}


def example_track_ids(run: GenreClassifier) -> dict[str, str]:
    """Which test tracks are easy, hard and hardest for a run. See :func:`example_tracks`."""
    test = run.predictions.query("split == 'test'")
    verdicts = track_verdicts(test, run.genres)
    verdicts["true_prob"] = [row[f"prob_{row['genre']}"] for row in verdicts.to_dict("records")]
    verdicts = verdicts.sort_values("true_prob", kind="stable")
    chosen = dict(zip(("hardest", "hard"), verdicts["track_id"], strict=False))
    for genre in run.genres:
        of_genre = verdicts[(verdicts["genre"] == genre) & ~verdicts["track_id"].isin(
            list(chosen.values()))]  # fmt: skip
        if len(of_genre):
            chosen[f"easy {genre}"] = of_genre["track_id"].iloc[-1]
    easy_first = sorted(chosen, key=lambda kind: (not kind.startswith("easy"), kind))
    return {kind: chosen[kind] for kind in easy_first}


def piece_table(runs: Sequence[GenreClassifier], track_id: str) -> pd.DataFrame:
    """Every piece of a test track, as in :func:`example_tracks`."""
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


def cross_validated_scores(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Scores of cross-validated models with their intervals, of tracks and of pieces.

    Parameters
    ----------
    predictions : pd.DataFrame
        See :func:`genrecls.crossval.read_predictions`; test pieces only are used.
    genres : sequence of str

    Returns
    -------
    pd.DataFrame
        One row a run, level (``track`` or ``piece``) and score: ``run, level, score, value, low,
        high, groups, fewest groups`` (of any genre), ``tracks, pieces, repeats``. Sorted by the
        balanced accuracy over tracks.
    """
    rows = []
    for run, pieces in predictions.query("split == 'test'").groupby("run", sort=False):
        sizes = _sizes(pieces) | {
            "fewest groups": int(pieces.groupby("genre")["group"].nunique().min()),
            "repeats": pieces["repeat"].nunique(),
        }
        for level, table in (("track", track_verdicts(pieces, genres)), ("piece", pieces)):
            found = score_intervals(table, genres).reset_index()
            rows.append(found.assign(run=run, level=level, **sizes))
    table = pd.concat(rows, ignore_index=True)
    headline = table.query("level == 'track' and score == 'balanced accuracy'")
    order = headline.sort_values("value", kind="stable")["run"].tolist()
    table = table.sort_values("run", key=lambda r: r.map(order.index), kind="stable")
    first = ["run", "level", "score", "value", "low", "high"]
    return table[first + list(sizes)].reset_index(drop=True)


def headline_table(tidy: pd.DataFrame, level: str) -> pd.DataFrame:
    """The scores of one level as a table to read: a row a run, a column a score."""
    rows = []
    shown = tidy[(tidy["level"] == level) & ~tidy["score"].isin(LOSSES)]
    for run, of_run in shown.groupby("run", sort=False):
        values = {s.score: _value(s.value, s.low, s.high) for s in of_run.itertuples()}
        sizes = of_run[["groups", "fewest groups", "tracks", "pieces"]].iloc[0].to_dict()
        rows.append({"run": run, **values, **sizes})
    return pd.DataFrame(rows)


def _value(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.2f}–{high:.2f})"


def _signed(value: float, low: float, high: float) -> str:
    return f"{value:+.3f} ({low:+.2f} to {high:+.2f})"


def paired_table(predictions: pd.DataFrame, genres: Sequence[str], against: str) -> pd.DataFrame:
    """Every cross-validated run against one of them, on the same tracks.

    Returns
    -------
    pd.DataFrame
        One row a run: differences ``against`` minus run in balanced accuracy and macro F1 over
        tracks and in macro F1 over pieces, with 95 % intervals of the paired bootstrap; tracks
        that only one of both gets right, and the exact McNemar p.
    """
    runs = dict(list(predictions.query("split == 'test'").groupby("run", sort=False)))
    rows = []
    for run, pieces in runs.items():
        if run == against:
            continue
        ours, theirs = (track_verdicts(p, genres) for p in (runs[against], pieces))
        tracks = paired_difference(ours, theirs, genres, auc=False)
        of_pieces = paired_difference(runs[against], pieces, genres, auc=False)
        test = mcnemar(ours, theirs)
        rows.append(
            {
                f"{against} minus": run,
                "balanced accuracy, tracks": _signed(*tracks.loc["balanced accuracy"]),
                "macro F1, tracks": _signed(*tracks.loc["macro F1"]),
                "macro F1, pieces": _signed(*of_pieces.loc["macro F1"]),
                f"only {against} right": test["only first"],
                "only the other right": test["only second"],
                "McNemar p": round(test["p"], 3),
            }
            | _sizes(pieces)
        )
    return pd.DataFrame(rows)


def calibration_table(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """NLL, Brier score and ECE of test pieces and tracks, before and after temperature scaling."""
    rows = []
    for run, pieces in predictions.query("split == 'test'").groupby("run", sort=False):
        for level, table in (("track", track_verdicts(pieces, genres)), ("piece", pieces)):
            row = {"run": run, "level": level} | _sizes(pieces)
            for when, part in (("before", table.assign(temperature=1.0)), ("after", table)):
                found = scores(part, genres)
                row |= {f"{name} {when}": round(float(found[name][0]), 3) for name in LOSSES}
            low, high = table["temperature"].min(), table["temperature"].max()
            spread = f"{low:.2f}–{high:.2f}" if low < high else f"{low:.2f}"
            rows.append(row | {"temperature": spread})
    order = [f"{name} {when}" for name in LOSSES for when in ("before", "after")]
    sizes = ["groups", "tracks", "pieces"]
    return pd.DataFrame(rows)[["run", "level", *order, "temperature", *sizes]]


def leak_table(predictions: pd.DataFrame, cards: dict[str, dict]) -> pd.DataFrame:
    """What a validation promises, and what the test by whole artists keeps.

    Parameters
    ----------
    predictions : pd.DataFrame
    cards : dict of str to dict
        See :func:`genrecls.crossval.read_predictions`; runs without a validation are left out.

    Returns
    -------
    pd.DataFrame
        One row a model, way of holding out validation, level and score (accuracy, macro F1):
        ``validation`` and ``test``, and ``optimism``, their difference; each with the 95 %
        interval of the bootstrap over artists, in columns ``... low`` and ``... high``.
    """
    rows = []
    for name, card in cards.items():
        if not card["validation"]:
            continue
        pieces = predictions[predictions["run"] == name]
        sides = dict(list(pieces.groupby("split")))
        for level in ("piece", "track"):
            two = [
                sides[s] if level == "piece" else track_verdicts(sides[s], card["genres"])
                for s in ("validation", "test")
            ]
            found = {
                "validation": score_intervals(two[0], card["genres"], auc=False),
                "test": score_intervals(two[1], card["genres"], auc=False),
                "optimism": paired_difference(*two, card["genres"], auc=False),
            }
            for score in ("accuracy", "macro F1"):
                row = {
                    "model": card["name"],
                    "validation by": card["validation"],
                    "level": level,
                    "score": score,
                    **_sizes(pieces),
                    "repeats": card["repeats"],
                }
                for what, table in found.items():
                    value, low, high = table.loc[score]
                    row |= {what: value, f"{what} low": low, f"{what} high": high}
                rows.append(row)
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    order = ["piece", "track", "artist"]
    table["order"] = table["validation by"].map(order.index)
    return table.sort_values(["model", "level", "score", "order"], ignore_index=True).drop(
        columns="order"
    )


def leak_headline(table: pd.DataFrame) -> pd.DataFrame:
    """The leak table to read: accuracy over pieces, intervals in brackets."""
    shown = table[(table["level"] == "piece") & (table["score"] == "accuracy")]
    out = shown[["model", "validation by"]].copy()
    for what, write in (("validation", _value), ("test", _value), ("optimism", _signed)):
        columns = shown[[what, f"{what} low", f"{what} high"]].to_numpy()
        out[f"{what} accuracy" if what != "optimism" else what] = [write(*c) for c in columns]
    return out.join(shown[["groups", "tracks", "pieces", "repeats"]]).reset_index(drop=True)


def leak_lines(table: pd.DataFrame) -> pd.DataFrame:
    """The leak table as :func:`genrecls.plots.intervals` takes it."""
    shown = table[(table["level"] == "piece") & (table["score"] == "accuracy")]
    label = shown["model"] + ", validation by " + shown["validation by"]
    parts = [
        pd.DataFrame({"label": label, "group": what, "value": shown[what],
                      "low": shown[f"{what} low"], "high": shown[f"{what} high"]})
        for what in ("validation", "test")
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)
