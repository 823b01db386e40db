"""Read a table of tracks, and name the first row that is wrong."""

import csv
import io
import itertools
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from genrecls.corpus.folders import find_split, require_utf8
from genrecls.corpus.names import genre_key
from genrecls.errors import CorpusError

_KNOWN = {"path", "genre", "artist", "album", "title", "split"}
# Columns that later stages add to the table.
_RESERVED = set(
    "track_id group grouped_by sha256 recording segment start_s end_s sounding "
    "run repeat fold predicted temperature track_temperature novelty".split()
)
# What programs write where a genre is missing.
_NO_GENRE = {"", "<na>", "n/a", "na", "nan", "none", "null"}
_SEPARATORS = ",;\t|"


def read_table(file: Path) -> pd.DataFrame:
    """Read and check the tracks in a CSV file in UTF-8, whose separator follows from its head."""
    name = repr(str(file))
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        advice = "name a folder with one folder per genre, or save the table as CSV in UTF-8"
        what = f"{name} is neither a folder nor a table in UTF-8"
        raise CorpusError(f"{what} ({error}); {advice}") from error
    if not text.strip():
        raise CorpusError(f"{name} is neither a folder nor a table: it is empty")
    columns, separator = _read_head(name, text)
    rows = dict(_read_rows(name, text, columns, separator))
    if not rows:
        raise CorpusError(f"{name} has no rows in its table; add a row per track")
    tracks = pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=str)
    tracks = tracks.drop(columns="", errors="ignore")
    found = tracks["path"].map(lambda path: _find_file(file.parent, path))
    here = "but there is no such file; paths are relative to the folder of the table"
    _refuse(name, tracks["path"], found.isna(), here)
    tracks["path"] = found
    again = "which an earlier row has as well; remove one of them"
    _refuse(name, tracks["path"], found.duplicated(), again)
    no_genre = tracks["genre"].map(genre_key).isin(_NO_GENRE)
    _refuse(name, tracks["genre"], no_genre, "but must name a genre")
    if "split" in tracks:
        splits = tracks["split"].map(find_split)
        known = "but must be 'train', 'validation', 'test' or empty"
        _refuse(name, tracks["split"], (splits == "") & tracks["split"].str.strip().ne(""), known)
        tracks["split"] = splits
        return tracks
    for column in sorted(set(tracks.columns) - _KNOWN):
        values = tracks[column][tracks[column].str.strip() != ""]
        if len(values) and all(map(find_split, values)):
            raise CorpusError(f"{name}: the column {column!r} has splits; name it 'split'")
    return tracks


def _refuse(name: str, values: pd.Series, wrong: pd.Series, why: str) -> None:
    """Refuse a table if rows are wrong, and name the first one."""
    if wrong.any():
        row, value = values.index[wrong][0], values[wrong].iloc[0]
        more = f" (and {wrong.sum() - 1} more rows)" if wrong.sum() > 1 else ""
        raise CorpusError(f"{name}, row {row}{more}: {values.name} is {value!r}, {why}")


def _parse(
    name: str, text: str, separator: str, *, strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of every row."""
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=strict)
    try:
        for fields in reader:
            yield reader.line_num, fields
    except csv.Error as error:
        raise CorpusError(f"{name}, row {reader.line_num}: {error}; check its quotes") from error


def _read_head(name: str, text: str) -> tuple[list[str], str]:
    """Return the names of the columns and the separator."""
    heads = {s: next(_parse(name, text, s))[1] for s in _SEPARATORS}
    columns = {s: [_column_name(field) for field in fields] for s, fields in heads.items()}
    needed = {"path", "genre"}
    separator = next((s for s in columns if needed <= set(columns[s])), ",")
    names = columns[separator]
    if missing := sorted(needed - set(names)):
        raise CorpusError(f"{name} has no column {missing} in its first row {names}; add it")
    if taken := sorted(c for c in names if c in _RESERVED or c.startswith("prob_")):
        raise CorpusError(f"{name} has columns with reserved names; rename {taken}")
    if twice := sorted({c for c in names if c and names.count(c) > 1}):
        raise CorpusError(f"{name} has several columns with the name {twice}; rename them")
    return names, separator


def _column_name(field: str) -> str:
    known = field.strip().casefold()
    return known if known in _KNOWN else field.strip()


def _read_rows(
    name: str, text: str, columns: list[str], separator: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of every row after the head that is not blank."""
    for row, fields in itertools.islice(_parse(name, text, separator, strict=True), 1, None):
        if not "".join(fields).strip():
            continue
        if "".join(fields[len(columns) :]).strip() or len(fields) < len(columns):
            raise CorpusError(
                f"{name}, row {row} has {len(fields)} fields, but the table has {len(columns)} "
                f"columns {columns}; a field with {separator!r} needs quotes around it"
            )
        # The first column without a name is the index that pandas writes.
        if nameless := [i for i, c in enumerate(columns) if i and not c and fields[i].strip()]:
            raise CorpusError(f"{name}, row 1 has no name for the column {nameless[0] + 1}; add it")
        yield row, fields[: len(columns)]


def _find_file(root: Path, path: str) -> str | None:
    """Return the path of a file in one spelling, or None if there is no such file."""
    spellings = [path, path.strip(), os.path.expanduser(path.strip()), path.replace("\\", "/")]
    spellings += [unicodedata.normalize(form, spellings[-1].strip()) for form in ("NFC", "NFD")]
    for spelling in spellings:
        for candidate in (os.path.normpath(spelling), spelling):
            if spelling and _is_file(root / candidate):
                return _shorten(Path(candidate), root).as_posix()
    return None


def _shorten(file: Path, root: Path) -> Path:
    """Return an absolute path below the root as a relative one, also if links lead there."""
    above = file.parents if file.is_absolute() else ()
    inside = next((folder for folder in above if os.path.samefile(folder, root)), None)
    return file.relative_to(inside) if inside else file


def _is_file(path: Path) -> bool:
    require_utf8(str(path))
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError:
        return True  # It is left out later, with this reason.
    except (OSError, ValueError):
        return False
