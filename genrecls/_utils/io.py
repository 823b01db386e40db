"""Files that are whole or not there, and what is known of those that have not changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from genrecls._utils.paths import project_root

# A file that has just been written may be written again within the same tick of the clock.
_SETTLED_NS = 2_000_000_000


def write_atomically(path: Path, write: Callable) -> None:
    """Call ``write(file)`` on a temporary file that takes the name ``path`` once it is whole."""
    with open_atomically(path) as file:
        write(file)


@contextlib.contextmanager
def open_atomically(path: Path):
    """A temporary file, open for writing, that takes the name ``path`` once it is whole."""
    # Not by `tempfile`: what that makes nobody else may read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def hash_file(path: Path) -> str:
    """Hash of the content of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_size(path: Path) -> int:
    """Bytes in a file; none if it is not there."""
    return path.stat().st_size if path.exists() else 0


def memoize(what: str, compute: Callable[[Path], Any], files: Sequence[Path]) -> list:
    """``compute(file)`` of every file; not computed again while its size and times do not change.

    Parameters
    ----------
    what : str
        Name of what is computed. It is kept in ``data/known-<what>.json``, where the project has
        a folder ``data/``.
    compute : callable
        A file to something that JSON can hold. Runs in threads.
    files : sequence of Path

    Returns
    -------
    list
        In the order of the files.
    """
    memo = project_root() / "data" / f"known-{what}.json"
    try:
        known = dict(json.loads(memo.read_text()))
    except (OSError, ValueError, TypeError):
        known = {}
    names = [str(file.absolute()) for file in files]
    states = {name: _state(name) for name in names}
    todo = [name for name in states if known.get(name, [None])[0] != states[name]]
    settled = time.time_ns() - _SETTLED_NS
    with ThreadPoolExecutor() as threads:
        values = dict(zip(todo, threads.map(lambda name: compute(Path(name)), todo), strict=True))
    fresh = {n: [states[n], value] for n, value in values.items() if max(states[n][1:3]) < settled}
    if fresh and memo.parent.is_dir():
        text = json.dumps(known | fresh)
        with contextlib.suppress(OSError):  # it only saves time
            write_atomically(memo, lambda file: file.write(text.encode()))
    return [values[name] if name in values else known[name][1] for name in names]


def _state(name: str) -> list[int]:
    """What changes with a file. Its content can come from elsewhere with its time of change."""
    stat = os.stat(name)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
