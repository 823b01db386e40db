"""Split segments into training, validation and test so that groups stay together."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from genrecls.corpus.tracks import TEST_SUFFIX
from genrecls.errors import CorpusError, LeakError

_SPLITS = {"train", "validation", "test"}
_HELD_OUT = 0.2  # share of the segments in the test, and of the others in validation
_SHUFFLES = 10  # per number of folds, until a fold has segments from every genre


def assign_splits(segments: pd.DataFrame, *, split_by: str, random_seed: int = 0) -> pd.DataFrame:
    """Assign each segment to training, validation or test.

    The test tracks are those named in the corpus; if there are none, whole groups with about a
    fifth of the segments. About a fifth of the other segments is for validation.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table, with ``genre``, ``group``, ``track_id``, ``sha256``, ``recording``
        and ``split``.
    split_by : {'artist', 'track', 'segment'}
        Unit that is held out for validation: whole groups, whole tracks, or the last fifth of the
        shuffled segments of each genre, as in the original. With ``'track'`` an artist, and with
        ``'segment'`` also a track, can be in both training and validation. These two are leaky;
        they are there to show the effect.
    random_seed : int >= 0
        Seed of the shuffling.

    Returns
    -------
    pd.DataFrame
        The same rows with ``split`` in ``'train', 'validation', 'test'``.

    Raises
    ------
    CorpusError
        If a genre is missing from a split or has too few groups to be split.
    LeakError
        If two splits that must not share a group, a recording or a file do so.

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare(genrecls.Corpus.read("music"), progress=False)
    >>> segments = genrecls.assign_splits(features.segments, split_by="artist")
    >>> sorted(segments["split"].unique())
    ['test', 'train', 'validation']
    """
    segments = segments.reset_index(drop=True)
    split = segments["split"].to_numpy(object, copy=True)
    if not (split == "test").any():
        split[_choose_fifth(segments["genre"], segments["group"], random_seed)] = "test"
    others = np.flatnonzero(split != "test")
    split[others] = "train"
    genre = segments["genre"].iloc[others]
    if split_by == "segment":
        held_out = _shuffle_fifth(genre.to_numpy(), random_seed)
    else:
        unit = segments[{"artist": "group", "track": "track_id"}[split_by]]
        held_out = _choose_fifth(genre, unit.iloc[others], random_seed)
    split[others[held_out]] = "validation"
    segments["split"] = split.astype(str)
    for name, splits in segments.groupby("genre")["split"]:
        if missing := sorted(_SPLITS - set(splits)):
            raise CorpusError(f"genre {name!r} has no tracks for {missing}; add tracks to it")
    check_no_leak(segments, leaky_validation=split_by != "artist")
    return segments


def assign_folds(segments: pd.DataFrame, *, folds: int = 5, random_seed: int = 0) -> pd.Series:
    """Assign each segment to a fold of a cross-validation.

    Whole groups are held out, stratified by genre. Every fold tests every genre, so that there
    are at most as many folds as a genre has groups. Test tracks that are named in the corpus are
    not treated differently: every track is held out once.

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
        If a genre has only one group, or no such folds are found.
    ValueError
        If ``folds`` is below 2.
    """
    if folds < 2:
        raise ValueError(f"folds must be 2 or more, not {folds}")
    # A factor of the seed keeps the shuffles of different repeats apart.
    seeds = range(_SHUFFLES * random_seed, _SHUFFLES * (random_seed + 1))
    for fold, counts in _shuffle_folds(segments["genre"], segments["group"], folds, seeds):
        if (counts > 0).all(axis=None):
            return pd.Series(fold, segments.index, name="fold")
    raise CorpusError("no folds have every genre in training and test; add groups to each genre")


def _shuffle_folds(
    genre: pd.Series, group: pd.Series, most: int, seeds: range
) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Yield the fold of each row and the counts per genre and fold, fewer folds later."""
    n_groups = group.groupby(genre).nunique()
    if n_groups.min() < 2:
        raise CorpusError(
            f"genre {n_groups.idxmin()!r} has only one group (artist, album or track) left, but "
            f"whole groups are held out: add tracks from other groups"
        )
    labels, names = genre.to_numpy(), group.to_numpy()
    for n_folds, seed in itertools.product(range(min(most, n_groups.min()), 1, -1), seeds):
        shuffled = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        fold = np.empty(len(labels), int)
        for i, (_, held_out) in enumerate(shuffled.split(labels, labels, names)):
            fold[held_out] = i
        yield fold, pd.crosstab(labels, fold)


def _choose_fifth(genre: pd.Series, unit: pd.Series, random_seed: int) -> np.ndarray:
    """Return positions of whole units with about a fifth of the segments of every genre."""
    seeds = range(random_seed, random_seed + _SHUFFLES)
    for fold, counts in _shuffle_folds(genre, unit, round(1 / _HELD_OUT), seeds):
        total = counts.sum(axis=1)
        usable = (counts > 0).all() & counts.lt(total, axis=0).all()
        if usable.any():
            error = (counts.div(total, axis=0) - _HELD_OUT).abs().max()
            return np.flatnonzero(fold == error[usable].idxmin())
    raise CorpusError(
        f"no split by groups has every genre on both sides; add groups to each genre, or name the "
        f"test tracks ({TEST_SUFFIX} folders or a split column)"
    )


def _shuffle_fifth(genre: np.ndarray, random_seed: int) -> np.ndarray:
    rng = np.random.default_rng(random_seed)
    held_out = []
    for name in np.unique(genre):
        shuffled = rng.permutation(np.flatnonzero(genre == name))
        held_out.append(shuffled[int((1 - _HELD_OUT) * len(shuffled)) :])
    return np.concatenate(held_out)


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
    meanings = {"sha256": "file content", "recording": "recording", "group": "group"}
    for column, meaning in meanings.items():
        splits = split.groupby(segments[column]).unique()
        for key, names in splits[splits.str.len() > 1].items():
            paths = segments.loc[segments[column] == key].groupby(split)["path"].first()
            raise LeakError(
                f"the same {meaning} ({key}) is in {' and '.join(sorted(names))}: "
                f"{' and '.join(map(repr, paths))}. Move the tracks to the same split"
            )


def split_hash(segments: pd.DataFrame) -> str:
    """Hash the content and the splits of a segments table to 16 hexadecimal digits.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table. The order of its rows does not matter.
    """
    known = "path artist album title genre group sha256 segment split".split()
    columns = [column for column in known if column in segments]
    rows = segments[columns].astype(str).agg("|".join, axis=1)
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:16]
