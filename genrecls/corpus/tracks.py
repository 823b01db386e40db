"""A corpus: tracks with their genres, artists and groups, read from folders or from a table."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from genrecls._utils.cache import memoize
from genrecls._utils.io import hash_file
from genrecls._utils.names import claim_name
from genrecls._utils.paths import expand_user
from genrecls.corpus.folders import (
    UNREADABLE,
    find_audio_files,
    left_out_table,
    read_folders,
    require_utf8,
    summarize_left_out,
)
from genrecls.corpus.groups import merge_groups
from genrecls.corpus.names import (
    artist_key,
    drop_track_numbers,
    genre_key,
    main_artist,
    unify_genres,
)
from genrecls.corpus.table import read_table
from genrecls.errors import CorpusError

log = logging.getLogger(__name__)

_TABLE = "tracks.csv"
_BACKGROUND = "other"  # folder or genre of sound that is none of the genres
# Result tables use these names for columns, rows or labels.
_NOT_GENRES = {"genre", "run", "transformation", "macro", "all genres", "not sure", "none of these"}
_OPTIONAL = ["artist", "album", "title", "split"]
_COLUMNS = "track_id path genre artist album title group grouped_by split sha256".split()


@dataclass(frozen=True)
class Corpus:
    """A collection of tracks with their genres.

    Attributes
    ----------
    name : str
        Name of the folder; see :meth:`corpus_name`. All results are kept under this name.
    root : Path
        Folder to which the paths of the tracks are relative.
    tracks : pd.DataFrame
        One row per track: ``track_id, path, genre, artist, album, title, group, grouped_by, split,
        sha256`` and the other columns of a ``tracks.csv``. Tracks in one ``group`` are kept on the
        same side of every split. ``grouped_by`` names the meaning of the group: the ``artist``
        where known, else the ``album``, else the ``track`` itself. ``split`` is ``'train'``,
        ``'validation'``, ``'test'`` or empty (to be chosen).
    left_out : pd.DataFrame
        One row per file or folder that is not used: ``path, problem, detail``.
    background : tuple of Path
        Files in the folder or of the genre ``other``: sound that is none of the genres.

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
    left_out: pd.DataFrame = field(default_factory=lambda: left_out_table([]))
    background: tuple[Path, ...] = ()

    @property
    def genres(self) -> list[str]:
        """Names of the genres in alphabetical order, which is the order of the classes."""
        return sorted(self.tracks["genre"].unique())

    def file(self, path: str) -> Path:
        """Return the file of a track, given its value in the column ``path``."""
        return self.root / path

    @staticmethod
    def corpus_name(path: str | Path) -> str:
        """Return the name of the corpus in a folder or table.

        It is the name of the folder; a table that is not called ``tracks.csv`` adds its own name.
        If a corpus in another place already has this name, a number is added, as in ``music-2``.
        """
        root = expand_user(path).resolve()
        if root.is_file() and root.name == _TABLE:
            root = root.parent
        name = f"{root.parent.name}-{root.stem}" if root.is_file() else root.name
        name = name or "music"  # of a whole disk
        return claim_name(name, root)

    @classmethod
    def read(cls, path: Corpus | str | os.PathLike) -> Corpus:
        """Read a corpus from a table or from genre folders.

        Parameters
        ----------
        path : str, path-like or Corpus
            A table, a folder with a table ``tracks.csv``, or a folder with one folder per genre. A
            corpus is returned as it is.

        Raises
        ------
        CorpusError
            If a file or a column is missing, or there are fewer than two genres.

        Notes
        -----
        A table has the columns ``path`` (relative to the table, or absolute) and ``genre``, and may
        have ``artist``, ``album``, ``title``, ``split`` (``train``, ``validation`` or ``test``) and
        any others. Commas, semicolons, tabs or ``|`` separate its columns.

        Genre folders contain ``genre/track``, ``genre/artist/track`` or
        ``genre/artist/album/track``; deeper folders do not matter. They may be in folders of splits
        (``train/genre``), contain such folders (``genre/train``), or be named after them
        (``genre_test``, as in the original).

        The artist of a track is that of the table, else the artist folder, else the first part of a
        name such as ``Artist - Title.mp3``, else the tag of the file; the album of the tag goes
        with it. Where a folder or a name begins with a number, as in ``01. Artist - Title.mp3`` and
        ``50 Cent - Title.mp3``, the tag comes first. Without a tag, the number is dropped if a sign
        or a zero shows that it is one of a track, or if the artist is there without it.

        Spellings that differ in case, Unicode form, spaces or dashes are one artist or genre. In
        artists, a featured one (``A feat. B``) and the article (``Beatles, The``) do not matter.

        The folder or genre ``other`` (in any case) is not a genre but background: music that a
        model with an embedding shall call "none of these".

        A file that is not used is in ``left_out``, and a line on each problem is logged.
        """
        if isinstance(path, Corpus):
            return path
        path, numbered = expand_user(path), None
        file = path if path.is_file() else path / _TABLE
        if file.is_file():
            tracks = read_table(file)
            left_out = _find_unlisted(file, tracks)
        else:
            tracks, left_out = read_folders(path)
            numbered = tracks.pop("numbered")
        # The current folder may change, and that of a worker process may be another one.
        root = file.parent.absolute()
        is_other = tracks["genre"].map(genre_key) == _BACKGROUND
        others, lost = _hash_files(root, tracks[is_other])
        background = tuple(root / path for path in others["path"])
        if is_other.any():
            log.warning("%d tracks of 'other' are background, not a genre", len(background))
        tracks, unreadable = _complete(root, tracks[~is_other], numbered)
        left_out = pd.concat([left_out, lost, unreadable], ignore_index=True)
        for line in summarize_left_out(left_out):
            log.warning("%s", line)
        return cls(_check_name(cls.corpus_name(path)), root, tracks, left_out, background)


