"""Intervals and paired comparisons of scores.

Whole groups are resampled, because segments of one track, and tracks of one artist, are not
independent. Groups are drawn within each genre, so that every genre has the same weight in a
resample as in the corpus.

References
----------
Rao and Wu, "Resampling inference with complex survey data", J. Am. Stat. Assoc. 83(401), 1988,
DOI 10.1080/01621459.1988.10478591.
Clopper and Pearson, Biometrika 26(4), 1934, DOI 10.1093/biomet/26.4.404.
McNemar, Psychometrika 12(2), 1947, DOI 10.1007/BF02295996.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import beta, binomtest

from genrecls.evaluation.scores import LOSSES, scores

#: Number of bootstrap resamples, and the random seed with which they are drawn.
RESAMPLES = 2000
RANDOM_SEED = 0

_MAX_WEIGHTS = 20_000_000  # held in memory together: 160 MB


def group_weights(
    genre: pd.Series, group: pd.Series, *, n: int = RESAMPLES, random_seed: int = RANDOM_SEED
) -> pd.DataFrame:
    """Draw the weight of each group (column) in each resample (row)."""
    # From the n groups of a genre, n - 1 are drawn and weighted by n / (n - 1). The plain bootstrap
    # draws n, and its intervals are too narrow if there are few groups.
    rng = np.random.default_rng(random_seed)
    stratum = _main_genres(genre, group)
    weights = pd.DataFrame(0.0, range(n), stratum.index)
    for _, members in stratum.groupby(stratum):
        size = len(members)
        draws = max(size - 1, 1)
        counts = rng.multinomial(draws, np.full(size, 1 / size), size=n)
        weights[members.index] = counts * (size / draws)
    return weights


def _main_genres(genre: pd.Series, group: pd.Series) -> pd.Series:
    """Return the commonest genre of each group."""
    # Before pandas 3.1, crosstab refuses two Series whose index has repeated labels.
    return pd.crosstab(group.array, genre.array).idxmax(axis=1)


def score_intervals(
    table: pd.DataFrame,
    genres: Sequence[str],
    *,
    minus: pd.DataFrame | None = None,
    resamples: int = RESAMPLES,
    random_seed: int = RANDOM_SEED,
    auc: bool = True,
) -> pd.DataFrame:
    """Compute scores, or their differences, with 95 % bootstrap intervals over groups.

    The rows of ``table``, and of the table that is subtracted, are predictions on segments or
    tracks with ``group``; from several folds or repeats, with ``fold`` and ``repeat``; for
    calibrated losses, with ``temperature``. Every resample has the same groups in both tables.

    The result has ``value``, ``low`` and ``high`` of ``balanced accuracy`` (mean of the recalls),
    ``macro F1``, ``AUC`` (one against all, within folds; half of the time), ``accuracy``,
    ``recall <genre>``, ``NLL``, ``Brier`` (sum over genres) and ``ECE``. Repeats are averaged. NaN
    if a resample lacks a genre that is needed.

    If all predictions are right, or all wrong, or genres have a single group, the resamples do not
    differ. The interval is then that of Clopper and Pearson: for a recall over the groups of its
    genre, for the accuracy over all groups. For the other scores, which are means over genres, each
    genre counts with as many groups as the smallest one, so that the interval is rather too wide.
    That of a difference is the widest that the intervals of both scores allow.
    """
    tables = [table] if minus is None else [table, minus]
    rows = pd.concat(tables)
    weights = group_weights(rows["genre"], rows["group"], n=resamples, random_seed=random_seed)
    values = [pd.DataFrame(scores(part, genres, auc=auc)).iloc[0] for part in tables]
    drawn = [_resample_scores(part, genres, weights, auc) for part in tables]
    sizes = _main_genres(rows["genre"], rows["group"]).value_counts()
    sizes = sizes.reindex(list(genres), fill_value=1)
    low, high = _exact_interval(values[0], sizes)
    extreme = pd.concat(values, axis=1).round(9).isin([0, 1]).all(axis=1)
    if minus is not None:
        others = _exact_interval(values[1], sizes)
        low, high = low - others[1], high - others[0]
        values, drawn = [values[0] - values[1]], [drawn[0] - drawn[1]]
    found = pd.DataFrame({"value": values[0]}).rename_axis("score")
    found["low"], found["high"] = drawn[0].quantile(0.025), drawn[0].quantile(0.975)
    equal = (found["low"] == found["high"]) & (extreme | (sizes.min() == 1))
    equal &= ~found.index.isin(LOSSES)
    found.loc[equal, "low"], found.loc[equal, "high"] = low[equal], high[equal]
    return found


def _exact_interval(share: pd.Series, sizes: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Compute the exact 95 % interval of each score from the number of groups per genre."""
    n = pd.Series(len(sizes) * sizes.min(), share.index)
    n["accuracy"] = sizes.sum()
    n.update(sizes.add_prefix("recall "))
    k = share * n
    # The quantiles are not defined for 0 of n and for n of n.
    low = pd.Series(beta.ppf(0.025, k, n - k + 1), n.index).fillna(0)
    return low, pd.Series(beta.ppf(0.975, k + 1, n - k), n.index).fillna(1)


def _resample_scores(
    table: pd.DataFrame, genres: Sequence[str], weights: pd.DataFrame, auc: bool
) -> pd.DataFrame:
    column = weights.columns.get_indexer(pd.Index(table["group"]))
    step = max(1, _MAX_WEIGHTS // len(table))
    chunks = (weights.to_numpy()[i : i + step, column] for i in range(0, len(weights), step))
    return pd.concat(pd.DataFrame(scores(table, genres, chunk, auc=auc)) for chunk in chunks)


def format_interval(value: float, low: float, high: float, *, signed: bool = False) -> str:
    """Format a value with its interval, such as ``0.912 (0.85–0.95)``."""
    if signed:
        return f"{value:+.3f} ({low:+.2f} to {high:+.2f})"
    return f"{value:.3f} ({low:.2f}–{high:.2f})"


def format_p(p: float) -> str:
    """Format a p-value with two significant digits, a small one as ``< 0.001``."""
    return f"{p:.2g}" if p >= 0.001 else "< 0.001"


def mcnemar(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, float]:
    """Compare two models on the same tracks with the exact McNemar test."""
    # A track counts as right if most repeats are right. Tracks are taken as independent, so that p
    # is a lower bound if groups have several.
    a, b = (
        (table["predicted"] == table["genre"]).groupby(table["track_id"]).mean() > 0.5
        for table in (first, second)
    )
    if set(a.index) != set(b.index):
        raise ValueError("the tables hold different tracks; compare models on the same tracks")
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    n = only_first + only_second
    p = float(binomtest(only_first, n).pvalue) if n else 1.0
    return {"only first": only_first, "only second": only_second, "p": p}
