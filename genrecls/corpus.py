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

from .audio import EXTENSIONS
from .config import GenreclsError

log = logging.getLogger(__name__)

TEST_SUFFIX = "_test"

# Columns that the segments table adds to those of the tracks.
_RESERVED = {"track_id", "group", "sha256", "segment", "start_s", "end_s"}


class CorpusError(GenreclsError, ValueError):
    """A folder or table that is no corpus; the message says what to change."""


class LeakError(GenreclsError, ValueError):
    """The same group, or the same file, stands on two sides of a split."""


@dataclass(frozen=True)
class Corpus:
    """A collection of tracks with their genres.

    Attributes
    ----------
    name : str
        Name of its folder; what is made from it is kept under this name.
    root : Path
    tracks : pd.DataFrame
        One row a track: ``track_id, path, genre, artist, title, group, split, sha256`` and
        whatever other columns a ``tracks.csv`` has. ``path`` is relative to ``root``; ``artist``
        is empty where it is unknown, and then ``group`` is the track itself; ``split`` is
        ``'train'``, ``'test'`` or empty (to be chosen).
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

        ``artist``, ``title`` and ``split`` (``train`` or ``test``) are used where given.

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
        if taken := _RESERVED & set(table.columns):
            raise CorpusError(f"{str(path)!r} has columns {sorted(taken)}; give them other names")
        absent = [p for p in table["path"] if not (path.parent / p).is_file()]
        if absent:
            raise CorpusError(
                f"{str(path)!r} names {len(absent)} files that are not there, first {absent[0]!r}"
            )
        return cls._build(cls.name_of(path), path.parent, table)

    @classmethod
    def from_folder(cls, path: str | Path) -> Corpus:
        """Take each folder as a genre: ``genre/track`` or ``genre/artist/track``.

        Tracks in ``<genre>_test`` are the test tracks of ``<genre>``, as in the original.
        Without a folder for it the artist is read from names like ``Artist - Title.mp3`` (a
        number before the dash is that of the track).

        Raises
        ------
        CorpusError
            If there are not two genres with audio files in them.
        """
        path = Path(path)
        if not path.is_dir():
            raise CorpusError(f"{str(path)!r} is no folder; name one with a folder per genre")
        files = sorted(
            file
            for folder in path.iterdir()
            if folder.is_dir() and not folder.name.startswith(".")
            for file in folder.rglob("*")
            if file.suffix.lower() in EXTENSIONS
            and file.is_file()
            and not file.name.startswith(".")
        )
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
        for column in ("artist", "title", "split"):
            if column not in tracks:
                tracks[column] = ""
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
        tracks["sha256"] = [sha256_of(root / p) for p in tracks["path"]]
        known = tracks["artist"] != ""
        tracks["group"] = np.where(known, "artist:" + tracks["artist"], "track:" + tracks["path"])
        # The same recording under two names must not be torn apart.
        for _, copies in tracks[tracks["sha256"].duplicated(keep=False)].groupby("sha256"):
            together = tracks.loc[copies.index, "group"]
            tracks.loc[tracks["group"].isin(together), "group"] = together.iloc[0]
        if not known.all():
            log.info("%d of %d tracks name no artist", (~known).sum(), len(tracks))
        first = ["track_id", "path", "genre", "artist", "title", "group", "split", "sha256"]
        rest = [column for column in tracks if column not in first]
        return cls(name, root, tracks[first + rest].reset_index(drop=True))


def sha256_of(path: Path) -> str:
    """Hash of the content of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def assign_splits(segments: pd.DataFrame, *, method: str, random_seed: int = 0) -> pd.DataFrame:
    """Say of every piece whether it is for training, validation or the test.

    The test tracks are those that the corpus names; where it names none, about a fifth, by whole
    groups. Of the rest a fifth is for validation: whole groups with ``method='artist'``; with
    ``method='piece'`` pieces are shuffled and the first 80 % of each genre are for training, as in
    the original, so that pieces of one track stand on both sides. The latter is leaky and is
    there to show it.

    Parameters
    ----------
    segments : pd.DataFrame
        The segments table, with ``genre``, ``group``, ``track_id``, ``sha256`` and ``split``.
    method : {'artist', 'piece'}
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
        If a group or a file stands on two sides that must not share it.
    """
    segments = segments.reset_index(drop=True).copy()
    split = segments["split"].to_numpy(object)
    if not (split == "test").any():
        split[_grouped_fold(segments, random_seed)] = "test"
    rest = np.flatnonzero(split != "test")
    split[rest] = "train"
    if method == "artist":
        held_out = rest[_grouped_fold(segments.iloc[rest], random_seed)]
    else:
        held_out = rest[_shuffled_fifth(segments["genre"].iloc[rest].to_numpy(), random_seed)]
    split[held_out] = "validation"
    segments["split"] = split.astype(str)
    for genre, sides in segments.groupby("genre")["split"]:
        if gone := {"train", "validation", "test"} - set(sides):
            raise CorpusError(
                f"genre {genre!r} has no tracks for {sorted(gone)}: add some (by other artists)"
            )
    check_no_leak(segments, leaky_validation=method == "piece")
    return segments


def _grouped_fold(segments: pd.DataFrame, random_seed: int) -> np.ndarray:
    """Positions of about a fifth of the pieces: whole groups, every genre on both sides."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = segments.groupby("genre")["group"].nunique()
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
        for _, fold in folds.split(genre, genre, segments["group"]):
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
    """Raise :class:`LeakError` if a group, or a file, stands on two sides of the split.

    With ``leaky_validation`` train and validation count as one side.
    """
    side = segments["split"]
    if leaky_validation:
        side = side.replace("validation", "train")
    for column, what in (("group", "group"), ("sha256", "file content")):
        sides = side.groupby(segments[column]).agg(lambda s: sorted(set(s)))
        for key, names in sides.items():
            if len(names) > 1:
                paths = segments.loc[segments[column] == key].groupby(side)["path"].first()
                raise LeakError(
                    f"the same {what} ({key}) is in {' and '.join(names)}: "
                    f"{' and '.join(map(repr, paths))}. Move the tracks to one side"
                )


def split_hash(segments: pd.DataFrame) -> str:
    """Sixteen hexadecimal digits that name who stands where, and the audio itself."""
    known = "path artist title genre group sha256 segment split".split()
    columns = [column for column in known if column in segments]
    rows = segments[columns].astype(str).agg("|".join, axis=1)
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()[:16]


def split_table(segments: pd.DataFrame) -> pd.DataFrame:
    """Pieces and tracks per split and genre, as in the original's table of proportions."""
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
