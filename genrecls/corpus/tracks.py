"""Read the tracks of a corpus from genre folders or from a table."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from genrecls import audio
from genrecls._utils.cache import memoize
from genrecls._utils.io import hash_file
from genrecls.errors import CorpusError

#: Ending of the name of a folder that holds the test tracks of a genre.
TEST_SUFFIX = "_test"
# Endings by which sound files are recognized in a folder.
_EXTENSIONS = set(
    ".aac .aif .aiff .au .caf .flac .m4a .m4b .mka .mkv .mov .mp3 .mp4 .oga .ogg .opus .wav "
    ".wave .webm .wma".split()
)
_OPTIONAL = ["artist", "album", "title", "split"]
_COLUMNS = "track_id path genre artist album title group grouped_by split sha256".split()
# Columns that later stages add to the table.
_RESERVED = set(
    "track_id group grouped_by sha256 recording segment start_s end_s sounding "
    "run repeat fold predicted temperature track_temperature".split()
)


@dataclass(frozen=True)
class Corpus:
    """A collection of tracks with their genres.

    Attributes
    ----------
    name : str
        Name of the folder. Everything that is computed from the corpus is kept under this name.
    root : Path
        Folder to which the paths of the tracks are relative.
    tracks : pd.DataFrame
        One row per track: ``track_id, path, genre, artist, album, title, group, grouped_by, split,
        sha256`` and the other columns of a ``tracks.csv``. Tracks in one ``group`` are kept on the
        same side of every split. ``grouped_by`` names the meaning of the group: the ``artist``
        where known, else the ``album``, else the ``track`` itself. ``split`` is ``'train'``,
        ``'test'`` or empty (to be chosen).

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
        """Names of the genres in alphabetical order, which is the order of the classes."""
        return sorted(self.tracks["genre"].unique())

    def file(self, path: str) -> Path:
        """Return the file of a track, given its value in the column ``path``."""
        return self.root / path

    @staticmethod
    def corpus_name(path: str | Path) -> str:
        """Return the name of the corpus in a folder or table.

        It is the name of the folder; a table that is not called ``tracks.csv`` adds its own name.
        """
        path = Path(path).resolve()
        if not path.is_file():
            return path.name
        return path.parent.name + ("" if path.name == "tracks.csv" else f"-{path.stem}")

    @classmethod
    def of(cls, corpus: Corpus | str | os.PathLike) -> Corpus:
        """Return a corpus, or read the one in a path; see :meth:`read`.

        Parameters
        ----------
        corpus : Corpus or path-like
            A corpus, or the path of one.
        """
        return corpus if isinstance(corpus, Corpus) else cls.read(Path(corpus))

    @classmethod
    def read(cls, path: str | Path) -> Corpus:
        """Read a corpus from a table or from genre folders.

        Parameters
        ----------
        path : str or path-like
            A table, a folder with a table ``tracks.csv``, or a folder with one folder per genre.

        Raises
        ------
        CorpusError
            If a file or a column is missing, or there are fewer than two genres.

        Notes
        -----
        A table has the columns ``path`` (relative to the table) and ``genre``, and may have
        ``artist``, ``album``, ``title``, ``split`` (``train`` or ``test``) and any others.

        Genre folders contain ``genre/track``, ``genre/artist/track`` or
        ``genre/artist/album/track``; test tracks may be in ``<genre>_test``, as in the original.
        Without an artist folder, the artist comes from a name such as ``Artist - Title.mp3``.

        Where the artist is still unknown, artist and album come from the tags of the file.
        """
        path = Path(path)
        file = path if path.is_file() else path / "tracks.csv"
        tracks = _read_table(file) if file.is_file() else _read_folders(path)
        # The current folder may change, and that of a worker process may be another one.
        root = file.parent.absolute()
        return cls(cls.corpus_name(path), root, _complete(root, tracks))


def _read_table(file: Path) -> pd.DataFrame:
    name = repr(str(file))
    try:
        tracks = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise CorpusError(f"{name} is neither a folder nor a table in UTF-8: {error}") from error
    if missing := sorted({"path", "genre"} - set(tracks.columns)):
        raise CorpusError(f"{name} has no column {missing}; add it")
    if taken := sorted(c for c in map(str, tracks) if c in _RESERVED or c.startswith("prob_")):
        raise CorpusError(f"{name} has columns with reserved names; rename {taken}")
    if absent := [path for path in tracks["path"] if not (file.parent / path).is_file()]:
        raise CorpusError(
            f"{name} lists {len(absent)} files that do not exist, first {absent[0]!r}; paths are "
            f"relative to the folder of the table"
        )
    return tracks


