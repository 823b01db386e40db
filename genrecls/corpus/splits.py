"""Splits and folds that keep groups together."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pandas as pd

from genrecls.corpus.tracks import TEST_SUFFIX
from genrecls.errors import CorpusError, LeakError


def assign_splits(segments: pd.DataFrame, *, split_by: str, random_seed: int = 0) -> pd.DataFrame:
    """Say of every segment whether it is for training, validation or the test.

    The test tracks are those that the corpus names; where it names none, about a fifth, by whole
    groups. Of the rest a fifth is for validation: whole groups with ``split_by='artist'``; whole
    tracks with ``'track'``, so that an artist stands on both sides; with ``'segment'`` segments are
    shuffled and the first 80 % of each genre are for training, as in the original, so that segments
    of one track stand on both sides. The latter two are leaky and are there to show it.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table, with ``genre``, ``group``, ``track_id``, ``sha256``, ``recording``
        and ``split``.
    split_by : {'artist', 'track', 'segment'}
    random_seed : int >= 0

    Returns
    -------
    pd.DataFrame
        The same rows with ``split`` in ``'train', 'validation', 'test'``.

    Raises
    ------
    CorpusError
        If a genre does not stand on every side, or has too few groups for it.
    LeakError
        If a group, a recording or a file stands on two sides that must not share it.

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare(genrecls.Corpus.read("music"), progress=False)
    >>> segments = genrecls.assign_splits(features.segments, split_by="artist")
    >>> sorted(segments["split"].unique())
    ['test', 'train', 'validation']
    """
    segments = segments.reset_index(drop=True).copy()
    split = segments["split"].to_numpy(object)
    if not (split == "test").any():
        split[_grouped_fold(segments, segments["group"], random_seed)] = "test"
    rest = np.flatnonzero(split != "test")
    split[rest] = "train"
    if split_by == "segment":
        held_out = _shuffled_fifth(segments["genre"].iloc[rest].to_numpy(), random_seed)
    else:
        unit = segments[{"artist": "group", "track": "track_id"}[split_by]]
        held_out = _grouped_fold(segments.iloc[rest], unit.iloc[rest], random_seed)
    split[rest[held_out]] = "validation"
    segments["split"] = split.astype(str)
    for genre, sides in segments.groupby("genre")["split"]:
        if gone := {"train", "validation", "test"} - set(sides):
            raise CorpusError(
                f"genre {genre!r} has no tracks for {sorted(gone)}: add some (by other artists)"
            )
    check_no_leak(segments, leaky_validation=split_by != "artist")
    return segments


def assign_folds(segments: pd.DataFrame, *, folds: int = 5, random_seed: int = 0) -> pd.Series:
    """Number of the fold, from 0, that holds each segment out: whole groups, stratified by genre.

    A genre can be tested in no more folds than it has groups. Where it has fewer than ``folds``
    there are fewer folds, so that every fold tests every genre. Named test tracks are not set
    aside: every track is held out once.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table.
    folds : int >= 2
        The most folds wanted.
    random_seed : int >= 0

    Returns
    -------
    pd.Series
        Index as of ``segments``.

    Raises
    ------
    CorpusError
        If a genre has only one group.
    ValueError
        If ``folds`` is below 2.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if folds < 2:
        raise ValueError(f"cross-validation takes 2 folds or more, not {folds}")
    genre, group = segments["genre"].to_numpy(), segments["group"].to_numpy()
    by_genre = segments.groupby("genre")["group"].nunique()
    if by_genre.min() < 2:
        raise CorpusError(
            f"genre {by_genre.idxmin()!r} has one artist: cross-validation holds out whole "
            f"artists, and would train without it. Add tracks by others"
        )
    for n, attempt in itertools.product(range(min(folds, by_genre.min()), 1, -1), range(10)):
        # Seeds of different repeats never meet.
        shuffled = StratifiedGroupKFold(n, shuffle=True, random_state=10 * random_seed + attempt)
        fold = np.empty(len(segments), int)
        for i, (_, held_out) in enumerate(shuffled.split(genre, genre, group)):
            fold[held_out] = i
        counts = pd.crosstab(genre, fold)
        if (counts > 0).all(axis=None):
            return pd.Series(fold, segments.index, name="fold")
    raise CorpusError("no artist-wise folds have every genre on both sides; add artists")


def _grouped_fold(segments: pd.DataFrame, unit: pd.Series, random_seed: int) -> np.ndarray:
    """Positions of about a fifth of the segments: whole units, every genre on both sides."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = unit.groupby(segments["genre"]).nunique()
    if groups.min() < 2:
        raise CorpusError(
            f"genre {groups.idxmin()!r} has too few artists left to hold one out: add tracks by "
            f"others, or name the test tracks ({TEST_SUFFIX} folders or a split column)"
        )
    genre = segments["genre"].to_numpy()
    total = pd.Series(genre).value_counts()
    best, least = None, np.inf
    # Fewer folds, and then other shuffles, where no fold has a part of every genre.
    for n_splits, attempt in itertools.product(range(min(5, groups.min()), 1, -1), range(10)):
        folds = StratifiedGroupKFold(n_splits, shuffle=True, random_state=random_seed + attempt)
        for _, fold in folds.split(genre, genre, unit):
            counts = pd.Series(genre[fold]).value_counts().reindex(total.index, fill_value=0)
            # The wanted fold has a fifth of the segments of every genre.
            off = np.abs(counts / total - 0.2).max()
            if counts.min() > 0 and (counts < total).all() and off < least:
                best, least = fold, off
        if best is not None:
            return best
    raise CorpusError("no artist-wise split has every genre on both sides; add artists")


def _shuffled_fifth(genre: np.ndarray, random_seed: int) -> np.ndarray:
    rng = np.random.default_rng(random_seed)
    held_out = []
    for name in np.unique(genre):
        shuffled = rng.permutation(np.flatnonzero(genre == name))
        held_out.append(shuffled[int(0.8 * len(shuffled)) :])
    return np.concatenate(held_out)


def check_no_leak(segments: pd.DataFrame, *, leaky_validation: bool = False) -> None:
    """Raise :class:`LeakError` if a file, a recording or a group stands on two sides of the split.

    With ``leaky_validation`` train and validation count as one side.
    """
    side = segments["split"]
    if leaky_validation:
        side = side.replace("validation", "train")
    for column, what in (
        ("sha256", "file content"),
        ("recording", "recording (near-duplicates)"),
        ("group", "group"),
    ):
        sides = side.groupby(segments[column]).unique()
        for key, names in sides[sides.str.len() > 1].items():
            paths = segments.loc[segments[column] == key].groupby(side)["path"].first()
            raise LeakError(
                f"the same {what} ({key}) is in {' and '.join(sorted(names))}: "
                f"{' and '.join(map(repr, paths))}. Move the tracks to one side"
            )


def split_hash(segments: pd.DataFrame) -> str:
    """Sixteen hexadecimal digits that name who stands where, and the audio itself."""
    known = "path artist album title genre group sha256 segment split".split()
    columns = [column for column in known if column in segments]
    rows = segments[columns].astype(str).agg("|".join, axis=1)
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:16]
