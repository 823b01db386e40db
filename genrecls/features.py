"""Tracks to log-mels on disk and the segments table: in parallel, resumable."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .audio import AudioError, Blocks, Resampler, mixed, read_blocks, warn_of
from .config import FrontEnd, project_root
from .corpus import Corpus, CorpusError, merged_groups
from .files import new_file, write_atomically
from .fingerprint import (
    Fingerprinter,
    find_near_duplicates,
    fingerprint_file,
    keep_fingerprint,
    kept_fingerprint,
    read_fingerprints,
)
from .parallel import ahead, in_parallel
from .spectrogram import is_silent, mel_spectrogram

log = logging.getLogger(__name__)

# Half precision is exact to 0.03 dB at -80 dB and to 0.001 dB around 0 dB.
DTYPE = np.float16

# Raise it when the same file and front end give other log-mels than before.
_VERSION = 3

# In this order on the disk: where the last one stands, the others are whole.
_TABLES = ("segments", "failures", "notes")
_LAST = "stored.parquet"


@dataclass(frozen=True)
class Features:
    """The pieces of a corpus under one front end.

    Attributes
    ----------
    front_end : FrontEnd
    segments : pd.DataFrame
        One row a piece: ``track_id, path, genre, artist, segment, start_s, end_s, split`` and the
        other columns of the tracks table, and ``recording``: equal for tracks that sound the same
        over 5 s or more, as copies in another format do. These share a ``group`` too.
    failures : pd.DataFrame
        One row a track that could not be used: ``path, reason``.
    notes : pd.DataFrame
        One row a track that was used with a warning: ``path, note``.
    folder : Path
        Where the log-mels lie, one ``.npy`` a track, named by the content of its file.
    """

    front_end: FrontEnd
    segments: pd.DataFrame
    failures: pd.DataFrame
    notes: pd.DataFrame
    folder: Path

    def log_mels(self, segments: pd.DataFrame) -> np.ndarray:
        """Log-mels of the pieces in a table.

        Returns
        -------
        np.ndarray [shape=(pieces, n_mels, frames, 1), dtype=float32] (in dB)
        """
        return gathered(self.track, segments)

    def track(self, sha256: str) -> np.ndarray:
        """Log-mels of all pieces of a track, silent ones included, from the disk.

        Returns
        -------
        np.ndarray [shape=(pieces, n_mels, frames, 1), dtype=float16] (in dB)
        """
        file = self.folder / f"{sha256}.npy"
        return np.load(file, mmap_mode="r", allow_pickle=False)[..., None]


def gathered(track: Callable[[str], np.ndarray], segments: pd.DataFrame) -> np.ndarray:
    """What is kept of each piece in a table, such as its log-mel.

    Parameters
    ----------
    track : callable
        The hash of a sound file to an array [shape=(pieces of the track, ...)].
    segments : pd.DataFrame
        With ``sha256`` and ``segment``.

    Returns
    -------
    np.ndarray [shape=(len(segments), ...), dtype=float32]
    """
    rows = segments.reset_index(drop=True)
    out = np.empty((len(rows), *track(rows["sha256"].iloc[0]).shape[1:]), np.float32)
    for sha256, of_track in rows.groupby("sha256", sort=False):
        out[of_track.index] = track(sha256)[of_track["segment"].to_numpy() - 1]
    return out


def track_log_mels(
    path: str | os.PathLike, front_end: FrontEnd, *, pad: bool = False
) -> tuple[np.ndarray, pd.DataFrame]:
    """Log-mels of the pieces of one file.

    Parameters
    ----------
    path : str or path-like
    front_end : FrontEnd
    pad : bool
        Complete the last piece with silence instead of dropping it.

    Returns
    -------
    log_mels : np.ndarray [shape=(pieces, n_mels, frames), dtype=float16] (in dB)
        In the precision in which they are stored, so that a model is always given what it was
        trained on.
    table : pd.DataFrame
        ``segment, start_s, end_s`` as of :func:`genrecls.split_segments`, and ``silent``.

    Raises
    ------
    AudioError
        If the file cannot be decoded or is shorter than one piece.
    """
    log_mels, table, problems = hear(path, front_end, pad=pad)
    warn_of(path, problems)
    return log_mels, table


def hear(
    path: str | os.PathLike, front_end: FrontEnd, *, pad: bool = False
) -> tuple[np.ndarray, pd.DataFrame, list[str]]:
    """:func:`track_log_mels`, and what is to be warned of."""

    def collect(blocks: Blocks):
        blocks.source = ahead(blocks.source)
        log_mels: list[np.ndarray] = []
        table = _to_log_mels(path, blocks, front_end, log_mels.append, pad=pad)
        return np.stack(log_mels), table, blocks.problems

    return read_blocks(path, collect)


def _to_log_mels(
    path,
    blocks: Blocks,
    front_end: FrontEnd,
    keep: Callable[[np.ndarray], object],
    *,
    pad: bool = False,
    listener: Fingerprinter | None = None,
) -> pd.DataFrame:
    """Give the log-mel of every piece to ``keep``, and every block to ``listener``.

    No more than a block and a piece is held at a time. Returns the table of the pieces.
    """
    rate, length = front_end.sample_rate, front_end.segment_samples
    rows = []
    for start, y in _cut(_sound(blocks, front_end, listener), length):
        n = len(y)
        if n < length and not (pad and n):
            break
        if n < length:
            y = np.pad(y, (0, length - n))
        log_mel = mel_spectrogram(y, front_end).astype(DTYPE)
        keep(log_mel)
        silent = bool(is_silent(log_mel, front_end))
        rows.append((len(rows) + 1, start / rate, (start + n) / rate, silent))
    if not rows:
        short = f"{n / rate:.7g} s of sound is shorter than one piece of"
        reasons = {"length": f"{short} {front_end.segment_s:g} s"}
        raise AudioError(path, reasons, "Use a longer recording.")
    return pd.DataFrame(rows, columns=["segment", "start_s", "end_s", "silent"])


def _sound(
    blocks: Blocks, front_end: FrontEnd, listener: Fingerprinter | None
) -> Iterator[np.ndarray]:
    """One channel at the rate of the front end, in stretches [shape=(n,)] of any length."""
    resampler = Resampler(blocks.sample_rate, front_end.sample_rate)
    for block in blocks:
        mix = mixed(block)
        if listener:
            listener.push(mix)
        yield resampler.push(mix if front_end.channel == "mix" else block[:, 0])
    yield resampler.push(np.empty(0, np.float32), last=True)


def _cut(sound: Iterator[np.ndarray], length: int) -> Iterator[tuple[int, np.ndarray]]:
    """Pieces of so many samples and where they start; at last what is left, which may be empty."""
    parts, held, start = [np.empty(0, np.float32)], 0, 0
    for y in sound:
        parts.append(y)
        held += len(y)
        if held >= length:
            y = np.concatenate(parts)
            for first in range(0, held - length + 1, length):
                yield start + first, y[first : first + length]
            start, held = start + held - held % length, held % length
            parts = [y[len(y) - held :]]
    yield start, np.concatenate(parts)


def prepare(
    corpus: Corpus,
    front_end: FrontEnd | None = None,
    *,
    jobs: int | None = None,
    out: str | os.PathLike | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Features:
    """Turn every track of a corpus into log-mels, or find them already made.

    What is stored is named by the content of the audio file and the front end: renamed files are
    not done again, changed ones are, and an interrupted run goes on where it stopped. Several
    processes may prepare the same corpus at the same time. What has been damaged on the disk is
    found by its checksum and made again.

    Parameters
    ----------
    corpus : Corpus
    front_end : FrontEnd, optional
        By default ``FrontEnd.preset("default")``.
    jobs : int > 0, optional
        Processes, of about 0.2 GB each whatever the length of a file; by default one per core, 8
        at most. Under ``joblib.parallel_config(backend="dask")`` by default all workers of the
        cluster, which must see the files and ``out`` under the same paths.
    out : path-like, optional
        Where to store; by default ``data/features/<uid of the log-mels>-<version>`` in the project.
    strict : bool
        Fail at tracks that cannot be used instead of leaving them out.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Features

    Raises
    ------
    CorpusError
        If no track of some genre can be used, or with ``strict`` if any track cannot. Otherwise
        single bad files only end up in ``failures``.
    """
    front_end = front_end or FrontEnd.preset("default")
    name = f"{front_end.log_mel_uid}-{_VERSION}"
    folder = Path(out or project_root() / "data" / "features" / name)
    folder.mkdir(parents=True, exist_ok=True)
    tables = folder / f"corpus-{_content(corpus.tracks)}"
    if (found := _read_tables(tables)) is None:
        found = _prepare(corpus, front_end, folder, jobs=jobs, progress=progress)
        _write_tables(tables, found, folder)
    segments, failures, notes = found
    for failure in failures.itertuples():
        log.warning("left out: %s", failure.reason)
    if strict and len(failures):
        raise CorpusError(
            f"{len(failures)} tracks cannot be used:\n" + "\n".join(failures["reason"])
        )
    return Features(front_end, segments, failures, notes, folder)


_Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def _prepare(
    corpus: Corpus, front_end: FrontEnd, folder: Path, *, jobs: int | None, progress: bool
) -> _Tables:
    """Store what is missing or damaged; returns segments, failures and notes."""
    tracks = corpus.tracks
    todo = tracks.loc[[not _is_whole(folder, s) for s in tracks["sha256"]]]
    calls = [
        (corpus.file(t.path), folder / t.sha256, fingerprint_file(t.sha256), front_end)
        for t in todo.drop_duplicates("sha256").itertuples()
    ]
    done = in_parallel(_store_track, calls, jobs=jobs, desc="log-mels", progress=progress)
    failed = {sha256: reason for sha256, reason in done if reason}
    usable = tracks.loc[~tracks["sha256"].isin(list(failed))]
    failures = pd.DataFrame(
        [(t.path, failed[t.sha256]) for t in tracks.itertuples() if t.sha256 in failed],
        columns=["path", "reason"],
    )
    for genre in sorted(set(corpus.genres) - set(usable["genre"])):
        reason = failed[tracks.loc[tracks["genre"] == genre, "sha256"].iloc[0]]
        raise CorpusError(f"no track of genre {genre!r} can be used; the first one: {reason}")

    stored = {s: json.loads((folder / f"{s}.json").read_text()) for s in usable["sha256"]}
    notes = pd.DataFrame(
        [(t.path, note) for t in usable.itertuples() for note in stored[t.sha256]["notes"]],
        columns=["path", "note"],
    )
    usable, alike = _with_recordings(usable)
    notes = pd.concat([notes, alike], ignore_index=True)
    pieces = pd.concat(
        [pd.DataFrame(stored[t.sha256]["pieces"]).assign(track_id=t.track_id)
         for t in usable.itertuples()],
        ignore_index=True,
    )  # fmt: skip
    merged = pieces.merge(usable, on="track_id", validate="many_to_one")
    spine = "track_id path genre artist segment start_s end_s split".split()
    return merged[spine + [c for c in merged if c not in spine]], failures, notes


def _with_recordings(tracks: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tracks with ``recording``, groups that hold recordings together, and a note on each pair."""
    pairs = find_near_duplicates(read_fingerprints(tracks["sha256"]))
    paths, ids = tracks["path"].to_numpy(), tracks["track_id"].to_numpy()
    edges = pd.DataFrame({"recording": [*ids, *ids[pairs["a"]]], "with": [*ids, *ids[pairs["b"]]]})
    recording = merged_groups(edges["recording"], edges["with"])[: len(tracks)]
    tracks = tracks.assign(recording=recording)
    tracks["group"] = merged_groups(tracks["group"], tracks["recording"])
    notes = [
        (paths[p.b], f"{paths[p.b]!r} and {paths[p.a]!r} have {p.overlap_s:.0f} s in common")
        for p in pairs.itertuples()
    ]
    return tracks, pd.DataFrame(notes, columns=["path", "note"])


