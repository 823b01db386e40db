"""Scores of predictions on segments and tracks."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genrecls.evaluation.calibration import BINS, calibrated, confidence_bins, probability_columns

#: Scores for which a lower value is better.
LOSSES = ("NLL", "Brier", "ECE")

_MIN_PROBABILITY = 1e-12


def scores(
    table: pd.DataFrame,
    genres: Sequence[str],
    weights: np.ndarray | None = None,
    *,
    auc: bool = True,
) -> dict[str, np.ndarray]:
    """Compute the scores that :func:`score_intervals` describes."""
    # One result per resample: ``weights`` has the shape (resamples, rows).
    weights = np.ones((1, len(table))) if weights is None else weights
    repeat = table["repeat"].to_numpy() if "repeat" in table else np.zeros(len(table))
    parts = [
        _repeat_scores(table[repeat == r], genres, weights[:, repeat == r], auc)
        for r in np.unique(repeat)
    ]
    return {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}


@np.errstate(invalid="ignore", divide="ignore")
def _repeat_scores(
    table: pd.DataFrame, genres: Sequence[str], weights: np.ndarray, auc: bool
) -> dict[str, np.ndarray]:
    k = len(genres)
    truth, predicted = (table[c].map(list(genres).index).to_numpy() for c in ("genre", "predicted"))
    counts = (weights @ np.eye(k * k)[truth * k + predicted]).reshape(-1, k, k)
    right = np.diagonal(counts, axis1=1, axis2=2)
    recall = right / counts.sum(axis=2)
    f1 = 2 * right / (counts.sum(axis=1) + counts.sum(axis=2))
    result = {"balanced accuracy": recall.mean(axis=1), "macro F1": np.nan_to_num(f1).mean(axis=1)}
    if auc:
        result["AUC"] = _mean_auc(table, genres, truth, weights)
    result["accuracy"] = right.sum(axis=1) / counts.sum(axis=(1, 2))
    result |= {f"recall {genre}": recall[:, i] for i, genre in enumerate(genres)}
    scaled = calibrated(table, genres) if "temperature" in table else table
    return result | _losses(scaled[probability_columns(genres)].to_numpy(float), truth, weights)


def _mean_auc(
    table: pd.DataFrame, genres: Sequence[str], truth: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    # Probabilities of different models cannot be ranked together, so that each fold has its area.
    # Rounding makes equal means of different numbers of segments ties.
    probabilities = table[probability_columns(genres)].to_numpy(float).round(9)
    fold = table["fold"].to_numpy() if "fold" in table else np.zeros(len(table))
    areas, drawn = [], []
    for rows in (fold == f for f in np.unique(fold)):
        positive = truth[rows, None] == np.arange(len(genres))
        columns = zip(probabilities[rows].T, positive.T, strict=True)
        areas.append([_auc(p, of_genre, weights[:, rows]) for p, of_genre in columns])
        # Where the only artist of a genre in a fold is drawn twice, its area counts twice.
        drawn.append((weights[:, rows] @ positive / positive.sum(axis=0)).T)
    area, drawn = np.array(areas), np.nan_to_num(drawn)
    drawn[np.isnan(area)] = 0
    by_genre = (np.nan_to_num(area) * drawn).sum(axis=0) / drawn.sum(axis=0)
    return by_genre.mean(axis=0)


def _auc(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted share of correctly ordered pairs; a tie counts half."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    pos = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    neg = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(neg, axis=1) - neg
    return (pos * (below + neg / 2)).sum(axis=1) / (pos.sum(axis=1) * neg.sum(axis=1))


def _losses(
    probabilities: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    total = weights.sum(axis=1)
    nll = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], _MIN_PROBABILITY))
    brier = ((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1)
    confidence = probabilities.max(axis=1)
    surplus = confidence - (probabilities.argmax(axis=1) == truth)
    in_bin = np.eye(BINS)[confidence_bins(confidence)]
    ece = np.abs(weights @ (in_bin * surplus[:, None])).sum(axis=1)
    return {"NLL": weights @ nll / total, "Brier": weights @ brier / total, "ECE": ece / total}


def aggregate_tracks(predictions: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Predict each track from the weighted mean of its segments.

    Parameters
    ----------
    predictions : pd.DataFrame
        Predictions of one model on segments; those of a cross-validation have ``repeat``. Each
        is weighted by ``sounding``, its share that is not silent; by 1 without this column.
    genres : sequence of str
        Genres in the order of the model's outputs.

    Returns
    -------
    pd.DataFrame
        One row per track (and repeat): the columns that describe the track, ``segments``,
        ``wrong_segments``, ``prob_<genre>`` (not calibrated), ``predicted`` and, if known,
        ``novelty`` and ``temperature`` (the one for tracks).
    """
    columns = probability_columns(genres)
    means = [*columns, "novelty"] if "novelty" in predictions else columns
    keys = "track_id path title artist genre group repeat fold track_temperature".split()
    weight = predictions.get("sounding", pd.Series(1.0, predictions.index))
    wrong = predictions["predicted"] != predictions["genre"]
    rows = predictions.assign(wrong=wrong, weight=weight)
    rows[means] = rows[means].mul(weight, axis=0)
    by_track = rows.groupby([key for key in keys if key in rows], sort=False)
    table = by_track[means].sum().div(by_track["weight"].sum(), axis=0)
    table.insert(0, "segments", by_track.size())
    table.insert(1, "wrong_segments", by_track["wrong"].sum())
    table["predicted"] = np.array(genres)[table[columns].to_numpy().argmax(axis=1)]
    return table.reset_index().rename(columns={"track_temperature": "temperature"})


def accuracy(table: pd.DataFrame) -> float:
    """Return the share of rows whose ``predicted`` equals their ``genre``."""
    return float((table["predicted"] == table["genre"]).mean())


def f1_scores(table: pd.DataFrame, genres: Sequence[str]) -> dict[str, float]:
    """Compute the F1 of every genre, and their unweighted mean as ``macro``.

    Parameters
    ----------
    table : pd.DataFrame
        Predictions on segments or tracks.
    genres : sequence of str
        Genres to score. A genre that is neither present nor predicted has an F1 of 0.
    """
    counts = confusion_matrix(table, genres).to_numpy()
    f1 = 2 * counts.diagonal() / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)
    return {**dict(zip(genres, f1.tolist(), strict=True)), "macro": float(f1.mean())}


def confusion_matrix(table: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Count the predictions: one row per true genre, one column per predicted one.

    Parameters
    ----------
    table, genres
        See :func:`f1_scores`; ``genres`` is also the order of rows and columns.
    """
    counts = table.groupby(["genre", "predicted"]).size().unstack(fill_value=0)
    return counts.reindex(index=list(genres), columns=list(genres), fill_value=0)
