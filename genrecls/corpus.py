"""Folders of music, or a table of them, to the tracks table; tracks and pieces to splits."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .audio import EXTENSIONS, read_tags
from .config import GenreclsError
from .files import remembered, sha256_of

log = logging.getLogger(__name__)

TEST_SUFFIX = "_test"

# Columns that the segments table adds to those of the tracks.
_RESERVED = set(
    "track_id group grouped_by sha256 recording segment start_s end_s silent "
    "run repeat fold predicted temperature track_temperature".split()
)


class CorpusError(GenreclsError, ValueError):
    """A folder or table that is no corpus; the message says what to change."""


class LeakError(GenreclsError, ValueError):
    """The same group, recording or file stands on two sides of a split."""


@dataclass(frozen=True)
class Corpus:
    """A collection of tracks with their genres.

    Attributes
    ----------
    name : str
        Name of its folder; what is made from it is kept under this name.
    root : Path
    tracks : pd.DataFrame
        One row a track: ``track_id, path, genre, artist, album, title, group, grouped_by, split,
        sha256`` and whatever other columns a ``tracks.csv`` has. ``path`` is relative to
        ``root``. Tracks of one ``group`` never stand on two sides of a split; ``grouped_by`` says
        what it is: the ``artist`` where known, else the ``album``, else the ``track`` itself.
        ``split`` is ``'train'``, ``'test'`` or empty (to be chosen).

    Examples
    --------
    >>> import genrecls
    >>> corpus = genrecls.Corpus.read("music")
    >>> corpus.genres
    ['classique', 'jazz', 'rap']
    >>> len(corpus.tracks)
    15
    """

    name: str
    root: Path
    tracks: pd.DataFrame

    @property
    def genres(self) -> list[str]:
        """Names of the genres in the order of the classes (alphabetical)."""
        return sorted(self.tracks["genre"].unique())

    def file(self, path: str) -> Path:
        """Where a track of the table lies."""
        return self.root / path

    @staticmethod
    def name_of(path: str | Path) -> str:
        """Name of the corpus in a folder or table: that of the folder, and of the table if it
        is not called ``tracks.csv``."""
        path = Path(path).resolve()
        if not path.is_file():
            return path.name
        return path.parent.name + ("" if path.name == "tracks.csv" else f"-{path.stem}")

    @classmethod
    def read(cls, path: str | Path) -> Corpus:
        """A ``tracks.csv``, a folder that has one, or a folder of genre folders."""
        path = Path(path)
        if path.is_file():
            return cls.from_csv(path)
        if (path / "tracks.csv").is_file():
            return cls.from_csv(path / "tracks.csv")
        return cls.from_folder(path)

    @classmethod
    def from_csv(cls, path: str | Path) -> Corpus:
        """Read a table with at least ``path`` (relative to the table) and ``genre``.

        ``artist``, ``album``, ``title`` and ``split`` (``train`` or ``test``) are used where
        given; where ``artist`` is empty, the tags of the file are asked for artist and album.
        Other columns are kept as they are.

        Raises
        ------
        CorpusError
            If a column or a file is missing.
        """
        path = Path(path)
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (ValueError, OSError) as error:
            raise CorpusError(
                f"{str(path)!r} is neither a folder nor a table in UTF-8: {error}"
            ) from error
        missing = {"path", "genre"} - set(table.columns)
        if missing:
            raise CorpusError(f"{str(path)!r} has no column {sorted(missing)}; add it")
        if taken := [c for c in table if c in _RESERVED or c.startswith("prob_")]:
            raise CorpusError(f"{str(path)!r} has columns {sorted(taken)}; give them other names")
        absent = [p for p in table["path"] if not (path.parent / p).is_file()]
        if absent:
            raise CorpusError(
                f"{str(path)!r} names {len(absent)} files that are not there, first {absent[0]!r}"
            )
        return cls._build(cls.name_of(path), path.parent, table)

    @classmethod
    def from_folder(cls, path: str | Path) -> Corpus:
        """Take each folder as a genre: ``genre/track``, ``genre/artist/track`` or
        ``genre/artist/album/track``.

        Tracks in ``<genre>_test`` are the test tracks of ``<genre>``, as in the original.
        Without a folder for it the artist is read from names like ``Artist - Title.mp3`` (a
        number before the dash is that of the track), and else from the tags of the file.

        Raises
        ------
        CorpusError
            If there are not two genres with audio files in them.
        """
        path = Path(path)
        if not path.is_dir():
            raise CorpusError(f"{str(path)!r} is no folder; name one with a folder per genre")
        folders = (item for item in path.iterdir() if item.is_dir())
        files = sorted(
            file for folder in folders if not folder.name.startswith(".")
            for file in sound_files(folder)
        )  # fmt: skip
        rows = []
        for file in files:
            folder, *between, _ = file.relative_to(path).parts
            by_name, dash, title = file.stem.partition(" - ")
            if by_name.strip(" .").isdecimal():
                by_name, dash, title = title.rpartition(" - ")
            rows.append(
                {
                    "path": file.relative_to(path).as_posix(),
                    "genre": folder.removesuffix(TEST_SUFFIX),
                    "artist": between[0] if between else by_name if dash else "",
                    "album": between[1] if len(between) > 1 else "",
                    "title": title or file.stem,
                    "split": "test" if folder.endswith(TEST_SUFFIX) else "",
                }
            )
        if not rows:
            raise CorpusError(
                f"no audio files in the folders of {str(path)!r}; put each genre in its own folder"
            )
        return cls._build(cls.name_of(path), path, pd.DataFrame(rows))

    @classmethod
    def _build(cls, name: str, root: Path, table: pd.DataFrame) -> Corpus:
        tracks = table.copy()
        if not len(tracks):
            raise CorpusError(f"{str(root)!r}: the table has no rows")
        for path in tracks["path"]:
            if os.fsencode(path).decode("utf-8", "ignore") != path:
                raise CorpusError(f"the name {path!r} is not valid UTF-8; rename the file")
        for column in ("artist", "album", "title", "split"):
            if column not in tracks:
                tracks[column] = ""
        nameless = tracks.index[tracks["artist"].str.strip() == ""]
        files = [root / path for path in tracks.loc[nameless, "path"]]
        for i, tags in zip(nameless, remembered("tags-1", read_tags, files), strict=True):
            tracks.at[i, "artist"] = tags.get("artist", "")
            tracks.at[i, "album"] = tracks.at[i, "album"] or tags.get("album", "")
        tracks["title"] = tracks["title"].where(
            tracks["title"] != "", [Path(p).stem for p in tracks["path"]]
        )
        strange = set(tracks["split"]) - {"", "train", "test"}
        if strange:
            raise CorpusError(f"split is 'train', 'test' or empty, not {sorted(strange)}")
        # With test tracks named, all the others are there to train on.
        if (tracks["split"] == "test").any():
            tracks["split"] = tracks["split"].replace("", "train")
        if tracks["path"].duplicated().any():
            twice = tracks.loc[tracks["path"].duplicated(), "path"].iloc[0]
            raise CorpusError(f"{twice!r} stands twice in the table")
        if tracks["genre"].nunique() < 2:
            raise CorpusError(
                f"{str(root)!r} has one genre, {tracks['genre'].iloc[0]!r}; it takes two or more "
                f"(a folder each)"
            )
        # Titles may repeat: the path is what tells tracks apart.
        tracks["track_id"] = [hashlib.sha256(p.encode()).hexdigest()[:12] for p in tracks["path"]]
        tracks["sha256"] = remembered("sha256", sha256_of, [root / p for p in tracks["path"]])
        tracks["grouped_by"], tracks["group"] = zip(
            *map(_group, tracks["artist"], tracks["album"], tracks["path"]), strict=True
        )
        # The same recording under two names must not be torn apart.
        tracks["group"] = merged_groups(tracks["group"], tracks["sha256"])
        if unknown := (tracks["artist"] == "").sum():
            log.info("%d of %d tracks name no artist", unknown, len(tracks))
        first = "track_id path genre artist album title group grouped_by split sha256".split()
        rest = [column for column in tracks if column not in first]
        return cls(name, root, tracks[first + rest].reset_index(drop=True))


def sound_files(folder: Path) -> list[Path]:
    """Sound and video files anywhere in a folder, by their endings, without hidden ones."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in EXTENSIONS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _group(artist: str, album: str, path: str) -> tuple[str, str]:
    """What a track is grouped by, and the name of its group."""
    for by, name in (("artist", artist), ("album", album)):
        if name.strip():
            return by, f"{by}:{_spelled(name)}"
    return "track", f"track:{path}"


