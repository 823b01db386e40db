"""Find the sound files of a folder, list all other files, and read genres and splits."""

import os
import re
import sys
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from genrecls._utils.io import printable
from genrecls.corpus.names import (
    ONLY_DISC,
    artist_key,
    begins_with_number,
    genre_key,
    parse_file_name,
    parse_folder,
)
from genrecls.errors import CorpusError

#: Endings of the names of sound and video files that FFmpeg can read.
EXTENSIONS = frozenset(
    f".{ending}"
    for ending in (
        "3g2 3gp 3gpp 8svx aa3 aac ac3 adts aif aifc aiff amr ape apl asf au avi awb bwf caf "
        "divx dsf dts dtshd eac3 ec3 f4a f4v flac flv iff ism isma ismv m2a m2t m2ts m4a m4b m4p "
        "m4r m4v mac mk3d mka mkv mlp mov mp+ mp1 mp2 mp3 mp4 mpa mpc mpe mpeg mpg mpga mpp mts "
        "oga ogg ogm ogv ogx oma omg opus psp qt ra rf64 rm rmvb shn snd spx tak thd tp trp ts "
        "tta vob voc w64 wav wave weba webm wm wma wmv wv"
    ).split()
)

#: Problem of a file whose ending is not in EXTENSIONS.
NOT_SOUND = "not sound"
#: Problem of a file, link or folder that may contain music but cannot be read.
UNREADABLE = "cannot be read"
_COLUMNS = ["path", "problem", "detail"]

#: Names of splits, as folders and tables have them, and what they mean.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "validierung"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_ANY = "|".join(SPLITS)
_SPLIT = re.compile(
    rf"(?:\d+ )?({_ANY})"
    r"(?: ?(?:set|data|s?daten|split|folder|tracks|songs|music|audio|files))?(?: \d+)?"
)
# After a space only "test" marks a split: "Soul Train" is a genre, "Rock test" is not.
_SUFFIX = re.compile(
    rf"(?P<genre>.*[^ ._-])(?:[._-]+|[ _-]+(?=test)|[ ._-]*[(\[])(?P<split>{_ANY})[)\]]?",
    re.IGNORECASE,
)
_PREFIX = re.compile(rf"(?P<split>{_ANY})_+(?P<genre>.+)", re.IGNORECASE)

# Folders that systems make for themselves, with copies or deleted files in them.
_OF_SYSTEMS = {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "lost+found"}


