"""Folders of music, or a table of them, to the tracks table; tracks and segments to splits."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from genrecls._utils.io import hash_file, memoize
from genrecls.audio.decode import EXTENSIONS
from genrecls.audio.tags import read_tags
from genrecls.errors import CorpusError

log = logging.getLogger(__name__)

TEST_SUFFIX = "_test"

# Columns that the segments table adds to those of the tracks.
_RESERVED = set(
    "track_id group grouped_by sha256 recording segment start_s end_s silent "
    "run repeat fold predicted temperature track_temperature".split()
)


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
    def corpus_name(path: str | Path) -> str:
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
        return cls._build(cls.corpus_name(path), path.parent, table)

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
            for file in find_audio_files(folder)
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
        return cls._build(cls.corpus_name(path), path, pd.DataFrame(rows))

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
        for i, tags in zip(nameless, memoize("tags-1", read_tags, files), strict=True):
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
        tracks["sha256"] = memoize("sha256", hash_file, [root / p for p in tracks["path"]])
        tracks["grouped_by"], tracks["group"] = zip(
            *map(_group, tracks["artist"], tracks["album"], tracks["path"]), strict=True
        )
        # The same recording under two names must not be torn apart.
        tracks["group"] = merge_groups(tracks["group"], tracks["sha256"])
        if unknown := (tracks["artist"] == "").sum():
            log.info("%d of %d tracks name no artist", unknown, len(tracks))
        first = "track_id path genre artist album title group grouped_by split sha256".split()
        rest = [column for column in tracks if column not in first]
        return cls(name, root, tracks[first + rest].reset_index(drop=True))


def find_audio_files(folder: Path) -> list[Path]:
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


def merge_groups(groups: pd.Series, same: pd.Series) -> list[str]:
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
