"""Split segments into training, validation and test so that groups stay together."""

import hashlib
import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from genrecls.errors import CorpusError, LeakError

_SPLITS = {"train", "validation", "test"}
_HELD_OUT = 0.2  # share of the segments in the test, and of the others in validation
_SHUFFLES = 10  # per number of folds, until a fold has segments from every genre


def assign_splits(segments: pd.DataFrame, *, split_by: str, random_seed: int = 0) -> pd.DataFrame:
    """Assign each segment to training, validation or test.

    The splits that the corpus names are kept, for whole groups. If no track is named for the test,
    it is chosen from the tracks without a name: whole groups with about a fifth of all segments.
    The same goes for the validation, with a fifth of what is not in the test; if every track has a
    name, the validation is a part of the tracks that are named for training.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table.
    split_by : {'artist', 'track', 'segment'}
        Unit that is held out for validation: whole groups, whole tracks, or a random fifth of the
        segments of each genre, as in the original. The last two are leaky, to show the effect:
        an artist, with ``'segment'`` also a track, can be in both training and validation.
    random_seed : int >= 0
        Seed of the shuffling.

    Returns
    -------
    pd.DataFrame
        The same rows with ``split`` in ``'train', 'validation', 'test'``.

    Raises
    ------
    CorpusError
        If a genre is missing from a split or has too few groups.
    LeakError
        If two splits share a group, a recording or a file.

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare("music", progress=False)
    >>> segments = genrecls.assign_splits(features.segments, split_by="artist")
    >>> sorted(segments["split"].unique())
    ['test', 'train', 'validation']
    """
    segments = segments.reset_index(drop=True).astype({"split": str})
    split = _complete_groups(segments)
    free, train = split == "", segments[split == "train"]
    choose_validation = not (split == "validation").any()
    if (split == "test").all():
        raise CorpusError("every track is named for the test; name some for training")
    if not (split == "test").any():
        if not free.any():
            raise CorpusError(
                "no track is named for the test, and none is free to be chosen; name some, or "
                "leave the split of some tracks empty"
            )
        # With training tracks in every genre, the test may take all free ones.
        keep = choose_validation or not set(segments["genre"]) <= set(train["genre"])
        split[_choose_fifth(segments, segments[free], "group", random_seed, keep=keep)] = "test"
    if choose_validation:
        others = segments[split != "test"]
        pool = others[split[others.index] == ""] if free.any() else others
        if split_by == "segment":
            held_out = _choose_segments(others, pool, random_seed)
        else:
            unit = {"artist": "group", "track": "track_id"}[split_by]
            keep = not set(pool["genre"]) <= set(others["genre"].drop(pool.index))
            held_out = _choose_fifth(others, pool, unit, random_seed, keep=keep)
        split[held_out] = "validation"
    segments["split"] = split.replace("", "train")
    for name, splits in segments.groupby("genre")["split"]:
        if missing := sorted(_SPLITS - set(splits)):
            advice = "add tracks to the genre, or name the splits of its tracks"
            raise CorpusError(f"no track of genre {name!r} is for {' or '.join(missing)}; {advice}")
    check_no_leak(segments, leaky_validation=split_by != "artist")
    return segments


def _complete_groups(segments: pd.DataFrame) -> pd.Series:
    """Return the splits; a row without one gets that of its group, if the group has one."""
    split = segments["split"]
    of_group = split.mask(split == "").groupby(segments["group"]).transform("first")
    return split.where(split != "", of_group.fillna("").astype(str))


def _choose_segments(others: pd.DataFrame, pool: pd.DataFrame, random_seed: int) -> pd.Index:
    """Return the index of random segments from a pool, a fifth of the others in every genre."""
    rng, sizes = np.random.default_rng(random_seed), others["genre"].value_counts()
    held_out = []
    for genre, rows in pool.groupby("genre"):
        n = sizes[genre] - int((1 - _HELD_OUT) * sizes[genre])
        held_out += rng.permutation(rows.index)[-n:].tolist()
    return pd.Index(held_out)


