"""Tracks to log-mels on disk and the segments table: in parallel, resumable."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from genrecls._utils.io import file_size
from genrecls._utils.parallel import map_parallel
from genrecls._utils.paths import project_root
from genrecls.audio.duplicates import find_near_duplicates
from genrecls.audio.fingerprint import fingerprint_file, read_fingerprints
from genrecls.config import FrontEnd
from genrecls.corpus.tracks import Corpus, merge_groups
from genrecls.errors import CorpusError
from genrecls.features.store import (
    VERSION,
    Tables,
    read_tables,
    remove_leftovers,
    store_track,
    tables_folder,
    write_tables,
)

log = logging.getLogger(__name__)

#: Log-mels, or what a part of a net makes of them, of all segments of a track [shape=(segments, ...)],
#: by the hash of its file.
SegmentLoader = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Features:
    """The segments of a corpus under one front end.

    Attributes
    ----------
    front_end : FrontEnd
    segments : pd.DataFrame
        One row a segment: ``track_id, path, genre, artist, segment, start_s, end_s, split`` and the
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
        """Log-mels of the segments in a table.

        Returns
        -------
        np.ndarray [shape=(segments, n_mels, frames, 1), dtype=float32] (in dB)
        """
        return gather_segments(self.track, segments)

    def track(self, sha256: str) -> np.ndarray:
        """Log-mels of all segments of a track, silent ones included, from the disk.

        Returns
        -------
        np.ndarray [shape=(segments, n_mels, frames, 1), dtype=float16] (in dB)
        """
        file = self.folder / f"{sha256}.npy"
        return np.load(file, mmap_mode="r", allow_pickle=False)[..., None]


def gather_segments(track: SegmentLoader, segments: pd.DataFrame) -> np.ndarray:
    """What is kept of each segment in a table, such as its log-mel.

    Parameters
    ----------
    track : callable
        The hash of a sound file to an array [shape=(segments of the track, ...)].
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
    processes may prepare the same corpus at the same time. Where size or time of what is stored
    have changed, its checksum tells whether it is made again.

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
        Where to store, in a folder a front end; by default ``data/features`` in the project.
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

    Examples
    --------
    >>> import genrecls
    >>> features = genrecls.prepare(genrecls.Corpus.read("music"), progress=False)
    >>> features.log_mels(features.segments.head(4)).shape
    (4, 128, 323, 1)
    """
    front_end = front_end or FrontEnd.preset("default")
    folder = _folder(front_end, out)
    folder.mkdir(parents=True, exist_ok=True)
    tables = tables_folder(folder, corpus.tracks)
    found = read_tables(tables)
    # What failed may be put right in a way that does not show in the table: a permission.
    if found and len(found[1]) == 0:
        return Features(front_end, *found, folder)
    remove_leftovers(folder)
    found = _prepare(corpus, front_end, folder, jobs=jobs, strict=strict, progress=progress)
    write_tables(tables, found)
    return Features(front_end, *found, folder)


def stored_log_mels(front_end: FrontEnd, sha256: str) -> np.ndarray:
    """Log-mels of all segments of a track that has been prepared, by the hash of its file.

    Returns
    -------
    np.ndarray [shape=(segments, n_mels, frames), dtype=float16] (in dB)

    Raises
    ------
    CorpusError
        If they are not in ``data/features``.
    """
    file = _folder(front_end) / f"{sha256}.npy"
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise CorpusError(f"{str(file)!r} is missing; run 'genrecls prepare' first") from error


def _folder(front_end: FrontEnd, out: str | os.PathLike | None = None) -> Path:
    return Path(out or project_root() / "data" / "features") / f"{front_end.log_mel_uid}-{VERSION}"


def _prepare(
    corpus: Corpus,
    front_end: FrontEnd,
    folder: Path,
    *,
    jobs: int | None,
    strict: bool,
    progress: bool,
) -> Tables:
    """Store what is missing or damaged; returns segments, failures and notes."""
    tracks = corpus.tracks
    files = tracks.drop_duplicates("sha256").set_index("sha256")["path"].map(corpus.file)
    # The largest first, or one process may still be at it when the others have ended.
    files = files.sort_values(key=lambda f: f.map(file_size), ascending=False, kind="stable")
    calls = [(file, folder / s, fingerprint_file(s), front_end) for s, file in files.items()]
    done = map_parallel(store_track, calls, jobs=jobs, desc="log-mels", progress=progress)
    failed = {sha256: why for sha256, why in zip(files.index, done, strict=True) if why}
    usable = tracks.loc[~tracks["sha256"].isin(list(failed))]
    failures = pd.DataFrame(
        [(t.path, failed[t.sha256]) for t in tracks.itertuples() if t.sha256 in failed],
        columns=["path", "reason"],
    )
    if strict and len(failures):
        reasons = "\n".join(failures["reason"])
        raise CorpusError(f"{len(failures)} of {len(tracks)} tracks cannot be used:\n{reasons}")
    for reason in failures["reason"]:
        log.warning("left out: %s", reason)
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
    of_tracks = [stored[sha256]["segments"] for sha256 in usable["sha256"]]
    segments = pd.DataFrame(
        {column: [*chain.from_iterable(segments[column] for segments in of_tracks)]
         for column in of_tracks[0]}
    )  # fmt: skip
    counts = [len(segments["segment"]) for segments in of_tracks]
    segments["track_id"] = usable["track_id"].repeat(counts).to_numpy()
    merged = segments.merge(usable, on="track_id", validate="many_to_one")
    spine = "track_id path genre artist segment start_s end_s split".split()
    return merged[spine + [c for c in merged if c not in spine]], failures, notes


def _with_recordings(tracks: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tracks with ``recording``, groups that hold recordings together, and a note on each pair."""
    pairs = find_near_duplicates(read_fingerprints(tracks["sha256"]))
    paths, ids = tracks["path"].to_numpy(), tracks["track_id"].to_numpy()
    edges = pd.DataFrame({"recording": [*ids, *ids[pairs["a"]]], "with": [*ids, *ids[pairs["b"]]]})
    recording = merge_groups(edges["recording"], edges["with"])[: len(tracks)]
    tracks = tracks.assign(recording=recording)
    tracks["group"] = merge_groups(tracks["group"], tracks["recording"])
    notes = [
        (paths[p.b], f"{paths[p.b]!r} and {paths[p.a]!r} have {p.overlap_s:.0f} s in common")
        for p in pairs.itertuples()
    ]
    return tracks, pd.DataFrame(notes, columns=["path", "note"])
