"""Preparation: the log-mels of a corpus, computed in parallel and stored once per file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genrecls._utils import cache
from genrecls._utils.io import file_size
from genrecls._utils.parallel import map_parallel
from genrecls.audio.decode import open_audio
from genrecls.audio.duplicates import find_near_duplicates
from genrecls.audio.fingerprint import (
    Fingerprinter,
    fingerprint_file,
    load_fingerprint,
    read_fingerprints,
    save_fingerprint,
)
from genrecls.config import FrontEnd
from genrecls.corpus.tracks import Corpus, merge_groups
from genrecls.errors import AudioError, CorpusError
from genrecls.features.excerpts import save_excerpts
from genrecls.features.extraction import DTYPE, compute_log_mels

log = logging.getLogger(__name__)

#: Function that takes the hash of a sound file and returns an array [shape=(segments, ...)], such
#: as the log-mels of all its segments or the outputs of a frozen backbone for them.
SegmentLoader = Callable[[str], np.ndarray]

_FILE = "log_mels.npy"
_SPINE = "track_id path genre artist segment start_s end_s split".split()


@dataclass(frozen=True)
class Features:
    """The segments of a corpus and their log-mels under one front end.

    Attributes
    ----------
    front_end : FrontEnd
        Settings that the log-mels were computed with.
    segments : pd.DataFrame
        One row per segment: ``track_id, path, genre, artist, segment, start_s, end_s, split``, the
        other columns of the tracks table, and ``recording``, which is equal for tracks that share
        5 s or more of the same recording, such as a copy in another format. Their ``group`` is
        equal, too.
    failures : pd.DataFrame
        One row per track that cannot be used: ``path, reason``.
    notes : pd.DataFrame
        One row per warning about a track that can be used: ``path, note``.
    folder : Path
        Folder of the stored log-mels.
    """

    front_end: FrontEnd
    segments: pd.DataFrame
    failures: pd.DataFrame
    notes: pd.DataFrame
    folder: Path

    @property
    def uid(self) -> str:
        """Identifier of the log-mels: it changes if the same file gives other ones."""
        return f"{self.front_end.log_mel_uid}-{cache.VERSIONS['log_mels']}"

    def log_mels(self, segments: pd.DataFrame) -> np.ndarray:
        """Load the log-mels of the segments in a table.

        Parameters
        ----------
        segments : pd.DataFrame
            Rows of :attr:`segments`, in any order.

        Returns
        -------
        np.ndarray [shape=(len(segments), n_mels, frames, 1), dtype=float32] (in dB)
            Log-mels in the order of the rows.
        """
        return gather_segments(self.track, segments)

    def track(self, sha256: str) -> np.ndarray:
        """Map the stored log-mels of a track into memory.

        Parameters
        ----------
        sha256 : str
            Hash of the sound file.

        Returns
        -------
        np.ndarray [shape=(segments, n_mels, frames, 1), dtype=float16] (in dB)
            Log-mels of all segments, silent ones included.
        """
        file = self.folder / _key(self.front_end, sha256) / _FILE
        return np.load(file, mmap_mode="r", allow_pickle=False)[..., None]


def gather_segments(loader: SegmentLoader, segments: pd.DataFrame) -> np.ndarray:
    """Load the stored array of each segment in a table, such as its log-mel.

    Parameters
    ----------
    loader : callable
        Takes the hash of a sound file, returns an array [shape=(segments, ...)].
    segments : pd.DataFrame
        Segments with ``sha256`` and ``segment``.

    Returns
    -------
    np.ndarray [shape=(len(segments), ...), dtype=float32]
        Arrays in the order of the rows.
    """
    rows = segments.reset_index(drop=True)
    out = np.empty((len(rows), *loader(rows["sha256"].iloc[0]).shape[1:]), np.float32)
    for sha256, group in rows.groupby("sha256", sort=False):
        out[group.index] = loader(str(sha256))[group["segment"].to_numpy() - 1]
    return out


def stored_log_mels(front_end: FrontEnd, sha256: str) -> np.ndarray:
    """Map the log-mels of a track that has been prepared into memory.

    Parameters
    ----------
    front_end : FrontEnd
        Settings that the track was prepared with.
    sha256 : str
        Hash of the sound file.

    Returns
    -------
    np.ndarray [shape=(segments, n_mels, frames), dtype=float16] (in dB)
        Log-mels of all segments.

    Raises
    ------
    CorpusError
        If they are not stored.
    """
    file = cache.entry("log_mels", _key(front_end, sha256)) / _FILE
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise CorpusError(f"{str(file)!r} is missing; run 'genrecls prepare' first") from error


def prepare(
    corpus: Corpus,
    front_end: FrontEnd | None = None,
    *,
    jobs: int | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Features:
    """Compute and store the log-mels of a corpus, or find them stored.

    Log-mels are stored under the hash of the sound file and the front end. Renamed files are thus
    not decoded again, changed and damaged ones are, and an interrupted run continues where it
    stopped. Several processes may prepare the same corpus at the same time. The excerpts that the
    report shows are stored, too.

    Parameters
    ----------
    corpus : Corpus
        Tracks to prepare.
    front_end : FrontEnd, optional
        Settings of the log-mels; by default ``FrontEnd.preset("default")``.
    jobs : int > 0, optional
        Number of processes, of about 0.2 GB each; by default one per core, at most 8. Under
        ``joblib.parallel_config(backend="dask")`` it is all workers of the cluster, which must
        see the files and the data folder under the same paths.
    strict : bool
        Raise an error if a track cannot be used. By default such tracks are left out.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Features
        Segments and their log-mels.

    Raises
    ------
    CorpusError
        If no track of a genre can be used, or with ``strict`` if any track cannot.

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare(genrecls.Corpus.read("music"), progress=False)
    >>> features.log_mels(features.segments.head(4)).shape
    (4, 128, 323, 1)
    """
    front_end = front_end or FrontEnd.preset("default")
    folder = cache.entry("log_mels", "")
    hashes = corpus.tracks["sha256"].unique()
    stored: dict[str, Any] = {s: cache.load(folder / _key(front_end, s)) for s in hashes}
    path = _tables_entry(corpus, front_end)
    # A track that failed is not stored. It is tried again, because it may be readable now.
    if all(stored.values()) and cache.load(path) is not None:
        segments, failures, notes = (pd.read_parquet(path / f"{t}.parquet") for t in _TABLES)
    else:
        for kind in ("log_mels", "corpora"):
            cache.remove_leftovers(kind)
        _store_missing(corpus, front_end, stored, jobs=jobs, progress=progress)
        segments, failures, notes = tables = _make_tables(corpus, stored, strict=strict)
        if failures.empty:
            with cache.new(path) as (new, _):
                for name, table in zip(_TABLES, tables, strict=True):
                    table.to_parquet(new / f"{name}.parquet")
    save_excerpts(corpus, segments, jobs=jobs, progress=progress)
    return Features(front_end, segments, failures, notes, folder)


_TABLES = ("segments", "failures", "notes")


def _key(front_end: FrontEnd, sha256: str) -> str:
    return f"{front_end.log_mel_uid}-{sha256}"


def _tables_entry(corpus: Corpus, front_end: FrontEnd) -> Path:
    """Return the folder for the tables of a corpus, which depend on the versions of its data."""
    versions = [cache.VERSIONS[kind] for kind in ("fingerprints", "log_mels")]
    text = f"{versions}\n{corpus.tracks.to_csv(index=False)}"
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return cache.entry("corpora", f"{front_end.log_mel_uid}-{digest[:16]}")


def _store_missing(
    corpus: Corpus,
    front_end: FrontEnd,
    stored: dict[str, Any],
    *,
    jobs: int | None,
    progress: bool,
) -> None:
    """Store the tracks whose log-mels or fingerprint are missing, and update ``stored``."""
    files = corpus.tracks.drop_duplicates("sha256").set_index("sha256")["path"].map(corpus.file)
    missing = [not stored[s] or load_fingerprint(fingerprint_file(s)) is None for s in files.index]
    # The largest file goes first, so that no process works on it when the others have ended.
    files = files[missing].sort_values(key=lambda f: f.map(file_size), ascending=False)
    calls = [
        (file, cache.entry("log_mels", _key(front_end, s)), fingerprint_file(s), front_end)
        for s, file in files.items()
    ]
    results = map_parallel(store_track, calls, jobs=jobs, desc="log-mels", progress=progress)
    stored.update(zip(files.index, results, strict=True))


def store_track(
    file: Path, path: Path, fingerprint: Path, front_end: FrontEnd
) -> dict[str, Any] | AudioError:
    """Store the log-mels and the fingerprint of a file in one pass over it.

    Parameters
    ----------
    file : Path
        Sound file.
    path : Path
        Cache entry for the log-mels. It is computed by the caller, because the environment of
        another process may name another data folder.
    fingerprint : Path
        Place for the fingerprint, which is computed only if it is missing.
    front_end : FrontEnd
        Settings of the log-mels.

    Returns
    -------
    dict or AudioError
        Metadata of the entry (``segments``, ``notes``), or the reason why there is none.
    """
    try:
        with cache.new(path) as (folder, meta), open_audio(file) as stream:
            known = load_fingerprint(fingerprint) is not None
            fingerprinter = None if known else Fingerprinter(stream.sample_rate)
            computed = compute_log_mels(file, stream, front_end, fingerprinter=fingerprinter)
            table = pd.DataFrame(_write_rows(folder / _FILE, computed, front_end.shape))
            notes = [f"{str(file)!r}: {problem}" for problem in stream.problems]
            if front_end.skip_silence and (silent := int(table["silent"].sum())):
                if silent == len(table):
                    raise AudioError(file, {"sound": "all of it is silent"}, "Remove the file.")
                count = f"{silent} of {len(table)} segments are silent and left out"
                notes.append(f"{str(file)!r}: {count}")
                table = table[~table["silent"]]
            if fingerprinter:
                save_fingerprint(fingerprint, fingerprinter.finish())
            meta |= {"segments": table.to_dict("list"), "notes": notes}
    except AudioError as error:
        return error
    return meta


def _write_rows(
    path: Path, computed: Iterable[tuple[dict[str, Any], np.ndarray]], shape: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Write log-mels to an .npy file as they are computed; return their rows of the table."""
    rows = []
    with open(path, "wb") as file:
        # The number of rows is known at the end. NumPy leaves room for it in the header.
        for last in (False, True):
            file.seek(0)
            header = {"descr": np.dtype(DTYPE).str, "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, header | {"shape": (len(rows), *shape)})
            if last:
                return rows
            for row, log_mel in computed:
                file.write(log_mel.tobytes())
                rows.append(row)
    return rows
