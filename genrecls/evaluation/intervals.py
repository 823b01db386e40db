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

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from genrecls.evaluation.scores import LOSSES, scores

#: Number of bootstrap resamples, and the random seed with which they are drawn.
RESAMPLES = 2000
RANDOM_SEED = 0

_MEANS = ["balanced accuracy", "accuracy", "macro F1", "AUC"]

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

    A few groups tell little about how much groups differ. As in Student's t-interval, the distances
    of a recall from its limits are therefore stretched: by 1.6 if its genre has four groups, by
    1.15 if it has ten. Those of other scores are stretched by the root mean square of these
    factors, weighted by the variances. A recall that does not vary (all right, all wrong, or a
    single group) gets the interval of Clopper and Pearson with groups as units, or one of the same
    relative width; its difference, if that does not vary, gets one from those of the two models
    (Zou and Donner). The interval of ``balanced accuracy`` combines those of the recalls in the
    same way. Where a recall or the score itself does not vary, ``accuracy``, ``macro F1`` and
    ``AUC`` are at least as uncertain as such a mean of recalls.

    All this is the uncertainty of the test. It does not include that of the training: models with
    another random seed or other training tracks would have other scores.
    """
    tables = [table] if minus is None else [table, minus]
    rows = pd.concat(tables)
    weights = group_weights(rows["genre"], rows["group"], n=resamples, random_seed=random_seed)
    values = [pd.DataFrame(scores(part, genres, auc=auc)).iloc[0] for part in tables]
    drawn = [_resample_scores(part, genres, weights, auc) for part in tables]
    strata = _count_groups(rows, genres)
    # Where all n groups agree, a share of up to this much may be different (Clopper and Pearson).
    others = 1 - 0.025 ** (1 / strata["groups"].to_numpy())
    found = []
    for value, draws in zip(values, drawn, strict=True):
        recalls = value[strata.index].to_numpy()
        exact = np.stack([others * recalls, others * (1 - recalls)], axis=1)
        found.append(_make_intervals(value, draws, strata, exact))
    if minus is None:
        return found[0]
    distances = [
        np.stack([part["value"] - part["low"], part["high"] - part["value"]], axis=1)
        for part in (interval.loc[strata.index] for interval in found)
    ]
    exact = np.hypot(distances[0], distances[1][:, ::-1])
    return _make_intervals(values[0] - values[1], drawn[0] - drawn[1], strata, exact, lowest=-1)


def _count_groups(rows: pd.DataFrame, genres: Sequence[str]) -> pd.DataFrame:
    """Return the number of groups behind each recall, and the share of its genre in the rows."""
    groups = _main_genres(rows["genre"], rows["group"]).value_counts()
    shares = rows["genre"].value_counts(normalize=True)
    table = pd.DataFrame({"groups": groups, "share": shares}).reindex(list(genres))
    return table.fillna({"groups": 1, "share": 0}).set_axis([f"recall {g}" for g in genres])


def _make_intervals(
    value: pd.Series, drawn: pd.DataFrame, strata: pd.DataFrame, exact: np.ndarray, lowest: int = 0
) -> pd.DataFrame:
    """Make the intervals of scores from their resamples.

    ``exact`` has the distances of each recall from its limits, for recalls that do not vary.
    ``lowest`` is the lowest possible share: 0, or -1 for a difference.
    """
    names, recalls = value.index, value.index.get_indexer(strata.index)
    low, high = drawn.quantile(0.025), drawn.quantile(0.975)
    distances = np.stack([value - low, high - value], axis=1).clip(min=0)
    width = distances.sum(axis=1)
    constant = width < 1e-9
    stretch = t.ppf(0.975, (strata["groups"] - 1).clip(lower=1)) / norm.ppf(0.975)
    variances = np.nan_to_num(width[recalls]) ** 2 + 1e-18  # equal if no recall varies
    factors = np.full(len(names), np.average(stretch**2, weights=variances) ** 0.5)
    factors[recalls] = stretch
    distances *= factors[:, None]
    distances[recalls] = np.where(constant[recalls, None], exact, distances[recalls])
    room = np.stack([value - lowest, 1 - value], axis=1)
    room[names.isin(LOSSES)] = np.inf
    distances = np.minimum(distances, room)
    share = strata["share"].to_numpy()
    # Recalls are independent, so that the squares of their distances add up (Zou and Donner).
    for score in names.intersection(_MEANS):
        i = names.get_loc(score)
        weights = share if score == "accuracy" else np.full_like(share, 1 / len(share))
        combined = np.linalg.norm(np.nan_to_num(distances[recalls]) * weights[:, None], axis=0)
        if score == "balanced accuracy":
            distances[i] = combined
        elif constant[[i, *recalls]].any():
            distances[i] = np.minimum(np.maximum(distances[i], combined), room[i])
    found = pd.DataFrame({"value": value, "low": value - distances[:, 0]}).rename_axis("score")
    if not lowest:
        found["low"] = found["low"].clip(lower=0)
    return found.assign(high=value + distances[:, 1])


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
