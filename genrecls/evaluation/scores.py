"""Scores of predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genrecls.evaluation.calibration import calibrated, confidence_bins, probability_columns

#: Scores of which less is better.
LOSSES = ("NLL", "Brier", "ECE")

_ECE_BINS = 10
_SMALLEST = 1e-12


def scores(
    table: pd.DataFrame,
    genres: Sequence[str],
    weights: np.ndarray | None = None,
    *,
    auc: bool = True,
) -> dict[str, np.ndarray]:
    """Scores of weighted predictions; the mean over the repeats of a cross-validation.

    Parameters
    ----------
    table : pd.DataFrame
        Predictions of segments, or predictions on tracks: ``genre, predicted, prob_<genre>...``, and
        ``repeat``, ``fold`` and ``temperature`` if there are any.
    genres : sequence of str
    weights : np.ndarray [shape=(resamples, rows)], optional
        By default every row counts once.
    auc : bool
        Without the AUC it takes half the time.

    Returns
    -------
    dict of str to np.ndarray [shape=(resamples,)]
        ``balanced accuracy`` (mean of the recalls), ``macro F1``, ``AUC`` (one genre against the
        rest, mean over the genres; within folds, since the probabilities of two models cannot be
        put in one order, and mean over them), ``accuracy``, ``recall <genre>``, and of the
        calibrated probabilities ``NLL, Brier`` (sum over the genres) and ``ECE`` (10 equal bins).
        NaN where a genre has no weight.
    """
    if weights is None:
        weights = np.ones((1, len(table)))
    if "repeat" not in table or table["repeat"].nunique() == 1:
        return _scores(table, genres, weights, auc)
    repeat = table["repeat"].to_numpy()
    parts = [
        _scores(table[repeat == r], genres, weights[:, repeat == r], auc) for r in np.unique(repeat)
    ]
    return {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}


def _scores(
    table: pd.DataFrame, genres: Sequence[str], weights: np.ndarray, auc: bool
) -> dict[str, np.ndarray]:
    k = len(genres)
    truth = table["genre"].map(list(genres).index).to_numpy()
    said = table["predicted"].map(list(genres).index).to_numpy()
    cell = np.eye(k * k)[truth * k + said]
    counts = (weights @ cell).reshape(-1, k, k)
    right = np.diagonal(counts, axis1=1, axis2=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / counts.sum(axis=2)
        f1 = 2 * right / (counts.sum(axis=1) + counts.sum(axis=2))
        share_right = right.sum(axis=1) / counts.sum(axis=(1, 2))
    out = {
        "balanced accuracy": recall.mean(axis=1),
        "macro F1": np.nan_to_num(f1).mean(axis=1),
        **({"AUC": _mean_auc(table, genres, truth, weights)} if auc else {}),
        "accuracy": share_right,
        **{f"recall {genre}": recall[:, i] for i, genre in enumerate(genres)},
    }
    scaled = calibrated(table, genres) if "temperature" in table else table
    return out | _losses(scaled[probability_columns(genres)].to_numpy(float), truth, weights)


def _mean_auc(table: pd.DataFrame, genres: Sequence[str], truth, weights) -> np.ndarray:
    """AUC of each genre against the rest within each fold, and the mean of them."""
    # Rounded, so that equal means of unequally many segments are ties.
    raw = table[probability_columns(genres)].to_numpy(float).round(9)
    fold = table["fold"].to_numpy() if "fold" in table else np.zeros(len(table))
    areas = [
        [_auc(raw[rows, i], truth[rows] == i, weights[:, rows]) for i in range(len(genres))]
        for rows in (fold == f for f in np.unique(fold))
    ]
    return _mean_of_known(np.mean(areas, axis=1))


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)


def _losses(probabilities: np.ndarray, truth: np.ndarray, weights) -> dict[str, np.ndarray]:
    rows = np.arange(len(truth))
    total = weights.sum(axis=1)
    nll = -np.log(np.maximum(probabilities[rows, truth], _SMALLEST))
    brier = ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)
    confidence = probabilities.max(axis=1)
    surplus = confidence - (probabilities.argmax(axis=1) == truth)
    in_bin = np.eye(_ECE_BINS)[confidence_bins(confidence, _ECE_BINS)]
    missed = np.abs(weights @ (in_bin * surplus[:, None])).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"NLL": weights @ nll / total, "Brier": weights @ brier / total,
                "ECE": missed / total}  # fmt: skip


def _auc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted share of pairs of a positive and a negative row in the right order; ties half."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    pos = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    neg = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(neg, axis=1) - neg
    with np.errstate(invalid="ignore", divide="ignore"):
        return (pos * (below + neg / 2)).sum(axis=1) / (pos.sum(axis=1) * neg.sum(axis=1))


def aggregate_tracks(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """One row a track: the mean of its segments' probabilities and the genre where it is highest.

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
        tracks, where there is one), ``segments,
        wrong_segments, prob_<genre>..., predicted``. The probabilities are not calibrated.
    """
    columns = probability_columns(genres)
    keys = "track_id path title artist genre group repeat fold track_temperature".split()
    by = predictions.assign(wrong=predictions["predicted"] != predictions["genre"]).groupby(
        [key for key in keys if key in predictions], sort=False
    )
    by_track = by[columns].mean()
    by_track.insert(0, "segments", by.size())
    by_track.insert(1, "wrong_segments", by["wrong"].sum())
    by_track["predicted"] = np.array(genres)[by_track[columns].to_numpy().argmax(axis=1)]
    return by_track.reset_index().rename(columns={"track_temperature": "temperature"})


def accuracy(table: pd.DataFrame) -> float:
    """Share of the rows (segments or tracks) whose ``predicted`` is their ``genre``."""
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