def left_out_table(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    """Tabulate the paths that are not used: ``path``, ``problem`` and ``detail``."""
    return pd.DataFrame(rows, columns=_COLUMNS, dtype=str)


def summarize_left_out(left_out: pd.DataFrame) -> list[str]:
    """Return one line per problem, with some of its paths or endings."""
    lines = []
    for problem, rows in left_out.groupby("problem", sort=False):
        names = rows["path"].map(repr) + rows["detail"].map(lambda why: f" ({why})" if why else "")
        if problem == NOT_SOUND:
            names = pd.Series([f"{n} {ending}" for ending, n in count_endings(rows).items()])
        lines.append(f"{problem}: {list_some(names, 10 if problem == NOT_SOUND else 3)}")
    return lines


def count_endings(rows: pd.DataFrame) -> pd.Series:
    """Count the endings of paths, the most frequent first."""
    endings = [PurePath(path).suffix.lower() or "without an ending" for path in rows["path"]]
    return pd.Series(endings, dtype=str).value_counts()


def list_some(names: pd.Series, n: int = 3) -> str:
    """Join the first n names and the number of the remaining ones."""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more


def find_audio_files(folder: Path) -> tuple[list[Path], pd.DataFrame]:
    """Find the sound and video files in a folder and its subfolders.

    Links to folders are followed, but no folder is read twice.

    Parameters
    ----------
    folder : Path
        Folder to search.

    Returns
    -------
    files : list of Path
        Files with a known ending, sorted.
    left_out : pd.DataFrame
        One row for every other file, and for hidden, unreadable or repeated folders: ``path``
        (relative to the folder), ``problem`` and ``detail``.
    """
    files, left_out, _ = _walk(folder)
    return files, left_out


def _walk(root: Path) -> tuple[list[Path], pd.DataFrame, list[Path]]:
    """Return the sound files, a table of all that is left out, and all folders."""
    files, rows, folders, todo, links = [], [], [], [root], []
    # A link to a parent folder would add files from outside the corpus.
    seen = {_identity(above): ".." for above in root.resolve().parents}
    while todo or links:
        # Links come last, so that a folder is read in its own place.
        folder = todo.pop() if todo else links.pop(0)
        try:
            name = printable(folder.relative_to(root).as_posix())
            if (place := seen.setdefault(_identity(folder), name)) != name:
                rows.append((folder, "repeated folder", f"a link leads to {place!r}"))
                continue
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            rows.append((folder, UNREADABLE, error.strerror))
            continue
        folders.append(folder)
        for entry in entries:
            path = Path(entry.path)
            if problem := _find_problem(entry):
                rows.append((path, *problem))
            elif not entry.is_dir():
                files.append(path)
            else:
                (links if entry.is_symlink() else todo).append(path)
    shown = [(printable(path.relative_to(root).as_posix()), *why) for path, *why in rows]
    return sorted(files), left_out_table(sorted(shown)), sorted(folders)


def _identity(path: Path) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino


def _find_problem(entry: os.DirEntry) -> tuple[str, str] | None:
    """Return why a file or folder is not used, as problem and detail."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        require_utf8(entry.name)
        return UNREADABLE, "its name is not valid UTF-8; rename it"
    if entry.name.startswith(".") or entry.name.lower() in _OF_SYSTEMS:
        return "hidden", ""
    try:
        if entry.is_dir():
            return None
        if not entry.is_file():
            broken = entry.is_symlink() and not os.path.exists(entry.path)
            return UNREADABLE, "a broken link" if broken else "a pipe, a socket or a device"
    except OSError as error:
        return UNREADABLE, str(error.strerror)
    return None if Path(entry.name).suffix.lower() in EXTENSIONS else (NOT_SOUND, "")


def require_utf8(name: str) -> None:
    """Raise a CorpusError if the locale cannot encode a name."""
    encoding = sys.getfilesystemencoding()
    if not name.isascii() and encoding != "utf-8":
        raise CorpusError(
            f"the name {name!a} cannot be read, because the locale has the encoding {encoding}; "
            f"set the environment variable PYTHONUTF8=1, or a locale with UTF-8"
        )


def read_folders(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read genre folders; return the tracks and a table of all that is left out.

    The column ``numbered`` marks artists from names that may begin with the number of a track.
    """
    if not root.is_dir():
        raise CorpusError(f"{str(root)!r} is not a folder; name one with a folder per genre")
    files, left_out, folders = _walk(root)
    paths = [file.relative_to(root) for file in files]
    depth = 2 if _has_split_folders(root, paths) else 1
    in_genres = {find_split(path.parts[1]) for path in paths if len(path.parts) > 2} - {""}
    # A single such name, other than "test", may be that of an artist.
    splits_in_genres = depth == 1 and ("test" in in_genres or len(in_genres) > 1)
    tracks = [
        _describe_file(path, depth, splits_in_genres) for path in paths if len(path.parts) > depth
    ]
    if not tracks:
        raise CorpusError(
            f"no audio files in the folders of {str(root)!r}; put each genre in its own folder"
        )
    outside = [path for path in paths if len(path.parts) <= depth]
    rows = [(printable(path.as_posix()), "outside the genre folders", "") for path in outside]
    genres = {path.parts[:depth] for path in paths if len(path.parts) > depth}
    for folder in (folder.relative_to(root) for folder in folders):
        if len(folder.parts) == depth and folder.parts not in genres:
            rows.append((printable(folder.as_posix()), "folder without sound", ""))
    return pd.DataFrame(tracks), pd.concat([left_out, left_out_table(rows)], ignore_index=True)


def find_split(name: str) -> str:
    """Return the split that a folder is named after, or an empty string."""
    match = _SPLIT.fullmatch(genre_key(name))
    return SPLITS[match[1]] if match else ""


def _has_split_folders(root: Path, paths: list[Path]) -> bool:
    """Check whether the folders of genres are in folders of splits, such as ``train``."""
    top_folders = sorted({path.parts[0] for path in paths if len(path.parts) > 1})
    named = [top for top in top_folders if find_split(top)]
    if named and len(named) < len(top_folders):
        others = ", ".join(top for top in top_folders if top not in named)
        raise CorpusError(
            f"{str(root)!r} has folders of splits ({', '.join(named)}) beside other folders "
            f"({others}). Put the folder of each genre into the folders of the splits"
        )
    return bool(named)


def _describe_file(path: Path, depth: int, splits_in_genres: bool) -> dict[str, Any]:
    *above, name = path.parts
    split = find_split(above[0]) if depth == 2 else ""
    genre, *between = above[depth - 1 :]
    if not split and (match := _SUFFIX.fullmatch(genre) or _PREFIX.fullmatch(genre)):
        genre, split = match["genre"], find_split(match["split"])
    if splits_in_genres and between and (named := find_split(between[0])):
        split, between = named, between[1:]
    between = [folder for folder in between if not ONLY_DISC.fullmatch(folder)]
    artist, title = parse_file_name(Path(name).stem)
    artist_above, album = parse_folder(between[0]) if between else ("", "")
    return {
        "path": path.as_posix(),
        "genre": genre,
        "artist": artist_above if artist_key(artist_above) else artist,
        "album": between[1] if len(between) > 1 else album,
        "title": title,
        "split": split,
        "numbered": begins_with_number([*between, name][0]),
    }