def _read_folders(root: Path) -> pd.DataFrame:
    if not root.is_dir():
        raise CorpusError(f"{str(root)!r} is not a folder; name one with a folder per genre")
    folders = [item for item in root.iterdir() if item.is_dir() and item.name[0] != "."]
    files = sorted(file for folder in folders for file in find_audio_files(folder))
    if not files:
        raise CorpusError(
            f"no audio files in the folders of {str(root)!r}; put each genre in its own folder"
        )
    return pd.DataFrame([_describe_file(file.relative_to(root)) for file in files])


def _describe_file(path: Path) -> dict[str, str]:
    genre, *between, _ = path.parts
    artist, dash, title = path.stem.partition(" - ")
    if artist.strip(" .").isdecimal():
        artist, dash, title = title.rpartition(" - ")
    return {
        "path": path.as_posix(),
        "genre": genre.removesuffix(TEST_SUFFIX),
        "artist": between[0] if between else artist if dash else "",
        "album": between[1] if len(between) > 1 else "",
        "title": title or path.stem,
        "split": "test" if genre.endswith(TEST_SUFFIX) else "",
    }


def _complete(root: Path, tracks: pd.DataFrame) -> pd.DataFrame:
    """Fill in missing columns from tags and content, and check the values."""
    tracks = tracks.assign(**{name: "" for name in _OPTIONAL if name not in tracks})
    _check(repr(str(root)), tracks)
    unknown = tracks.index[tracks["artist"].str.strip() == ""]
    files = [root / path for path in tracks["path"]]
    tags = memoize("tags", audio.read_tags, [files[i] for i in unknown])
    for i, found in zip(unknown, tags, strict=True):
        tracks.loc[i, "artist"] = found.get("artist", "")
        tracks.loc[i, "album"] = tracks.loc[i, "album"] or found.get("album", "")
    stems = [file.stem for file in files]
    tracks["title"] = tracks["title"].where(tracks["title"] != "", stems)
    # Where test tracks are named, all other tracks are for training.
    if (tracks["split"] == "test").any():
        tracks["split"] = tracks["split"].replace("", "train")
    # Titles may repeat, so that the path identifies a track.
    tracks["track_id"] = [hashlib.sha256(p.encode()).hexdigest()[:12] for p in tracks["path"]]
    tracks["sha256"] = memoize("file_hashes", hash_file, files)
    columns = (tracks[name] for name in ("artist", "album", "path"))
    tracks[["grouped_by", "group"]] = [_group(*names) for names in zip(*columns, strict=True)]
    # Copies of a file under two names must stay on the same side of a split.
    tracks["group"] = merge_groups(tracks["group"], tracks["sha256"])
    others = [column for column in tracks if column not in _COLUMNS]
    return tracks[_COLUMNS + others].reset_index(drop=True)


def _check(name: str, tracks: pd.DataFrame) -> None:
    if not len(tracks):
        raise CorpusError(f"{name} has no rows in its table; add a row per track")
    for path in tracks["path"]:
        if os.fsencode(path).decode("utf-8", "ignore") != path:
            raise CorpusError(f"the name {path!r} is not valid UTF-8; rename the file")
    if unknown := sorted(set(tracks["split"]) - {"", "train", "test"}):
        raise CorpusError(f"{name}: split must be 'train', 'test' or empty, not {unknown}")
    if (twice := tracks["path"].duplicated()).any():
        path = tracks.loc[twice, "path"].iloc[0]
        raise CorpusError(f"{name} lists {path!r} twice; remove one of the rows")
    if tracks["genre"].nunique() < 2:
        genre = tracks["genre"].iloc[0]
        raise CorpusError(f"{name} has only one genre, {genre!r}; add tracks of another genre")


def _group(artist: str, album: str, path: str) -> tuple[str, str]:
    """Return the kind and the name of the group of a track."""
    for kind, name in (("artist", artist), ("album", album)):
        if name.strip():
            # Spellings that differ only in case and spaces are the same name.
            return kind, f"{kind}:{' '.join(name.casefold().split())}"
    return "track", f"track:{path}"


def find_audio_files(folder: Path) -> list[Path]:
    """Find the audio and video files in a folder and its subfolders.

    Parameters
    ----------
    folder : Path
        Folder to search, without its hidden files and folders.

    Returns
    -------
    list of Path
        Files with a known file name extension, sorted.
    """
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in _EXTENSIONS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def merge_groups(groups: pd.Series, same: pd.Series) -> list[str]:
    """Merge groups until rows with the same key are in the same group."""
    group, names = pd.factorize(groups, sort=True)
    key, keys = pd.factorize(same)
    n = len(names) + len(keys)
    # Groups and keys are the nodes of a graph, and each row is an edge between them.
    edges = coo_array((np.ones(len(groups)), (group, len(names) + key)), shape=(n, n))
    _, component = connected_components(edges, directed=False)
    # Merged groups get the alphabetically first of their names, which are sorted.
    first = pd.Series(names).groupby(component[: len(names)]).first()
    return first[component[group]].tolist()