def assign_folds(segments: pd.DataFrame, *, folds: int = 5, random_seed: int = 0) -> pd.Series:
    """Assign each segment to a fold of a cross-validation.

    Every track is held out once, also the test tracks that are named in the corpus. Every fold
    tests every genre, so that there are at most as many folds as a genre has groups.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table, with ``genre`` and ``group``.
    folds : int >= 2
        Largest number of folds.
    random_seed : int >= 0
        Seed of the shuffling.

    Returns
    -------
    pd.Series of int
        Number of the fold that holds each segment out, from 0.

    Raises
    ------
    CorpusError
        If a genre has too few groups.
    """
    if folds < 2:
        raise ValueError(f"folds must be 2 or more, not {folds}")
    # A factor of the seed keeps the shuffles of different repeats apart.
    seeds = range(_SHUFFLES * random_seed, _SHUFFLES * (random_seed + 1))
    for fold, counts in _shuffle_folds(segments, "group", folds, seeds):
        if (counts > 0).all(axis=None):
            return pd.Series(fold, segments.index, name="fold")
    raise CorpusError("no folds have every genre in training and test; add groups to each genre")


def _shuffle_folds(
    segments: pd.DataFrame, unit: str, max_folds: int, seeds: range
) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Yield the fold of each row and the counts per genre and fold, fewer folds later."""
    genre, group = segments["genre"].to_numpy(), segments[unit].to_numpy()
    code, names = pd.factorize(group)
    n_groups = segments.groupby("genre")[unit].nunique()
    if n_groups.min() < 2:
        raise CorpusError(
            f"genre {n_groups.idxmin()!r} has only one group (artist, album or track) left, but "
            f"whole groups are held out: add tracks from other groups"
        )
    for n_folds, seed in itertools.product(range(min(max_folds, n_groups.min()), 1, -1), seeds):
        shuffled = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        # Scikit-learn shuffles only groups of equal size. Except for seed 0, random groups count a
        # quarter more, so that the folds differ from seed to seed, but not much in size.
        times = np.random.default_rng(seed).integers(4, 6 if seed else 5, len(names))
        rows = np.repeat(np.arange(len(genre)), times[code])
        fold = np.empty(len(genre), int)
        for i, (_, held_out) in enumerate(shuffled.split(rows, genre[rows], group[rows])):
            fold[rows[held_out]] = i
        yield fold, pd.crosstab(genre, fold)


def _choose_fifth(
    segments: pd.DataFrame, pool: pd.DataFrame, unit: str, random_seed: int, *, keep: bool
) -> pd.Index:
    """Return the index of whole units of a pool, about a fifth of the segments of every genre.

    ``keep`` means that some units of every genre must stay in the pool.
    """
    n_folds = round(len(pool) / (_HELD_OUT * len(segments)))
    if not keep and (n_folds < 2 or pool.groupby("genre")[unit].nunique().min() < 2):
        return pool.index
    sizes = segments["genre"].value_counts()
    seeds = range(random_seed, random_seed + _SHUFFLES)
    for fold, counts in _shuffle_folds(pool, unit, max(2, n_folds), seeds):
        usable = (counts > 0).all()
        if keep:
            usable &= counts.lt(counts.sum(axis=1), axis=0).all()
        if usable.any():
            error = (counts.div(sizes[counts.index], axis=0) - _HELD_OUT).abs().max()
            return pool.index[fold == error[usable].idxmin()]
    raise CorpusError(
        "no split by groups has every genre on both sides; add groups to each genre, or name the "
        "test tracks (_test folders or a split column)"
    )


def check_no_leak(segments: pd.DataFrame, *, leaky_validation: bool = False) -> None:
    """Check that no file, recording or group is in two splits.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table, with ``sha256``, ``recording``, ``group``, ``path`` and ``split``.
    leaky_validation : bool
        Allow training and validation to share them.

    Raises
    ------
    LeakError
        If two splits share one; the message names a track from each.
    """
    split = segments["split"]
    if leaky_validation:
        split = split.replace("validation", "train")
    for column in ("sha256", "recording", "group"):
        meaning = "file content" if column == "sha256" else column
        splits = split.groupby(segments[column]).unique()
        for key, names in splits[splits.str.len() > 1].items():
            paths = segments.loc[segments[column] == key].groupby(split)["path"].first()
            raise LeakError(
                f"the same {meaning} ({key}) is in {' and '.join(sorted(names))}: "
                f"{' and '.join(map(repr, paths))}. Move the tracks to the same split"
            )


def split_hash(segments: pd.DataFrame) -> str:
    """Hash the content and the splits of a table, whose rows may be in any order."""
    known = "path artist album title genre group sha256 segment split".split()
    columns = [column for column in known if column in segments]
    rows = segments[columns].astype(str).agg("|".join, axis=1)
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:16]