# The tables of a corpus that has been prepared


def _content(tracks: pd.DataFrame) -> str:
    """Name of the tables of a corpus: a hash of its tracks."""
    return hashlib.sha256(tracks.to_csv(index=False).encode()).hexdigest()[:16]


def _state(folder: Path, hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Size and time of the log-mels of some tracks; zeros where there are none."""
    states = []
    for sha256 in hashes:
        try:
            stat = os.stat(folder / f"{sha256}.npy")
            states.append((stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            states.append((0, 0))
    return states


def _read_tables(folder: Path) -> _Tables | None:
    """The tables of a corpus, if what is stored of its tracks has not been touched since."""
    if not (folder / _LAST).exists():
        return None
    stored = pd.read_parquet(folder / _LAST)
    now = _state(folder.parent, stored["sha256"])
    if now != list(zip(stored["size"], stored["mtime_ns"], strict=True)):
        return None
    return tuple(pd.read_parquet(folder / f"{name}.parquet") for name in _TABLES)


def _write_tables(folder: Path, found: _Tables, stored_in: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / _LAST).unlink(missing_ok=True)
    for name, table in zip(_TABLES, found, strict=True):
        write_atomically(folder / f"{name}.parquet", table.to_parquet)
    hashes = found[0]["sha256"].unique()
    stored = pd.DataFrame(_state(stored_in, hashes), columns=["size", "mtime_ns"])
    stored.insert(0, "sha256", hashes)
    write_atomically(folder / _LAST, stored.to_parquet)


# One track


def _is_whole(folder: Path, sha256: str) -> bool:
    """Whether log-mels and fingerprint of a track are stored, and the log-mels undamaged."""
    try:
        meta = json.loads((folder / f"{sha256}.json").read_text())
        log_mels = np.load(folder / f"{sha256}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    whole = zlib.crc32(np.ascontiguousarray(log_mels)) == meta.get("crc32")
    return whole and kept_fingerprint(fingerprint_file(sha256)) is not None


def _store_track(path: Path, stored: Path, print_file: Path, front_end: FrontEnd):
    """Compute and store one track; returns its hash and, if it failed, the reason."""
    sha256 = stored.name

    def store(blocks: Blocks, file) -> tuple[pd.DataFrame, int, list[str]]:
        # From the start, where a decoder has failed before this one.
        file.seek(0)
        file.truncate()
        known = kept_fingerprint(print_file) is not None
        listener = None if known else Fingerprinter(blocks.sample_rate)
        with _npy_rows(file, front_end.shape) as rows:
            table = _to_log_mels(path, blocks, front_end, rows.append, listener=listener)
        if listener:
            keep_fingerprint(print_file, listener.finish())
        return table, rows.crc32, blocks.problems

    try:
        with new_file(stored.with_suffix(".npy")) as file:
            table, crc32, problems = read_blocks(path, lambda blocks: store(blocks, file))
    except AudioError as error:
        return sha256, str(error)
    notes = [f"{str(path)!r}: {problem}" for problem in problems]
    if front_end.skip_silence:
        if table["silent"].all():
            return sha256, f"{str(path)!r} cannot be used: all of it is silent"
        if silent := int(table["silent"].sum()):
            notes.append(f"{str(path)!r}: {silent} of {len(table)} pieces are silent and left out")
            table = table[~table["silent"]]
    meta = {"pieces": table.to_dict("list"), "notes": notes, "crc32": crc32}
    write_atomically(stored.with_suffix(".json"), lambda f: f.write(json.dumps(meta).encode()))
    return sha256, None


class _Rows:
    """Rows of an ``.npy`` file whose number is not known before the last one is written."""

    def __init__(self, file, shape: tuple[int, ...]):
        self.file, self.shape, self.count, self.crc32 = file, shape, 0, 0

    def append(self, row: np.ndarray) -> None:
        data = row.tobytes()
        self.file.write(data)
        self.count, self.crc32 = self.count + 1, zlib.crc32(data, self.crc32)

    def write_header(self) -> None:
        """NumPy leaves room in a header for more rows, so that it can be written anew."""
        shape = (self.count, *self.shape)
        header = {"descr": np.dtype(DTYPE).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)


@contextmanager
def _npy_rows(file, shape: tuple[int, ...]):
    rows = _Rows(file, shape)
    rows.write_header()
    yield rows
    file.seek(0)
    rows.write_header()
