"""Scores with intervals: bootstrap over groups, paired comparisons, exact tests.

What is resampled are whole groups (artists), because pieces of one track, and tracks of one
artist, are not independent. Groups are drawn within each genre, so that every genre weighs as
much in a resample as in the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .calibration import calibrated, confidence_bins, probability_columns

#: Resamples, and the random seed of their drawing.
RESAMPLES = 2000
RANDOM_SEED = 0
LEVEL = 0.95

#: Scores of which less is better.
LOSSES = ("NLL", "Brier", "ECE")

_ECE_BINS = 10
_SMALLEST = 1e-12
_VALUES_AT_ONCE = 20_000_000


def group_weights(
    genre: pd.Series, group: pd.Series, *, n: int = RESAMPLES, random_seed: int = RANDOM_SEED
) -> pd.DataFrame:
    """How much each group counts in each resample.

    Of the n groups of a genre n - 1 are drawn, and count n / (n - 1) each (Rao and Wu 1988): with
    few groups the plain bootstrap, which draws n, gives intervals that are too narrow.

    Parameters
    ----------
    genre, group : pd.Series
        Of every piece or track. A group in several genres is drawn with its commonest one.
    n : int > 0
        Resamples.
    random_seed : int >= 0

    Returns
    -------
    pd.DataFrame [shape=(n, groups)]
        Columns are the groups. The same groups and seed give the same resamples, so that two
        models are compared on the same ones.
    """
    rng = np.random.default_rng(random_seed)
    stratum = pd.crosstab(group, genre).idxmax(axis=1)
    weights = pd.DataFrame(0.0, range(n), stratum.index)
    for _, members in stratum.groupby(stratum):
        count = len(members)
        draws = max(count - 1, 1)
        drawn = rng.multinomial(draws, np.full(count, 1 / count), size=n)
        weights[members.index] = drawn * (count / draws)
    return weights


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
        Predictions of pieces, or verdicts on tracks: ``genre, predicted, prob_<genre>...``, and
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
    # Rounded, so that equal means of unequally many pieces are ties.
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


def score_intervals(
    table: pd.DataFrame,
    genres: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    random_seed: int = RANDOM_SEED,
    auc: bool = True,
) -> pd.DataFrame:
    """Every score with its 95 % percentile bootstrap interval over groups.

    Parameters
    ----------
    table : pd.DataFrame
        As of :func:`scores`, with ``group``.

    Returns
    -------
    pd.DataFrame
        Index: the score; columns ``value, low, high``.
    """
    weights = group_weights(table["genre"], table["group"], n=resamples, random_seed=random_seed)
    drawn = _resampled(table, genres, weights, auc)
    value = {name: float(v[0]) for name, v in scores(table, genres, auc=auc).items()}
    return _with_interval(value, drawn)


def paired_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    genres: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    random_seed: int = RANDOM_SEED,
    auc: bool = True,
) -> pd.DataFrame:
    """Scores of the first table minus those of the second, with intervals.

    Every resample draws the same groups for both. The tables need not have the same rows: the
    validation and the test of one model have not.

    Returns
    -------
    pd.DataFrame
        Index: the score; columns ``value, low, high``.
    """
    both = pd.concat([first, second])
    weights = group_weights(both["genre"], both["group"], n=resamples, random_seed=random_seed)
    a, b = (_resampled(table, genres, weights, auc) for table in (first, second))
    one, two = (scores(table, genres, auc=auc) for table in (first, second))
    value = {name: float(one[name][0] - two[name][0]) for name in one}
    return _with_interval(value, {name: a[name] - b[name] for name in a})


def _resampled(table: pd.DataFrame, genres: Sequence[str], weights: pd.DataFrame, auc: bool):
    column = weights.columns.get_indexer(table["group"])
    drawn = weights.to_numpy()
    step = max(1, _VALUES_AT_ONCE // len(table))
    parts = [
        scores(table, genres, drawn[i : i + step, column].astype(float), auc=auc)
        for i in range(0, len(drawn), step)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _with_interval(value: dict[str, float], drawn: dict[str, np.ndarray]) -> pd.DataFrame:
    tail = (1 - LEVEL) / 2
    # Unlike NumPy's, the quantiles of pandas pass over what is not known without a warning.
    low, high = (pd.DataFrame(drawn).quantile(q) for q in (tail, 1 - tail))
    return pd.DataFrame({"value": value, "low": low, "high": high}).rename_axis("score")


def mcnemar(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, float]:
    """Exact McNemar test (1947): do two models fail on the same tracks?

    Parameters
    ----------
    first, second : pd.DataFrame
        Verdicts on the same tracks; of several repeats a track counts as right where most of
        them are.

    Returns
    -------
    dict
        ``only first`` and ``only second``: tracks that only one of them gets right; ``p``: how
        probable so uneven a number is, were they equally good. Tracks are taken as independent,
        so that p is a lower bound where artists have several.
    """
    from scipy.stats import binomtest

    right = [_mostly_right(t) for t in (first, second)]
    if set(right[0].index) != set(right[1].index):
        raise ValueError("the two tables are not about the same tracks")
    one, two = right[0], right[1].reindex(right[0].index)
    only_first, only_second = int((one & ~two).sum()), int((two & ~one).sum())
    n = only_first + only_second
    p = float(binomtest(only_first, n).pvalue) if n else 1.0
    return {"only first": only_first, "only second": only_second, "p": p}


def _mostly_right(verdicts: pd.DataFrame) -> pd.Series:
    right = verdicts["predicted"] == verdicts["genre"]
    return right.groupby(verdicts["track_id"]).mean() > 0.5


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927): what ``right`` of ``n`` tell at best.

    At best, because tracks of one artist are not independent either.

    Raises
    ------
    ValueError
        If ``n`` is 0.
    """
    if n < 1:
        raise ValueError("a share of nothing has no interval")
    z = 1.959964
    centre = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * (right * (n - right) / n + z * z / 4) ** 0.5
    return max(centre - half, 0.0), min(centre + half, 1.0)
