"""Files that appear only when they are complete."""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from genrecls.errors import AudioError


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call a function on a temporary file, which then gets the final name."""
    with open_atomically(path) as file:
        write(file)


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file, which gets the final name after the block."""
    # The module tempfile would make a file that other users cannot read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def printable(path: str | os.PathLike) -> str:
    """Return a path as valid UTF-8, in which other bytes are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def one_line(path: str | os.PathLike) -> str:
    """Return a printable path in which control characters are escaped, too."""
    return re.sub(r"[\0-\x1f\x7f-\x9f]", lambda found: ascii(found[0])[1:-1], printable(path))


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_if_readable(path: Path) -> str | None:
    """Return the hash of a file, or None if it cannot be read."""
    try:
        return hash_file(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def check_unchanged(path: Path, sha256: str | None) -> None:
    """Raise an AudioError unless a file that has been read is there and still has its hash."""
    now = hash_if_readable(path)
    if now is None or now != sha256:
        reason = "was changed while it was read" if now else "cannot be read any more"
        raise AudioError(path, {"file": reason}, "Read the corpus again.")
