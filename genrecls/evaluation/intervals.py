"""Scores with intervals: bootstrap over groups, paired comparisons, exact tests.

What is resampled are whole groups (artists), because segments of one track, and tracks of one
artist, are not independent. Groups are drawn within each genre, so that every genre weighs as
much in a resample as in the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genrecls.evaluation.scores import scores

#: Resamples, and the random seed of their drawing.
RESAMPLES = 2000
RANDOM_SEED = 0
LEVEL = 0.95
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
        Of every segment or track. A group in several genres is drawn with its commonest one.
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
        Predictions on the same tracks; of several repeats a track counts as right where most of
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


def _mostly_right(by_track: pd.DataFrame) -> pd.Series:
    right = by_track["predicted"] == by_track["genre"]
    return right.groupby(by_track["track_id"]).mean() > 0.5


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
