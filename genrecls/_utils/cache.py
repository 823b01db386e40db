"""Results that are kept on disk: one folder per result, checked before it is used.

An entry is a folder ``<data>/<kind>-<version>/<key>/`` with files and an ``index.json``, which
has the key and a checksum of every file. The folder appears under its name only when it is
complete. An entry that is damaged, or belongs elsewhere, counts as missing: it is computed again.
"""

import contextlib
import json
import logging
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from genrecls._utils.io import write_atomically
from genrecls._utils.paths import data_dir
from genrecls.errors import GenreclsError

log = logging.getLogger(__name__)

#: Version of every kind of entry. Raise it when the same input gives another result than before.
VERSIONS = {
    "backbone_outputs": 3,
    "corpora": 6,
    "embeddings": 2,
    "cross_validation": 6,
    "file_hashes": 1,
    "fingerprints": 10,
    "log_mels": 8,
    "quality": 7,
    "tags": 1,
}

#: File with the checksums of an entry.
INDEX = "index.json"
# Folders with a damaged entry, of which the first is reported.
_damaged_folders: set[Path] = set()
# A temporary folder of this age was left by a process that was killed.
_LEFTOVER_S = 86_400
# A file that was written less than 2 s ago may change again within one tick of the clock.
_SETTLED_NS = 2_000_000_000


def entry(kind: str, key: str) -> Path:
    """Return the folder of an entry, which need not exist."""
    return data_dir() / f"{kind}-{VERSIONS[kind]}" / key


def load(path: Path) -> dict[str, Any] | None:
    """Load the metadata of an entry, or None if it is missing or damaged."""
    if not path.exists():
        return None
    if (index := _read_index(path)) is None:
        _report_damage(path)
        return None
    return index["meta"]


def _report_damage(path: Path) -> None:
    if path.parent not in _damaged_folders:
        _damaged_folders.add(path.parent)
        others = "like any other damaged result in its folder"
        log.warning("%s is damaged; it is computed again, %s", path, others)


def _read_index(path: Path) -> dict[str, Any] | None:
    """Read the index of an entry, or return None if the entry is incomplete or damaged."""
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        whole = index["key"] in (None, path.name) and isinstance(index["meta"], dict)
        whole &= all(_is_whole(path / name, *state) for name, state in index["files"].items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return index if whole else None


def _is_whole(file: Path, size: int, mtime_ns: int, crc32: int) -> bool:
    stat = file.stat()
    # The checksum is computed only where size and time do not already prove the file unchanged.
    return stat.st_size == size and (stat.st_mtime_ns == mtime_ns or _crc32(file) == crc32)


def _crc32(file: Path) -> int:
    crc32 = 0
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            crc32 = zlib.crc32(block, crc32)
    return crc32


@contextlib.contextmanager
def new(path: Path, *, replace: bool = False) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a folder and metadata to fill; they are the entry after the block.

    An intact entry of another process stays, unless it is to be replaced.
    """
    meta: dict[str, Any] = {}
    with _make_temporary(path) as temporary:
        yield temporary, meta
        copied = temporary / INDEX
        names = json.loads(copied.read_text("utf-8"))["files"] if copied.exists() else None
        files = {}
        for file in sorted(temporary.iterdir()):
            if names is not None and file.name not in names:
                continue
            stat = file.stat()
            files[file.name] = (stat.st_size, stat.st_mtime_ns, _crc32(file))
        # A run may be copied and renamed; its card has its identifier.
        index = {"key": None if replace else path.name, "meta": meta, "files": files}
        text = json.dumps(index, ensure_ascii=False)
        (temporary / INDEX).write_text(text, encoding="utf-8")
        _put_in_place(temporary, path, replace=replace)


def check_writable(path: Path) -> None:
    """Raise an error if a result cannot be written at a path."""
    with _make_temporary(path):
        pass


@contextlib.contextmanager
def _make_temporary(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside a path; an error of the block gets advice."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
    except OSError as error:
        raise GenreclsError(
            f"{str(path)!r} cannot be written ({error.strerror or error}); make room, get the "
            f"right to write there, or set GENRECLS_HOME to another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, path: Path, *, replace: bool) -> None:
    """Move a complete entry to its name, then delete the old entry."""
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        if replace or _read_index(path) is None:
            with contextlib.suppress(FileNotFoundError):
                os.replace(path, old)
        os.replace(temporary, path)
    except OSError:
        if replace or _read_index(path) is None:  # otherwise another process was faster
            raise
    finally:
        if os.path.lexists(old) and not os.path.lexists(path):
            os.replace(old, path)
        remove(old)


def copy(path: Path, new: Path) -> None:
    """Copy the files of an entry into the folder of a new one.

    Files that were added to the entry later, and may change, have no checksum there either.
    """
    for file in path.iterdir():
        if file.is_file():
            shutil.copy2(file, new)


def remove(path: Path) -> None:
    """Delete an entry, or any file or folder at its path."""
    with contextlib.suppress(OSError):  # another process may delete it at the same time
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def remove_leftovers(kind: str) -> None:
    """Delete what processes that were killed have left among the entries of a kind."""
    for folder in entry(kind, "").glob(".*"):
        with contextlib.suppress(FileNotFoundError):  # another process has just renamed it
            if time.time() - folder.stat().st_mtime > _LEFTOVER_S:
                shutil.rmtree(folder, ignore_errors=True)


def memoize(kind: str, compute: Callable[[Path], Any], files: Sequence[Path]) -> list:
    """Compute a JSON value for every file, or look it up for unchanged files.

    A file counts as unchanged while its size and times stay the same. None is not kept.
    """
    memo = entry(kind, "known.json")
    known = _read_memo(memo)
    names = [str(file.absolute()) for file in files]
    states = {name: _state(name) for name in names}
    todo = [name for name in states if known.get(name, [None])[0] != states[name]]
    settled = time.time_ns() - _SETTLED_NS
    values: dict[str, Any] = {}
    options: dict[str, Any] = {"delay": 2, "leave": False, "disable": None}  # only in a terminal
    bar = tqdm(todo, desc=kind.replace("_", " "), unit="file", **options)
    try:
        with bar, ThreadPoolExecutor() as threads:
            results = threads.map(lambda name: compute(Path(name)), todo)
            try:
                values.update(zip(bar, results, strict=True))
            finally:  # an interruption does not wait for files that have not begun
                threads.shutdown(cancel_futures=True)
    finally:  # after an error or an interruption, too
        kept = [n for n in values if values[n] is not None and states[n]]
        fresh = {n: [states[n], values[n]] for n in kept if max(states[n][1:3]) < settled}
        if fresh:
            _write_memo(memo, known | fresh)
    return [values[name] if name in values else known[name][1] for name in names]


def _read_memo(memo: Path) -> dict[str, list]:
    """Read the state and the value of every known file."""
    try:
        known = json.loads(memo.read_text(encoding="utf-8"))[memo.parent.name]
        return {name: [state, value] for name, (state, value) in known.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        _report_damage(memo)
        remove(memo)
        return {}


def _write_memo(memo: Path, known: dict[str, list]) -> None:
    text = json.dumps({memo.parent.name: known})
    with contextlib.suppress(OSError):  # the memo only saves time
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memo, lambda file: file.write(text.encode()))


def _state(name: str) -> list[int]:
    """Return what changes when a file changes; empty if it cannot be found out."""
    try:
        stat = os.stat(name)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