def _spelled(name: str) -> str:
    """A name without what different spellings of it differ in: case and spaces."""
    return " ".join(name.casefold().split())


def merged_groups(groups: pd.Series, same: pd.Series) -> list[str]:
    """Groups such that rows equal in ``same`` share one: the first name of all that are joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group_of, names = pd.factorize(groups, sort=True)
    same_of, keys = pd.factorize(same)
    edges = (np.ones(len(groups)), (group_of, len(names) + same_of))
    n = len(names) + len(keys)
    _, component = connected_components(coo_array(edges, shape=(n, n)), directed=False)
    # The names are sorted, so that the first of a component is also the first of the alphabet.
    first = pd.Series(names).groupby(component[: len(names)]).first()
    return first[component[group_of]].tolist()


def assign_splits(segments: pd.DataFrame, *, method: str, random_seed: int = 0) -> pd.DataFrame:
    """Say of every piece whether it is for training, validation or the test.

    The test tracks are those that the corpus names; where it names none, about a fifth, by whole
    groups. Of the rest a fifth is for validation: whole groups with ``method='artist'``; whole
    tracks with ``'track'``, so that an artist stands on both sides; with ``'piece'`` pieces are
    shuffled and the first 80 % of each genre are for training, as in the original, so that pieces
    of one track stand on both sides. The latter two are leaky and are there to show it.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table, with ``genre``, ``group``, ``track_id``, ``sha256``, ``recording``
        and ``split``.
    method : {'artist', 'track', 'piece'}
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
    >>> segments = genrecls.assign_splits(features.segments, method="artist")
    >>> sorted(segments["split"].unique())
    ['test', 'train', 'validation']
    """
    segments = segments.reset_index(drop=True).copy()
    split = segments["split"].to_numpy(object)
    if not (split == "test").any():
        split[_grouped_fold(segments, segments["group"], random_seed)] = "test"
    rest = np.flatnonzero(split != "test")
    split[rest] = "train"
    if method == "piece":
        held_out = _shuffled_fifth(segments["genre"].iloc[rest].to_numpy(), random_seed)
    else:
        unit = segments[{"artist": "group", "track": "track_id"}[method]]
        held_out = _grouped_fold(segments.iloc[rest], unit.iloc[rest], random_seed)
    split[rest[held_out]] = "validation"
    segments["split"] = split.astype(str)
    for genre, sides in segments.groupby("genre")["split"]:
        if gone := {"train", "validation", "test"} - set(sides):
            raise CorpusError(
                f"genre {genre!r} has no tracks for {sorted(gone)}: add some (by other artists)"
            )
    check_no_leak(segments, leaky_validation=method != "artist")
    return segments


def assign_folds(segments: pd.DataFrame, *, folds: int = 5, random_seed: int = 0) -> pd.Series:
    """Number of the fold, from 0, that holds each piece out: whole groups, stratified by genre.

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
    """Positions of about a fifth of the pieces: whole units, every genre on both sides."""
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
            # The wanted fold has a fifth of the pieces of every genre.
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


def split_table(segments: pd.DataFrame) -> pd.DataFrame:
    """Pieces and tracks per split and genre, as in the original's table of proportions.

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare(genrecls.Corpus.read("music"), progress=False)
    >>> table = genrecls.split_table(genrecls.assign_splits(features.segments, method="artist"))
    >>> table.loc["test", ("rap", "artists")].item()
    2
    """
    order = [s for s in ("train", "validation", "test") if s in set(segments["split"])]
    by = segments.groupby(["split", "genre"])
    counts = pd.DataFrame(
        {
            "pieces": by.size(),
            "tracks": by["track_id"].nunique(),
            "artists": by["group"].nunique(),
        }
    )
    by_genre = counts.unstack("genre").swaplevel(axis=1)
    return by_genre.sort_index(axis=1, level=0, sort_remaining=False).loc[order]
