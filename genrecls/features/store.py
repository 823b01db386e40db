"""What is kept of the tracks of a corpus, and whether it is still whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from genrecls._utils.io import open_atomically, write_atomically
from genrecls.audio import fingerprint
from genrecls.audio.decode import Blocks, read_blocks
from genrecls.audio.fingerprint import Fingerprinter, load_fingerprint, save_fingerprint
from genrecls.config import FrontEnd
from genrecls.errors import AudioError
from genrecls.features.extraction import DTYPE, compute_log_mels

#: Raise it when the same file and front end give other log-mels, or the same tracks other tables.
VERSION = 3

# In this order on the disk: where the last one stands, the others are whole.
_TABLES = ("segments", "failures", "notes")
_LAST = "stored.parquet"

# A temporary file that nobody has written to for so long was left by a process that was killed.
_LEFT_S = 3600


def store_track(path: Path, stored: Path, print_file: Path, front_end: FrontEnd) -> str | None:
    """Store log-mels and fingerprint of a track if they are not there, or damaged.

    Parameters
    ----------
    path : Path
        The sound file.
    stored : Path
        What is kept goes to this name with ``.npy`` (log-mels) and ``.json`` (segments and notes).
    print_file : Path
        Where the fingerprint is kept.
    front_end : FrontEnd

    Returns
    -------
    str or None
        Why the track cannot be used.
    """
    if _is_whole(stored, print_file, front_end):
        return None

    def store(blocks: Blocks, file) -> tuple[pd.DataFrame, int, list[str]]:
        known = load_fingerprint(print_file) is not None
        listener = None if known else Fingerprinter(blocks.sample_rate)
        rows = _Rows(file, front_end.shape)
        table = compute_log_mels(path, blocks, front_end, rows.append, listener=listener)
        rows.finish()
        if front_end.skip_silence and table["silent"].all():
            raise AudioError(path, {"sound": "all of it is silent"}, "There is no genre to hear.")
        if listener:
            save_fingerprint(print_file, listener.finish())
        return table, rows.crc32, blocks.problems

    try:
        with open_atomically(stored.with_suffix(".npy")) as file:
            table, crc32, problems = read_blocks(path, lambda blocks: store(blocks, file))
    except AudioError as error:
        return str(error)
    notes = [f"{str(path)!r}: {problem}" for problem in problems]
    if front_end.skip_silence and (silent := int(table["silent"].sum())):
        notes.append(f"{str(path)!r}: {silent} of {len(table)} segments are silent and left out")
        table = table[~table["silent"]]
    meta = {"segments": table.to_dict("list"), "notes": notes, "crc32": crc32}
    write_atomically(stored.with_suffix(".json"), lambda f: f.write(json.dumps(meta).encode()))
    return None


def _is_whole(stored: Path, print_file: Path, front_end: FrontEnd) -> bool:
    try:
        crc32 = json.loads(stored.with_suffix(".json").read_text())["crc32"]
        log_mels = np.load(stored.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
    except Exception:  # there is no end of what damaged bytes make the two raise
        return False
    right = log_mels.dtype == DTYPE and log_mels.shape[1:] == front_end.shape
    whole = right and zlib.crc32(np.ascontiguousarray(log_mels)) == crc32
    return whole and load_fingerprint(print_file) is not None


class _Rows:
    """Rows of an ``.npy`` file whose number is not known before the last one is written."""

    def __init__(self, file, shape: tuple[int, ...]):
        self.file, self.shape, self.count, self.crc32 = file, shape, 0, 0
        # What a decoder left that has failed before this one goes.
        file.seek(0)
        file.truncate()
        self._write_header()

    def append(self, row: np.ndarray) -> None:
        data = row.tobytes()
        self.file.write(data)
        self.count, self.crc32 = self.count + 1, zlib.crc32(data, self.crc32)

    def finish(self) -> None:
        self.file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        """NumPy leaves room in a header for more rows, so that it can be written anew."""
        shape = (self.count, *self.shape)
        header = {"descr": np.dtype(DTYPE).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of processes that were killed."""
    for file in folder.glob(".*"):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished it
            if time.time() - file.stat().st_mtime > _LEFT_S:
                file.unlink()


# The tables of a corpus that has been prepared

Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def tables_folder(folder: Path, tracks: pd.DataFrame) -> Path:
    """Where the tables of a corpus are kept beside the log-mels of its tracks."""
    decides = f"{fingerprint.VERSION}\n{tracks.to_csv(index=False)}"
    name = hashlib.sha256(decides.encode(errors="surrogateescape")).hexdigest()[:16]
    return folder / f"corpus-{name}"


def read_tables(folder: Path) -> Tables | None:
    """Segments, failures and notes, if what is stored of the tracks was not touched since."""
    try:
        stored = pd.read_parquet(folder / _LAST)
        now = _states(folder.parent, stored["sha256"])
        if now != list(zip(stored["size"], stored["mtime_ns"], strict=True)):
            return None
        return tuple(pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES)
    except (OSError, ValueError, KeyError):  # not there, damaged, or just being replaced
        return None


def write_tables(folder: Path, found: Tables) -> None:
    """Keep segments, failures and notes, with the state of what is stored of the tracks."""
    folder.mkdir(exist_ok=True)
    (folder / _LAST).unlink(missing_ok=True)
    for name, table in zip(_TABLES, found, strict=True):
        write_atomically(folder / f"{name}.parquet", table.to_parquet)
    hashes = found[0]["sha256"].unique()
    stored = pd.DataFrame(_states(folder.parent, hashes), columns=["size", "mtime_ns"])
    stored.insert(0, "sha256", hashes)
    write_atomically(folder / _LAST, stored.to_parquet)


def _states(folder: Path, hashes: Sequence[str]) -> list[tuple[int, int]]:
    stats = [os.stat(folder / f"{sha256}.npy") for sha256 in hashes]
    return [(stat.st_size, stat.st_mtime_ns) for stat in stats]