def _check_name(name: str) -> str:
    require_utf8(name)
    if os.fsencode(name).decode("utf-8", "ignore") != name:
        raise CorpusError(f"the name of the folder {name!a} is not valid UTF-8; rename it")
    return name


def _find_unlisted(file: Path, tracks: pd.DataFrame) -> pd.DataFrame:
    """Tabulate what is not listed in the table of a folder; any other table names a choice."""
    if file.name != _TABLE:
        return left_out_table([])
    files, left_out = find_audio_files(file.parent)
    paths = {path.relative_to(file.parent).as_posix() for path in files}
    unlisted = sorted(paths - set(tracks["path"]))
    rows = left_out_table([(path, f"not in {_TABLE}", "") for path in unlisted])
    used = left_out["path"].isin({_TABLE, *tracks["path"]})
    return pd.concat([left_out[~used], rows], ignore_index=True)


def _complete(
    root: Path, tracks: pd.DataFrame, numbered: pd.Series | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill in missing columns from tags and content; return tracks and the unreadable ones."""
    tracks = tracks.assign(**{name: "" for name in _OPTIONAL if name not in tracks})
    tracks["genre"] = unify_genres(tracks["genre"].tolist())
    if taken := sorted(set(tracks["genre"]) & _NOT_GENRES):
        raise CorpusError(f"{taken[0]!r} has another meaning in tables; rename this genre")
    tracks, unreadable = _hash_files(root, tracks)
    if tracks["genre"].nunique() < 2:
        genre = ", ".join(map(repr, tracks["genre"].unique())) or "'other'"
        advice = "add tracks of another one ('other' is background, not a genre)"
        raise CorpusError(f"{str(root)!r} has only one genre, {genre}; {advice}")
    tracks = _fill_artists(root, tracks, numbered)
    artists = tracks[tracks["artist"] != ""].groupby("genre")["artist"].agg(frozenset)
    if artists.nunique() == 1 and len(artists.iloc[0]) > 1:
        log.warning(
            "every genre has the same artists, %s; if these are the genres, name the folders above "
            "them after splits, such as train and test",
            ", ".join(sorted(artists.iloc[0])),
        )
    stems = [Path(path).stem for path in tracks["path"]]
    tracks["title"] = tracks["title"].where(tracks["title"] != "", stems)
    # Where test tracks are named and those for training are not, all others are for training.
    if (tracks["split"] == "test").any() and not (tracks["split"] == "train").any():
        tracks["split"] = tracks["split"].replace("", "train")
    # Titles may repeat, so that the path identifies a track.
    tracks["track_id"] = [hashlib.sha256(p.encode()).hexdigest()[:12] for p in tracks["path"]]
    keys = tracks["artist"].map(artist_key).tolist()
    known = set(keys)
    columns = ([main_artist(key, known) for key in keys], tracks["album"], tracks["path"])
    tracks[["grouped_by", "group"]] = [_group(*names) for names in zip(*columns, strict=True)]
    # Copies of a file under two names must stay on the same side of a split.
    tracks["group"] = merge_groups(tracks["group"], tracks["sha256"])
    others = [column for column in tracks if column not in _COLUMNS]
    return tracks[_COLUMNS + others].reset_index(drop=True), unreadable


def _fill_artists(root: Path, tracks: pd.DataFrame, numbered: pd.Series | None) -> pd.DataFrame:
    """Take artists and albums from tags, where they are unknown or a number makes them unsure.

    ``numbered`` marks such artists in folders; those in tables are never unsure.
    """
    artists = tracks["artist"].where(tracks["artist"].map(artist_key) != "", "")
    rows = tracks.index[(artists == "") | (False if numbered is None else numbered[tracks.index])]
    files = [root / path for path in tracks.loc[rows, "path"]]
    # The report reads a corpus without a decoder, as long as the tags are known.
    tags = memoize("tags", _read_tags, files)
    albums = tracks["album"].copy()
    for i, found in zip(rows, tags, strict=True):
        if artist_key(found.get("artist", "")):
            artists[i] = found["artist"]
        albums[i] = albums[i] or found.get("album", "")
    names = artists if numbered is None else drop_track_numbers(artists.tolist())
    return tracks.assign(artist=names, album=albums)


def _read_tags(file: Path) -> dict[str, str]:
    from genrecls.audio.tags import read_tags

    return read_tags(file)


def _hash_files(root: Path, tracks: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add ``sha256``; leave out and tabulate the files that cannot be read."""
    reasons: dict[Path, str] = {}

    def hash_or_note(file: Path) -> str | None:
        try:
            return hash_file(file)
        except OSError as error:
            reasons[file] = str(error.strerror)
            return None

    files = [root / path for path in tracks["path"]]
    tracks = tracks.assign(sha256=memoize("file_hashes", hash_or_note, files))
    used, lost = tracks.dropna(subset="sha256"), tracks[tracks["sha256"].isna()]
    why = [reasons[root / path] for path in lost["path"]]
    if gone := sorted(set(lost["genre"]) - set(used["genre"])):
        first = lost["genre"].tolist().index(gone[0])
        raise CorpusError(
            f"no track of genre {gone[0]!r} can be read; the first one: "
            f"{lost['path'].iloc[first]!r} ({why[first]})"
        )
    return used.copy(), left_out_table(
        [(p, UNREADABLE, w) for p, w in zip(lost["path"], why, strict=True)]
    )


def _group(artist: str, album: str, path: str) -> tuple[str, str]:
    """Return the kind and the name of the group of a track."""
    for kind, key in (("artist", artist), ("album", artist_key(album))):
        if key:
            return kind, f"{kind}:{key}"
    return "track", f"track:{path}"
