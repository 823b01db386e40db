"""Intervals and paired comparisons of scores.

Whole groups are resampled, because segments of one track, and tracks of one artist, are not
independent. Groups are drawn within each genre, so that every genre has the same weight in a
resample as in the corpus.

References
----------
Rao and Wu, "Resampling inference with complex survey data", J. Am. Stat. Assoc. 83(401), 1988,
DOI 10.1080/01621459.1988.10478591.
Clopper and Pearson, Biometrika 26(4), 1934, DOI 10.1093/biomet/26.4.404.
Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine
27(10), 2008, DOI 10.1002/sim.3095.
McNemar, Psychometrika 12(2), 1947, DOI 10.1007/BF02295996.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from genrecls.evaluation.scores import scores

#: Number of bootstrap resamples, and the random seed with which they are drawn.
RESAMPLES = 2000
RANDOM_SEED = 0

# Means over genres. That of F1 and AUC is as uncertain as that of recalls, or more.
_MEANS = ["balanced accuracy", "macro F1", "AUC"]

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
    ``recall <genre>``, ``NLL``, ``Brier`` (sum over genres) and ``ECE``. Repeats are averaged.
    Resamples without a genre, which occur only if groups have several genres, do not count for the
    scores that need it.

    A recall does not vary if it is 0 or 1, or if its genre has one group. It then gets the interval
    of Clopper and Pearson with groups as units, or one of the same relative width. The intervals of
    all recalls are combined (Zou and Donner), and replace those of ``balanced accuracy`` and
    ``accuracy`` where they are wider. ``macro F1`` and ``AUC`` are then at least as uncertain as
    the balanced accuracy.
    """
    tables = [table] if minus is None else [table, minus]
    rows = pd.concat(tables)
    weights = group_weights(rows["genre"], rows["group"], n=resamples, random_seed=random_seed)
    values = [pd.DataFrame(scores(part, genres, auc=auc)).iloc[0] for part in tables]
    drawn = [_resample_scores(part, genres, weights, auc) for part in tables]
    if minus is not None:
        values, drawn = [values[0] - values[1]], [drawn[0] - drawn[1]]
    found = pd.DataFrame({"value": values[0]}).rename_axis("score")
    found["low"], found["high"] = drawn[0].quantile(0.025), drawn[0].quantile(0.975)
    _widen_constant(found, rows, genres, 0.0 if minus is None else -1.0)
    return found


def _widen_constant(
    found: pd.DataFrame, rows: pd.DataFrame, genres: Sequence[str], lowest: float
) -> None:
    """Set the intervals of recalls that do not vary, and of scores that depend on them.

    ``lowest`` is the lowest possible value: 0, or -1 for a difference.
    """
    names = [f"recall {genre}" for genre in genres]
    constant = found.loc[names, "high"] - found.loc[names, "low"] < 1e-9
    if not constant.any():
        return
    value, groups = found["value"], _main_genres(rows["genre"], rows["group"]).value_counts()
    # Where all n groups agree, a share of up to this much may be different (Clopper and Pearson).
    others = 1 - 0.025 ** (1 / groups.reindex(list(genres), fill_value=1).to_numpy())
    exact = constant[constant].index
    found.loc[exact, "low"] = (value[names] - others * (value[names] - lowest))[exact]
    found.loc[exact, "high"] = (value[names] + others * (1 - value[names]))[exact]
    # Recalls are independent, so that the squares of their distances add up (Zou and Donner).
    shares = rows["genre"].value_counts(normalize=True).reindex(list(genres), fill_value=0)
    recalls = found.loc[names]
    below, above = recalls["value"] - recalls["low"], recalls["high"] - recalls["value"]
    weights: dict[str, Any] = dict.fromkeys(found.index.intersection(_MEANS), 1 / len(names))
    weights["accuracy"] = shares.to_numpy()
    for score, weight in weights.items():
        low = value[score] - np.linalg.norm(weight * below)
        high = value[score] + np.linalg.norm(weight * above)
        found.loc[score, "low"] = max(lowest, min(found.loc[score, "low"], low))
        found.loc[score, "high"] = min(1, max(found.loc[score, "high"], high))


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
    """Compare two models on the same tracks with the exact McNemar test, by groups.

    If the models do not differ, their results can be exchanged in any group. ``p`` is the share of
    all such exchanges whose total difference in right tracks is at least as large as the observed
    one. With one track per group, this is the usual exact test. ``only first`` and ``only second``
    are the numbers of tracks that only one of the models predicts correctly.
    """
    # A track counts as right if most repeats are right.
    a, b = (
        (table["predicted"] == table["genre"]).groupby(table["track_id"]).mean() > 0.5
        for table in (first, second)
    )
    if set(a.index) != set(b.index):
        raise ValueError("the tables hold different tracks; compare models on the same tracks")
    group = first.groupby("track_id")["group"].first()
    differences = (a.astype(int) - b.astype(int)).groupby(group).sum()
    distribution = np.ones(1)  # of the total difference, from the lowest possible to the highest
    for size in differences[differences != 0].abs():
        exchanged = np.zeros(2 * size + 1)
        exchanged[[0, -1]] = 0.5
        distribution = np.convolve(distribution, exchanged)
    total = np.arange(len(distribution)) - len(distribution) // 2
    p = distribution[np.abs(total) >= abs(differences.sum())].sum()
    return {
        "only first": int((a & ~b).sum()),
        "only second": int((b & ~a).sum()),
        "p": min(float(p), 1.0),
    }
