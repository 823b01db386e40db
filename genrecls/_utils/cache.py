"""Results that are kept on disk: one folder per result, checked before it is used.

An entry is a folder ``<data>/<kind>-<version>/<key>/`` with files and an ``index.json``, which
has a checksum of every file. The folder appears under its name only when it is complete. A
damaged entry counts as missing, so that it is computed again.
"""

from __future__ import annotations

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

from genrecls._utils.io import write_atomically
from genrecls._utils.paths import data_dir

log = logging.getLogger(__name__)

#: Version of every kind of entry. Raise it when the same input gives another result than before.
VERSIONS = {
    "backbone_outputs": 3,
    "corpora": 5,
    "embeddings": 1,
    "cross_validation": 4,
    "excerpts": 2,
    "file_hashes": 1,
    "fingerprints": 8,
    "log_mels": 5,
    "quality": 5,
    "tags": 1,
}

_INDEX = "index.json"
# A temporary folder of this age was left by a process that was killed.
_LEFTOVER_S = 3600
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
        log.warning("%s is damaged; it is computed again", path)
        return None
    return index["meta"]


def _read_index(path: Path) -> dict[str, Any] | None:
    """Read the index of an entry, or return None if the entry is incomplete or damaged."""
    try:
        index = json.loads((path / _INDEX).read_text(encoding="utf-8"))
        whole = all(_is_whole(path / name, *state) for name, state in index["files"].items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return index if whole and isinstance(index.get("meta"), dict) else None


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
def new(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a folder and metadata to fill; they are the entry after the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.mkdir()
    meta: dict[str, Any] = {}
    try:
        yield temporary, meta
        files = {}
        for file in sorted(temporary.iterdir()):
            stat = file.stat()
            files[file.name] = (stat.st_size, stat.st_mtime_ns, _crc32(file))
        text = json.dumps({"meta": meta, "files": files}, ensure_ascii=False)
        (temporary / _INDEX).write_text(text, encoding="utf-8")
        if path.exists() and _read_index(path) is None:
            shutil.rmtree(path, ignore_errors=True)
        try:
            os.replace(temporary, path)
        except OSError:
            if _read_index(path) is None:  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    try:
        known = dict(json.loads(memo.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        known = {}
    names = [str(file.absolute()) for file in files]
    states = {name: _state(name) for name in names}
    todo = [name for name in states if known.get(name, [None])[0] != states[name]]
    settled = time.time_ns() - _SETTLED_NS
    with ThreadPoolExecutor() as threads:
        values = dict(zip(todo, threads.map(lambda name: compute(Path(name)), todo), strict=True))
    kept = [n for n in todo if values[n] is not None and states[n]]
    fresh = {n: [states[n], values[n]] for n in kept if max(states[n][1:3]) < settled}
    if fresh:
        text = json.dumps(known | fresh)
        with contextlib.suppress(OSError):  # the memo only saves time
            memo.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(memo, lambda file: file.write(text.encode()))
    return [values[name] if name in values else known[name][1] for name in names]


def _state(name: str) -> list[int]:
    """Return what changes when a file changes; empty if it cannot be found out."""
    try:
        stat = os.stat(name)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
